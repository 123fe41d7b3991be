"""The lanes of a sharded log: opened, read in turn and closed, as the engine is told."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection

from streamfaas.flow.errors import WorldError
from streamfaas.flow.record import Lane
from streamfaas.sources import Arrival, Arrived, Closing, LaneView, Opened
from streamfaas.sources.sharded.handed import EPOCH
from streamfaas.sources.sharded.reading import Reading
from streamfaas.store.shards import Mark

GRACE_SECONDS = 10.0
"""For a lane whose shard is at its end, and has nothing in hand."""


class Lanes:
    """`is_ours` says of a shard that is read whether that is sure, now."""

    def __init__(self, source: str, is_ours: Callable[[Reading], bool]) -> None:
        self.source = source
        self.readings: dict[Lane, Reading] = {}
        """Of the shards that are read, or have something in hand."""
        self.sought: dict[Lane, Mark | None] = {}
        """Lanes that are sent elsewhere, and not open meanwhile: where to, once that is sure."""
        self.over = False
        """None is opened any more."""
        self.failure: WorldError | None = None
        """Why all is to be made anew."""
        self._is_ours = is_ours
        self._told: deque[Opened | Closing] = deque()
        self._turn = 0
        self._changed = asyncio.Event()

    def of(self, shard: str) -> Lane:
        return Lane(self.source, shard)

    def busy(self) -> set[str]:
        """Shards that are read, or would be, had the engine let go of what was in hand of them."""
        return {lane.name for lane in (*self.readings, *self.sought)}

    # -- what the engine is told

    async def next(self, ready: Collection[Lane]) -> Arrival:
        while True:
            self._changed.clear()
            if self.failure is not None:
                raise self.failure
            if self._told:
                return self._told.popleft()
            for reading in self._in_turn(ready):
                if reading.waiting:
                    return Arrived(reading.waiting.popleft())
                reading.wanted.set()
            await self._changed.wait()

    def wake(self) -> None:
        self._changed.set()

    def fail(self, error: WorldError) -> None:
        """Whoever waits for what is next is told, and makes all anew."""
        self.failure = error
        self.wake()

    def _in_turn(self, ready: Collection[Lane]) -> list[Reading]:
        """Shards that may be read, each time beginning with another."""
        readings = [e for lane, e in self.readings.items() if lane in ready and self._is_ours(e)]
        self._turn += 1
        start = self._turn % len(readings) if readings else 0
        return readings[start:] + readings[:start]

    # -- lanes that come and go

    def open(self, reading: Reading) -> None:
        self.readings[reading.lane] = reading
        self._told.append(Opened(reading.lane))
        self.finish(reading)
        self.wake()

    def finish(self, reading: Reading) -> None:
        """Once all of a shard is finished with, its lane closes. Until it has, the mark does not
        say that it is at its end: somebody may have the last word on what was in it."""
        if reading.finished and not (reading.closing or reading.over):
            reading.leaving = True
            self._let_close(reading, Closing(reading.lane, GRACE_SECONDS, ended=True))

    def give_up(self, shard: str, grace_seconds: float, *, lost: bool) -> None:
        """Another daemon reads the shard from here on, or would like to."""
        reading = self.readings.get(self.of(shard))
        if reading is not None:
            reading.over = reading.over or lost
            self._let_close(reading, Closing(reading.lane, grace_seconds))

    def _let_close(self, reading: Reading, closing: Closing) -> None:
        reading.wanted.set()
        if not reading.closing:
            reading.closing = True
            self._told.append(closing)
            self.wake()

    def hold_back(self, lanes: Collection[Lane]) -> None:
        """They are sent elsewhere: nothing is told of them until the engine has let go of them."""
        self.sought |= dict.fromkeys(lanes)
        self._told = deque(told for told in self._told if told.lane not in lanes)

    def part_with(self, lane: Lane) -> Reading | None:
        """Nothing of a lane is handed out, settled or written down any more."""
        reading = self.readings.pop(lane, None)
        if reading is not None:
            reading.over = True
            reading.wanted.set()
        return reading

    # -- what people see

    def views(self) -> dict[Lane, LaneView]:
        return {
            lane: LaneView(
                position=reading.mark.position - 1 if reading.mark.position % EPOCH else None,
                lag=reading.lag,
                note=reading.note or _behind(reading.behind_ms),
            )
            for lane, reading in self.readings.items()
        }

    def slowed(self) -> str:
        """Why a shard could not be read just now; empty where all could."""
        return next((f"{e.name}: {e.note}" for e in self.readings.values() if e.note), "")


def _behind(behind_ms: int | None) -> str:
    return "" if behind_ms is None else f"{behind_ms / 1000:.1f} s behind"
