"""Whether certificates and keys are what they are given as."""

from __future__ import annotations

from pathlib import Path


def no_authority(file: Path) -> str:
    """Why no server can be judged by a file, or nothing."""
    import ssl

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=file)
    except (OSError, ValueError):  # ssl's own errors are among them
        return "holds no certificate in PEM"
    return ""


def misfit(certificate: Path, key: Path, password: str) -> str:
    """Why we cannot say who we are by a certificate and its key, or nothing."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        # by a function: without one OpenSSL would ask on the terminal
        context.load_cert_chain(certificate, key, password=lambda: password)
    except ssl.SSLError as cause:
        if cause.reason == "KEY_VALUES_MISMATCH":
            return f"it is not the key of {certificate}"
        locked = "the password does not open it" if password else "it wants a password"
        return f"{locked}, or it or {certificate} is not PEM"
    except (OSError, ValueError):
        return f"it or {certificate} cannot be read"
    return ""
