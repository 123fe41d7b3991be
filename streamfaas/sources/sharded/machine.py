"""A sharded log as a source: shards are lanes, and a mark is a checkpoint."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, ClassVar

import anyio

from streamfaas.flow.batch import Batch
from streamfaas.flow.errors import Busy, Refused, Unreachable
from streamfaas.flow.event import Encoding, Event
from streamfaas.flow.invocation import Manner
from streamfaas.flow.ledger import Checkpoint, Ledger, LogLedger, Settlement
from streamfaas.flow.partial import Style
from streamfaas.flow.record import Instant, Lane, Record
from streamfaas.flow.verdict import Judge, judge_log
from streamfaas.sources import (
    Arrival,
    Place,
    Reread,
    Sender,
    SourceView,
    Spawn,
    Spot,
    Stretch,
)
from streamfaas.sources.sharded.clock import ServiceClock
from streamfaas.sources.sharded.dialect import Dialect
from streamfaas.sources.sharded.lanes import Lanes
from streamfaas.sources.sharded.leases import LeasedRoster
from streamfaas.sources.sharded.marks import Keeper, Marks
from streamfaas.sources.sharded.options import LogOptions
from streamfaas.sources.sharded.pages import looked, positions, told
from streamfaas.sources.sharded.polling import Poller
from streamfaas.sources.sharded.reading import Reading
from streamfaas.sources.sharded.rereading import Rereader
from streamfaas.sources.sharded.roster import Roster
from streamfaas.sources.sharded.seeking import Seeker
from streamfaas.store.shards import Mark
from streamfaas.telemetry.signals import DaemonStepped, Emit, SourceChanged
from streamfaas.wire.lease_table import LeaseTable
from streamfaas.wire.shards import Origin, Stream

CLOSE_SECONDS = 5.0
"""How long the last marks are tried to be written for."""


class ShardedLog:
    """Reads all shards of a stream, by polling.

    Delivery: at least once, in order within a shard; the shards that one was split into, or merged
    to, begin when all of it is finished with. How far each is finished with is written to where
    the marks live on a timer and at the end, never past what is unfinished.

    Errors: `Unreachable` where nobody answers, `Refused` where the credentials are not good enough,
    `Gone` where there is no such stream. One that was deleted and made again is read from its
    beginning, and that is told. Throttling slows the shard down.
    """

    manner: ClassVar[Manner] = Manner.STREAM
    style: ClassVar[Style] = Style.LOWEST

    def __init__(
        self,
        name: str,
        dialect: Dialect,
        stream: Stream,
        options: LogOptions,
        *,
        origin: Origin,
        marks: Marks,
        memory_lost: bool,
        sender: Callable[[str], Sender],
        emit: Emit,
        wall_clock: Callable[[], float],
        jitter: Callable[[], float] = random.random,
        make_table: Callable[..., LeaseTable] = LeaseTable,
    ) -> None:
        self.name = name
        self.kind = dialect.kind
        self.judge: Judge = judge_log
        self._dialect = dialect
        self._stream = stream
        self._options = options
        self._origin = origin
        self._sender = sender
        self._emit = emit
        self._lanes = Lanes(name, self._is_ours)
        self._readings = self._lanes.readings
        self._keeper = Keeper(marks, self._readings)
        self._time = time = ServiceClock(wall_clock)
        self._leases: LeasedRoster | None = None
        self._roster: Roster | LeasedRoster
        if options.leases is not None:
            self._roster = self._leases = LeasedRoster(
                stream,
                self._keeper,
                options,
                timestamps=dialect.limits.timestamps,
                time=time,
                warn=self._warn,
                give_up=self._lanes.give_up,
                make_table=make_table,
                jitter=jitter,
            )
        else:
            self._roster = Roster(
                stream,
                self._keeper,
                "trim_horizon" if memory_lost else options.start,
                timestamps=dialect.limits.timestamps,
                time=time,
                warn=self._warn,
            )
        self._poller = Poller(
            stream,
            self._keeper,
            self._roster,
            options.records_max or dialect.limits.records_max,
            time=time,
            ends_untold=dialect.limits.ends_untold,
            told=self._moved,
            jitter=jitter,
        )
        self._rereader = Rereader(
            stream, dialect, self._roster.is_closed, wall_clock=wall_clock, jitter=jitter
        )
        self._seeks: Seeker | None = None
        if isinstance(self._roster, Roster):
            self._seeks = Seeker(
                stream,
                self._keeper,
                self._roster,
                self._rereader,
                self._lanes,
                timestamps=dialect.limits.timestamps,
                time=time,
            )
        self._hurry = asyncio.Event()
        self._looking = anyio.Lock()
        self._spawn: Spawn | None = None
        self._state, self._reason = "connecting", ""

    @property
    def lease_seconds(self) -> float:
        return math.inf if self._leases is None else self._leases.lease_seconds

    # -- pure

    def ledger(self, lane: Lane) -> Ledger:
        return LogLedger(lane)

    def shape(self, batch: Batch) -> Event:
        return Event(Encoding.JSON, (self.event(batch),))

    def event(self, batch: Batch) -> bytes:
        return self._dialect.event(self._origin, batch.lane.name, told(self._dialect, batch))

    def records(self, batch: Batch) -> tuple[Record, ...]:
        return looked(self._dialect, batch)

    def face(self, record: Record) -> tuple[Mapping[str, object], bytes | None]:
        return self._dialect.face(record)

    def locate(self, batch: Batch, identifier: object) -> int | None:
        """A sequence number; those of one aggregate share theirs, and the first of them counts."""
        sequence = self._dialect.sequence
        placed = positions(self._dialect, batch)
        return next((at for at, each in placed if sequence(each) == identifier), None)

    def batch_info(self, batch: Batch) -> Mapping[str, Any]:
        return self._dialect.batch_info(self._origin, batch, told(self._dialect, batch))

    # -- test events

    @property
    def known_by(self) -> Callable[[Record], bytes | None]:
        return self._dialect.known_by

    @asynccontextmanager
    async def sender(self, topic: str) -> AsyncIterator[Sender]:
        yield self._sender(topic)

    # -- once more

    @property
    def counted(self) -> bool:
        return False

    async def stretches(
        self, lane_names: Collection[str], wanted: Stretch
    ) -> Mapping[Lane, Stretch]:
        self._must_run()
        life = self._roster.described.life
        return await self._rereader.stretches(self.name, lane_names, wanted, life)

    async def reread(self, lane: Lane, wanted: Stretch, records_max: int) -> Reread:
        self._must_run()
        return await self._rereader.reread(lane, wanted, records_max)

    def _must_run(self) -> None:
        if self._state == "connecting":
            raise Unreachable(f"{self.name} is not connected; why: streamfaas status")

    # -- on from elsewhere

    def standing(self) -> Mapping[Lane, Spot]:
        return self._seeker().standing()

    def elsewhere(self) -> tuple[str, ...]:
        return ()

    def is_past(self, lane: Lane, spot: Spot) -> bool:
        return self._seeker().is_past(lane, spot)

    async def places(self, lanes: Collection[Lane], to: Place) -> Mapping[Lane, Spot]:
        self._must_run()
        return await self._seeker().places(lanes, to)

    async def at(self, lanes: Collection[Lane], position: int) -> Mapping[Lane, Spot]:
        self._must_run()
        return await self._seeker().at(lanes, position)

    async def seek(self, sought: Mapping[Lane, Spot]) -> None:
        self._must_run()
        self._lanes.hold_back(sought)
        async with self._looking:
            await self._seeker().seek(sought)

    def _seeker(self) -> Seeker:
        if self._seeks is None:
            raise Refused(
                f"{self.name} shares its stream by leases: no daemon alone can send it elsewhere. "
                "Give the trigger another name, another table and the `start` that is wanted, in "
                "all daemons that share the stream (streamfaas explain seek)"
            )
        return self._seeks

    # -- life

    async def open(self, spawn: Spawn) -> None:
        self._spawn = spawn
        await self._stream.open()
        if self._leases is not None:
            await self._leases.open(spawn)
        self._begin(await self._roster.remembered())
        await self._stand()
        spawn(self._keep_looking, "shards")
        spawn(lambda: self._keeper.keep(self._options.commit_seconds), "marks")

    async def next(self, ready: Collection[Lane]) -> Arrival:
        return await self._lanes.next(ready)

    def wake(self) -> None:
        self._lanes.wake()

    async def rewind(self, lane: Lane, position: int) -> None:
        self._readings[lane].rewind(position)
        self.wake()

    async def closed(self, lane: Lane) -> None:
        """Its shard is at its end, which must be known before what came out of it is read; or its
        lease is another's, or will be. One that nobody told to close was sent elsewhere."""
        self._lanes.sought.pop(lane, None)
        reading = self._readings.get(lane)
        if reading is None or not reading.closing:
            self._open_anew(lane)
            return
        if reading.leaving:
            reading.mark = reading.mark._replace(ended=True, seen_ms=self._time.now_ms())
            self._roster.end(reading.name)
        await self._keeper.write_last([reading], self._is_ours)
        reading.over = True
        reading.wanted.set()
        if self._leases is not None:
            await self._leases.closed(lane.name, reading.durable)
        if self._readings.get(lane) is reading:
            del self._readings[lane]
        await self._look()

    async def settle(self, settlement: Settlement) -> None:
        assert isinstance(settlement, Checkpoint)
        reading = self._readings.get(settlement.lane)
        if reading is not None and not reading.over:
            reading.settle(settlement.position)
            self._keeper.changed()
            self._lanes.finish(reading)

    def durable(self, lane: Lane) -> int | None:
        reading = self._readings.get(lane)
        mark = self._lanes.sought.get(lane) if reading is None else reading.durable
        return None if mark is None else mark.position - 1

    async def close(self) -> None:
        self._lanes.over = True
        try:
            with anyio.move_on_after(CLOSE_SECONDS):
                await self._keeper.write_last(list(self._readings.values()), self._is_ours)
                if self._leases is not None:
                    await self._leases.let_go()
        finally:
            await self._stream.close()
            if self._leases is not None:
                await self._leases.close()

    # -- what is known of it

    @property
    def arn(self) -> str:
        return self._origin.arn

    def life(self, lane: Lane) -> str:
        reading = self._readings.get(lane)
        return "" if reading is None else reading.mark.stream

    def seen_empty(self, lane: Lane) -> Instant | None:
        reading = self._readings.get(lane)
        return None if reading is None or reading.waiting else reading.tip_at

    def view(self) -> SourceView:
        details: dict[str, object] = {"stream": self._stream.name, "arn": self._origin.arn}
        if shows := self._roster.described.shows:
            details["shows"] = shows
        if self._leases is not None:
            details |= self._leases.details()
        return SourceView(
            self._state,
            self._reason or self._lanes.slowed(),
            lanes=self._lanes.views(),
            details=details,
        )

    # -- shards that come and end

    def _begin(self, marks: Iterable[Mark]) -> None:
        assert self._spawn is not None
        self._origin = self._origin._replace(arn=self._roster.described.arn)
        for mark in marks:
            reading = Reading(
                self._lanes.of(mark.shard),
                mark,
                self._dialect,
                overhead_bytes=self._dialect.overhead_bytes(self._origin),
                poll_seconds=self._options.poll_seconds,
                iterator=self._roster.fresh.pop(mark.shard, None),
                gone=mark.shard in self._roster.gone,
                doubted=mark.shard in self._roster.doubted,
            )
            self._lanes.open(reading)
            self._spawn(partial(self._poller.read_on, reading), reading.name)

    def _open_anew(self, lane: Lane) -> None:
        """The engine has let go of a lane that was, or was to be, sent elsewhere."""
        if self._lanes.over:
            return
        old = self._readings.get(lane)
        self._begin(self._seeker().anew(lane))
        if old is not None:
            self._readings[lane].durable = old.durable
            self._keeper.changed()
        self._hurry.set()  # others may begin behind it

    async def _keep_looking(self) -> None:
        while True:
            leases, pause = self._leases, self._options.look_seconds
            with anyio.move_on_after(pause if leases is None else leases.pause_seconds):
                await self._hurry.wait()
            self._hurry.clear()
            await self._look()

    async def _look(self) -> None:
        async with self._looking:
            if self._lanes.failure is not None:
                return
            try:
                marks = await self._roster.look(self._lanes.busy())
                self._begin(marks if self._seeks is None else self._seeks.kept_back(marks))
                await self._stand()
            except Busy:  # there will be another look
                return

    async def _stand(self) -> None:
        """Where nothing is left to be read, this life of the stream is over: another may follow."""
        if not self._lanes.busy() and (marks := await self._roster.followed()) is not None:
            self._begin(marks)
        over = "" if self._lanes.busy() else self._roster.described.over
        state = "degraded" if over else "running"
        if (state, over) != (self._state, self._reason):
            self._state, self._reason = state, over
            self._emit(SourceChanged(self.name, state, over))

    def _moved(self, reading: Reading) -> None:
        self._lanes.finish(reading)
        self.wake()

    def _is_ours(self, reading: Reading) -> bool:
        if self._leases is None:
            return True
        return not reading.over and self._leases.is_ours(reading.name)

    def _warn(self, text: str) -> None:
        self._emit(DaemonStepped("warning:", f"{self.name}: {text}"))
