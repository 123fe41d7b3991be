"""What services with sharded logs answer, in words that are the same for all of them.

Everybody who writes events knows these words: no client is imported here, which takes half as long
as all else that a daemon is made of.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
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
    of one is of another; those of one stream begin with `of`. `now` is the service's own
    clock, where it shows it (epoch seconds). `over` says why nothing is added to it any more,
    `shows` what a record has of what it is about.
    """

    arn: str
    life: str
    retention_seconds: float
    now: float | None
    of: str = ""
    over: str = ""
    shows: str = ""


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard and whom it came from. `closed`: nothing is added to it any more. `hashes` are the
    ends of the range of its keys, where the service has such."""

    id: str
    parents: tuple[str, ...] = ()
    closed: bool = False
    hashes: tuple[str, str] | None = None


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


class Trimmed(Exception):
    """What was asked for is past the stream's retention, though the shard is not."""


class Stream(Protocol):
    """A client of one stream. Errors of all methods are `WorldError`s."""

    name: str
    remade: str
    """What has happened to a stream whose life is another than before."""

    async def open(self) -> None:
        """Must be closed, whatever becomes of it."""

    async def close(self) -> None: ...

    async def describe(self, lives: Collection[str] = ()) -> Described:
        """The life of the stream that is read from here on: one of `lives`, which were not read to
        their end, where that is possible."""

    async def shards(self) -> tuple[Shard, ...]:
        """All that the stream still knows, closed ones too."""

    async def iterator(self, shard: str, start: Start) -> str:
        """`Trimmed` where there is no such record any more."""

    async def read(self, iterator: str, records_max: int) -> Page:
        """`IteratorExpired` where the iterator has to be made anew, or `Trimmed`."""
