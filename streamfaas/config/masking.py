"""What looks like a secret in a text that is not said to be one."""

from __future__ import annotations

import re

from streamfaas.config.document import MASK

_SECRET_NAME = re.compile(
    "(PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|API_?KEY|ACCESS_KEY|PRIVATE_KEY)$", re.IGNORECASE
)
_LOGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s:@]*:[^/\s@]+@", re.IGNORECASE)
_MAYBE_LOGIN = re.compile(r"://.*@|^[a-z0-9._-]+:[^\s\"]*@[^\s\"]+$", re.IGNORECASE | re.DOTALL)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:/+", re.IGNORECASE)


def looks_secret(name: str, value: object) -> bool:
    """Whether a function's variable looks like a secret, by its name or by what it holds."""
    return bool(_SECRET_NAME.search(name) or _LOGIN.match(str(value)))


def may_hold_login(text: str) -> bool:
    """Whether there may be a login in an address, however badly that is written."""
    return _MAYBE_LOGIN.search(text) is not None


def without_login(text: str) -> str:
    """An address without the login that may be in it: what stands before its last @."""
    if not may_hold_login(text):
        return text
    scheme = _SCHEME.match(text)
    return f"{scheme[0] if scheme else ''}{MASK}@{text.rpartition('@')[2]}"
