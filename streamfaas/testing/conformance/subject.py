"""What a kind of source brings to be judged, and what judges it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from streamfaas.flow.record import Record
from streamfaas.sources import Source, Spot


@dataclass(frozen=True, slots=True)
class Subject:
    """A kind of source, and a backing that holds nothing yet.

    `make` gives a new source object over the backing; the clock of them all is the event loop's.
    `produce` adds so many records, no two of which are alike in key and value. `queue` says that
    records are settled one by one, and are in order for a key rather than for a lane.
    `unreachable` makes a source whose other side is not there. `revoke` makes an open source lose
    a lane (or several). `unordered`: it promises no order at all. `counts_itself`: its other side
    counts whatever it hands out, and after a restart nobody knows what of it was not run.
    `spot`: where a lane is read on that is read from a record on.
    """

    make: Callable[[], Source]
    produce: Callable[[int], Awaitable[None]]
    unreachable: Callable[[], Source] | None = None
    revoke: Callable[[Source], Awaitable[None]] | None = None
    queue: bool = False
    unordered: bool = False
    counts_itself: bool = False
    spot: Callable[[Record], Spot] = lambda record: record.position


Check: TypeAlias = Callable[[Subject], Awaitable[None]]
