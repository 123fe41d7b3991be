"""Letters posted to an address as JSON, one request each, signed where there is a secret."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qsl, quote, urlsplit

from streamfaas import __version__
from streamfaas.flow.errors import Busy, Refused, TooLarge, Unreachable
from streamfaas.flow.letters import HOPS_HEADER, ID_HEADER, Letter, Payload
from streamfaas.wire.http import Answer, Client, shown
from streamfaas.wire.webhooks import signed_headers, signing_key

RETRY_AFTER_SECONDS_MAX = 300.0
"""How long a `Retry-After` is obeyed at most."""

RESERVED_HEADERS = frozenset({HOPS_HEADER, ID_HEADER, "content-length", "host"})
"""Names that nobody may set, nor any that begins with `webhook-`."""

BUSY = frozenset({429, 503})

SECRET_CHARACTERS_MIN = 6
"""What is shorter is no secret, and stands in many a sentence."""


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """One address. `timeout_seconds` bounds one request, `secret` (`whsec_<base64>`) signs each
    as Standard Webhooks has it, `ca` are authorities to trust instead of the system's."""

    url: str = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    timeout_seconds: float = 30.0
    secret: str | None = field(default=None, repr=False)
    ca: Path | None = None

    def __post_init__(self) -> None:
        assert self.url.startswith(("http://", "https://"))
        assert urlsplit(self.url).hostname
        assert self.timeout_seconds > 0
        names = {name.lower() for name, _ in self.headers}
        assert not names & RESERVED_HEADERS
        assert not any(name.startswith("webhook-") for name in names)


class Http:
    """A destination of type `http`.

    Delivery: each letter was answered with a 2xx; a letter that is sent again has the same
    `streamfaas-id`. Errors: `Unreachable` (no answer in time, 5xx), `Busy` (429, 503: nothing is
    sent for as long as `Retry-After` says, five minutes at most), `Refused` (any other answer;
    redirects are not followed). Permissions needed: whatever the headers give.
    """

    kind: ClassVar[str] = "http"
    per_record: ClassVar[bool] = False
    notes: ClassVar[bool] = False
    payload: Payload = "json"

    def __init__(
        self,
        options: HttpOptions,
        *,
        wall: Callable[[], float] = time.time,  # noqa: TID251 - signatures are dated
    ) -> None:
        self.name = shown(options.url)
        self._options = options
        self._wall = wall
        self._key = None if options.secret is None else signing_key(options.secret)
        self._headers = {
            "accept-encoding": "identity",
            "content-type": "application/json",
            "user-agent": f"streamfaas/{__version__}",
            **{name.lower(): value for name, value in options.headers},
        }
        self._client: Client | None = None
        self._busy_until = 0.0

    async def open(self) -> None:
        """Makes ready; the first connection is made by the first letter."""
        self._opened()

    async def send(self, letters: Sequence[Letter]) -> None:
        client = self._opened()
        for letter in letters:
            self._wait_if_told_to()
            answer = await client.post(
                self._options.url,
                letter.document,
                self._headers_of(letter),
                timeout=self._options.timeout_seconds,
            )
            self._judge(answer)

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def _opened(self) -> Client:
        if self._client is None:
            options = self._options
            self._client = Client(authorities=options.ca, secrets=_secrets(options))
        return self._client

    def _headers_of(self, letter: Letter) -> dict[str, str]:
        headers = {
            **self._headers,
            HOPS_HEADER: str(letter.hops),
            ID_HEADER: letter.id,
            # a header is plain text: the rest is written as in an address
            **{name.lower(): quote(value, safe=_PLAIN) for name, _, value in letter.attributes},
        }
        if self._key is not None:
            headers |= signed_headers(self._key, letter.id, self._wall(), letter.document)
        return headers

    def _judge(self, answer: Answer) -> None:
        status = answer.status
        if 200 <= status < 300:
            return
        told = f"{self.name} answers {status} {answer.reason}".rstrip()
        told += f": {answer.told}" if answer.told else ""
        if 300 <= status < 400 and answer.location:
            told += f" (it names {shown(answer.location)}; redirects are not followed)"
        if status in BUSY:
            self._be_told_to_wait(answer.retry_after)
            raise Busy(told)
        if status >= 500:
            raise Unreachable(told)
        raise (TooLarge if answer.status == 413 else Refused)(told)

    # -- asked for less

    def _wait_if_told_to(self) -> None:
        left = self._busy_until - asyncio.get_running_loop().time()
        if left > 0:
            raise Busy(f"{self.name} wants nothing for another {left:.0f} s")

    def _be_told_to_wait(self, retry_after: str | None) -> None:
        seconds = min(_seconds(retry_after, self._wall()), RETRY_AFTER_SECONDS_MAX)
        self._busy_until = asyncio.get_running_loop().time() + seconds


def _secrets(options: HttpOptions) -> list[str]:
    """What an answer might show of what it was sent."""
    parts = urlsplit(options.url)
    told = [options.secret or "", parts.password or "", *(v for _, v in parse_qsl(parts.query))]
    words = [word for _, value in options.headers for word in value.split()]
    return [secret for secret in (*told, *words) if len(secret) >= SECRET_CHARACTERS_MIN]


_PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


def _seconds(retry_after: str | None, now: float) -> float:
    """Of a `Retry-After`: a number of seconds, or a date. What is neither says nothing."""
    text = (retry_after or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError):
        return 0.0
