"""Where outcomes go. One file a kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

KINDS: Mapping[str, str] = {"file": "streamfaas.destinations.file:File"}


@dataclass(frozen=True, slots=True)
class Letter:
    """What is sent: a document of Lambda's on-failure form, ready as JSON, with an id that is the
    same for the same batch however often it is sent."""

    id: str
    document: bytes


class Destination(Protocol):
    """One protocol to write to. `send` returns only when the other side has it for good; a
    `WorldError` means that it is to be tried again."""

    kind: ClassVar[str]

    async def open(self) -> None: ...
    async def send(self, letter: Letter) -> None: ...
    async def close(self) -> None: ...
