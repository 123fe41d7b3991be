"""Where outcomes go. One file a kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Protocol

KINDS: Mapping[str, str] = {"file": "streamfaas.destinations.file:File"}


class Destination(Protocol):
    """One protocol to write to. `send` takes a JSON document and returns only when the other side
    has it for good; a `WorldError` means that it is to be tried again."""

    kind: ClassVar[str]
    name: str
    """For people: where documents go."""

    async def open(self) -> None: ...
    async def send(self, document: bytes) -> None: ...
    async def close(self) -> None: ...
