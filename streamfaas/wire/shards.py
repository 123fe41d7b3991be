"""What services with sharded logs answer, in words that are the same for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol


class Origin(NamedTuple):
    """Whose records they are, as events say it."""

    arn: str
    region: str
    role: str


@dataclass(frozen=True, slots=True)
class Described:
    """What is known of a stream. `life` differs where it was deleted and made again: no checkpoint
    of one is of another; `now` is the service's own clock, where it shows it (epoch seconds)."""

    arn: str
    life: str
    retention_seconds: float
    now: float | None


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard and whom it came from. `closed`: nothing is added to it any more."""

    id: str
    parents: tuple[str, ...] = ()
    closed: bool = False


@dataclass(frozen=True, slots=True)
class Start:
    """Where reading begins: `TRIM_HORIZON`, `AT_TIMESTAMP` (epoch seconds), or at or after a
    record (`AT_SEQUENCE_NUMBER`, `AFTER_SEQUENCE_NUMBER`)."""

    kind: str
    sequence: str = ""
    timestamp: float = 0.0


@dataclass(frozen=True, slots=True)
class Page:
    """What one read gave. `records` are as the service writes them. `next` is None at the end of a
    closed shard."""

    records: Sequence[Mapping[str, Any]]
    next: str | None
    behind_ms: int
    size_bytes: int


class IteratorExpired(Exception):
    """An iterator was not used for some minutes. Another one begins where reading stood."""


class Stream(Protocol):
    """A client of one stream. Errors of all methods are `WorldError`s."""

    name: str

    async def open(self) -> None:
        """Must be closed, whatever becomes of it."""

    async def close(self) -> None: ...

    async def describe(self) -> Described: ...

    async def shards(self) -> tuple[Shard, ...]:
        """All that the stream still knows, closed ones too."""

    async def iterator(self, shard: str, start: Start) -> str: ...

    async def read(self, iterator: str, records_max: int) -> Page:
        """`IteratorExpired` where the iterator has to be made anew."""
