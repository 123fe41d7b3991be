"""How one shard is read: page after page, as it may be and as its lane has room, to its end."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from streamfaas.flow.errors import Busy, Gone, Unreachable
from streamfaas.flow.record import Instant
from streamfaas.flow.verdict import RetryPolicy
from streamfaas.sources.sharded.clock import ServiceClock
from streamfaas.sources.sharded.handed import EPOCH
from streamfaas.sources.sharded.leases import LeasedRoster
from streamfaas.sources.sharded.marks import Keeper
from streamfaas.sources.sharded.reading import Reading
from streamfaas.sources.sharded.roster import Roster
from streamfaas.wire.shards import IteratorExpired, Page, Stream, Trimmed

BACKOFF = RetryPolicy(backoff_seconds=0.5, backoff_seconds_max=20.0)
FAILURES_MAX = 4
"""Reads of a shard in a row that nobody answered, before all is made anew."""

EMPTIES_MAX = 3
"""Reads of a closed shard that brought nothing, at its very end: some services never say so."""


class Poller:
    """`told` is called when something has come of a shard, or it may be at its end. `ends_untold`:
    a closed shard may never say that it is."""

    def __init__(
        self,
        stream: Stream,
        keeper: Keeper,
        roster: Roster | LeasedRoster,
        records_max: int,
        *,
        time: ServiceClock,
        ends_untold: bool,
        told: Callable[[Reading], None],
        jitter: Callable[[], float],
    ) -> None:
        self._stream = stream
        self._keeper = keeper
        self._roster = roster
        self._records_max = records_max
        self._time = time
        self._ends_untold = ends_untold
        self._told = told
        self._jitter = jitter

    async def read_on(self, reading: Reading) -> None:
        """Until all of the shard is finished with (at its end it may be rewound), or it is over."""
        failures = 0
        while not (reading.finished or reading.over):
            await reading.wanted.wait()
            reading.wanted.clear()
            if reading.waiting or reading.ended or reading.over:
                continue
            try:
                await self._read_once(reading)
                failures, reading.note = 0, ""
                pause = reading.pause_seconds
            except (Busy, Unreachable) as error:
                failures += 1
                if isinstance(error, Unreachable) and failures > FAILURES_MAX:
                    raise
                reading.fail(str(error))
                pause = BACKOFF.delay(failures, self._jitter())
            self._told(reading)
            await anyio.sleep(pause)
            self._told(reading)

    async def _read_once(self, reading: Reading) -> None:
        try:
            if reading.iterator is None:
                reading.iterator = await self._stream.iterator(reading.name, reading.start())
            asked, asked_ms = anyio.current_time(), self._time.now_ms()
            read = await self._stream.read(reading.iterator, self._records_max)
        except IteratorExpired:
            reading.iterator = None
            return
        except Gone:
            await self._forgotten(reading)
            return
        except Trimmed:
            self._leap(reading)
            return
        if not reading.over:  # else it was sent elsewhere meanwhile
            await self._take(reading, read, Instant(asked), asked_ms)

    async def _take(self, reading: Reading, read: Page, asked: Instant, asked_ms: int) -> None:
        read = reading.passed_over(read)
        if read.records and not reading.anchored:
            await self._keeper.put(reading.anchor(read))
            reading.durable = reading.mark
        place = reading.place
        if reading.doubted and reading.missed(place, read) and reading.leap(EPOCH):
            self._roster.tell_passed(reading.name)
            return  # and is read from the oldest record on
        reading.take(read)
        if read.behind_ms == 0:
            reading.tip_at = asked
            if reading.saw_the_tip(asked_ms):
                self._keeper.changed()
        if self._seems_ended(reading, read):
            reading.ended = True
        if place and reading.missed(place, read):
            self._roster.tell_passed(reading.name)

    def _seems_ended(self, reading: Reading, read: Page) -> bool:
        at_the_tip = self._ends_untold and not read.behind_ms and reading.empties >= EMPTIES_MAX
        return at_the_tip and self._roster.is_closed(reading.name)

    def _leap(self, reading: Reading) -> None:
        if not reading.leap(EPOCH):
            raise Busy("records were lost to retention; what is in hand ends, then it goes on")
        self._roster.tell_trimmed(reading.name)

    async def _forgotten(self, reading: Reading) -> None:
        """The shard is not there any more: with its stream, or because it is past retention."""
        if reading.name in {shard.id for shard in await self._stream.shards()}:
            raise Unreachable(f"{reading.name} is listed, and cannot be read")
        self._roster.tell_gone(reading.name)
        reading.ended = True
