"""Documents posted over HTTP; what is answered, and what may go wrong, in our words."""

from __future__ import annotations

import io
import re
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import aiohttp

from streamfaas.flow.errors import Refused, Unreachable, WorldError

SHOWN_BYTES = 1024
"""As much of an answer is read where it may say what is wrong."""

SHOWN_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Answer:
    """What the other side says. `told` is the first line of a body that is no success, without
    what is secret."""

    status: int
    reason: str
    retry_after: str | None
    location: str | None
    told: str


class Client:
    """One session: connections are kept and used again. `secrets` are never shown."""

    def __init__(self, *, authorities: Path | None = None, secrets: Iterable[str] = ()) -> None:
        self._secrets = sorted(filter(None, secrets), key=len, reverse=True)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=security(authorities)),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], *, timeout: float
    ) -> Answer:
        """One try within `timeout` seconds; redirects are not followed. `Unreachable` where there
        is no answer, `Refused` where another try would not help."""
        limit = aiohttp.ClientTimeout(total=timeout)
        try:
            async with self._session.post(
                url, data=io.BytesIO(body), headers=headers, timeout=limit, allow_redirects=False
            ) as response:
                success = 200 <= response.status < 300
                said = b"" if success else await response.content.read(SHOWN_BYTES)
                return Answer(
                    response.status,
                    response.reason or "",
                    response.headers.get("retry-after"),
                    response.headers.get("location"),
                    self._line(said),
                )
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise _translated(error, shown(url), timeout) from error

    async def close(self) -> None:
        await self._session.close()

    def _line(self, said: bytes) -> str:
        """The first line of a body, in printable characters, cut."""
        lines = said.decode(errors="replace").strip().splitlines() or [""]
        line = "".join(c if c.isprintable() else " " for c in lines[0])
        for secret in self._secrets:
            line = line.replace(secret, "***")
        return line[:SHOWN_CHARACTERS]


def shown(url: str) -> str:
    """An address without what may be secret in it."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that cannot be read"
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", "")) + ("?…" if parts.query else "")


def security(authorities: Path | None) -> ssl.SSLContext | bool:
    """Whose certificates are trusted: those of a PEM file, or of the public authorities."""
    if authorities is None:
        return True
    try:
        return ssl.create_default_context(cafile=authorities)
    except (OSError, ValueError) as error:
        raise Refused(f"cannot use the authorities in {authorities}: {error}") from error


def _translated(error: Exception, where: str, timeout: float) -> WorldError:
    match error:
        case TimeoutError():
            return Unreachable(f"{where} did not answer within {timeout:g} s")
        case aiohttp.ClientConnectorCertificateError():
            why = getattr(error.certificate_error, "verify_message", "") or "another name"
            return Refused(f"{where}: its certificate is not trusted ({why})")
        case aiohttp.ClientConnectorSSLError():
            return Refused(f"{where}: no TLS with it ({error.os_error.strerror or 'no handshake'})")
        case aiohttp.ClientConnectorDNSError():
            return Unreachable(f"cannot reach {where} (its name cannot be resolved)")
        case aiohttp.ClientConnectorError():
            told = error.os_error.strerror or str(error.os_error) or "no connection"
            return Unreachable(f"cannot reach {where} ({_plain(told)})")
        case aiohttp.ServerDisconnectedError():
            return Unreachable(f"{where} closed the connection without an answer")
        case aiohttp.InvalidURL():
            return Refused(f"{where} is no address that can be posted to")
        case ValueError():
            return Refused(f"{where} cannot be posted to ({_plain(str(error))})")
        case aiohttp.ClientResponseError():
            return Unreachable(f"{where} does not speak HTTP")
    return Unreachable(f"cannot reach {where} ({_plain(str(error))})")


def _plain(text: str) -> str:
    line = re.sub(r"\s+", " ", text).strip()
    return (line[:1].lower() + line[1:])[:SHOWN_CHARACTERS]
