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
    wanted = _digest(secret)
    return any(hmac.compare_digest(_digest(each), wanted) for each in _said(head))


def _said(head: Head) -> Iterator[str]:
    scheme, _, said = head.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        yield said.strip()
    elif scheme.lower() == "basic":
        with contextlib.suppress(binascii.Error, UnicodeDecodeError):
            yield from b64decode(said.strip(), validate=True).decode().split(":", 1)
    try:
        yield from parse_qs(head.query, max_num_fields=8).get("token", [])
    except ValueError:  # more fields than anybody has a reason for
        return


def _digest(text: str) -> bytes:
    return sha256(text.encode("utf-8", "surrogatepass")).digest()
