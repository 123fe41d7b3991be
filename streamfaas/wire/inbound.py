"""What is posted to us over HTTP: who may post, and what is answered."""

from __future__ import annotations

import binascii
import contextlib
import hmac
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple, Protocol
from urllib.parse import parse_qs

HERE = "notifications are posted here"
"""What who only looks is told."""


@dataclass(frozen=True, slots=True)
class Head:
    """How somebody asks. Names of headers are in small letters. Never shown: there may be a secret
    in it."""

    method: str
    query: str
    headers: Mapping[str, str]


class Answer(NamedTuple):
    """A status, and a line for people. `again`: after how many seconds another try may help."""

    status: int
    told: str = ""
    again: int | None = None
    allow: str = ""


class Desk(Protocol):
    """Takes what is posted to one path."""

    def admit(self, head: Head) -> Answer | int:
        """Before a body is read: a refusal, or how many bytes of it may follow."""

    async def take(self, head: Head, body: bytes) -> Answer: ...


class Desks(Protocol):
    """The addresses where we listen."""

    def place(self, address: str, path: str, desk: Desk) -> Callable[[], None]:
        """Gives what is posted there to a desk, until what this returns is called."""


def authorised(head: Head, secret: str) -> bool:
    """Whether who asks knows the secret: as a bearer, as the user or the password of an address
    (`http://secret@host/…`), or, for those who can give nothing but an address, as its `token`. Of
    how much of it was right, the time that this takes says nothing."""
    wanted = sha256(secret.encode()).digest()
    return any(hmac.compare_digest(sha256(said).digest(), wanted) for said in _said(head))


def _said(head: Head) -> Iterator[bytes]:
    # h11 gives the bytes of a header as latin-1, whatever text they are
    raw = head.headers.get("authorization", "").encode("latin-1", "replace")
    scheme, _, said = raw.partition(b" ")
    if scheme.lower() == b"bearer":
        yield said.strip()
    elif scheme.lower() == b"basic":
        with contextlib.suppress(binascii.Error):
            yield from b64decode(said.strip(), validate=True).split(b":", 1)
    try:
        tokens = parse_qs(head.query, max_num_fields=8).get("token", [])
    except ValueError:  # more fields than anybody has a reason for
        return
    yield from (token.encode("utf-8", "replace") for token in tokens)
