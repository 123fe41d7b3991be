"""What can be read in an event or a document: which records of the world they are about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import orjson

from proof import ledgers


class Row(NamedTuple):
    """A record, as a function is shown it. `offset` is where the world knows it to be."""

    offset: int
    timestamp_ms: int
    key: str | None
    value: str


class Face(Protocol):
    """How one kind of source shows records."""

    cuts: bool
    """Whether it is the worker that makes the event, and so may leave the end of it out."""

    def rows(self, event: bytes) -> list[Row]: ...

    def item(self, lane: str, row: Row) -> object:
        """The identifier of a record in a partial answer."""

    def undone(self, rows: Sequence[Row], first: Row) -> Sequence[Row]:
        """What a function has not done that says of that record that it stopped there."""

    def document(self, at: float, document: dict[str, Any]) -> ledgers.SetAside: ...


class Plain:
    """The short events of sources that are simulated whole."""

    cuts: ClassVar[bool] = True

    def rows(self, event: bytes) -> list[Row]:
        return list(map(Row._make, orjson.loads(event)))

    def item(self, lane: str, row: Row) -> object:
        return {"partition": lane, "offset": row.offset}

    def undone(self, rows: Sequence[Row], first: Row) -> Sequence[Row]:
        return [row for row in rows if row.offset >= first.offset]

    def document(self, at: float, document: dict[str, Any]) -> ledgers.SetAside:
        return ledgers.set_aside(at, document)
