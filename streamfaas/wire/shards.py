"""What services with sharded logs answer, in words that are the same for all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import anyio

from streamfaas.flow.errors import Refused
from streamfaas.wire import aws

CALL_SECONDS = 60.0
"""How long one request may take, with the client's own tries."""

PAGES_MAX = 1_000
"""Of one list of shards."""


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


@asynccontextmanager
async def asking(operation: str, name: str) -> AsyncIterator[None]:
    """Around one request, and what is made of its answer: errors in our words, and a deadline."""
    try:
        with anyio.fail_after(CALL_SECONDS):
            yield
    except aws.ERRORS as error:
        match aws.code_of(error):
            case "ExpiredIteratorException":
                raise IteratorExpired from error
            case "TrimmedDataAccessException":
                raise Trimmed from error
        raise aws.translated(error, f"{operation} of {name}") from error
    except KeyError as error:  # an answer that is not what the service promises
        raise Refused(f"{operation} of {name}: no {error} in the answer") from error


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
