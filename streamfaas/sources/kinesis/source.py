"""Kinesis as a source: shards are lanes, and a mark in the store is a checkpoint."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import anyio

from streamfaas.flow.batch import Batch
from streamfaas.flow.errors import Busy, CannotSend, Gone, StoreError, Unreachable, WorldError
from streamfaas.flow.event import Encoding, Event
from streamfaas.flow.invocation import Manner
from streamfaas.flow.ledger import Checkpoint, Ledger, LogLedger, Settlement
from streamfaas.flow.partial import Style
from streamfaas.flow.record import Instant, Lane, Record
from streamfaas.flow.shards import readable
from streamfaas.flow.verdict import Judge, RetryPolicy, judge_log
from streamfaas.sources import (
    Arrival,
    Arrived,
    Closing,
    LaneView,
    Message,
    Opened,
    Sender,
    Sent,
    SourceView,
    Spawn,
)
from streamfaas.sources.kinesis.options import KinesisOptions
from streamfaas.sources.kinesis.pages import looked, positions, told
from streamfaas.sources.kinesis.reading import Reading
from streamfaas.store import Store
from streamfaas.store.checkpoints import Checkpoints
from streamfaas.store.shards import Mark
from streamfaas.telemetry.signals import DaemonStepped, Emit, SourceChanged
from streamfaas.wire.kinesis import Described, IteratorExpired, Shard, Stream
from streamfaas.wire.kinesis_event import (
    SEQUENCE,
    Origin,
    kinesis_batch_info,
    kinesis_event,
    kinesis_face,
)

CLOSE_SECONDS = 5.0
"""How long the last marks are tried to be written for."""

GRACE_SECONDS = 10.0
"""For a lane whose shard is at its end, and has nothing in hand."""

BACKOFF = RetryPolicy(backoff_seconds=0.5, backoff_seconds_max=20.0)
FAILURES_MAX = 4
"""Reads of a shard in a row that nobody answered, before all is made anew."""

EMPTIES_MAX = 3
"""Reads of a closed shard that brought nothing, at its very end: some services never say so."""

RETENTION_MARGIN_SECONDS = 3600.0
EPOCH = 1 << 32
"""What positions leap by where records may have been lost: what was written down about records of
an earlier life must not be taken to be about others."""


class Kinesis:
    """Reads all shards of a stream, by polling.

    Delivery: at least once, in order within a shard; the shards that one was split into, or merged
    to, begin when all of it is finished with. How far each is finished with is written to the
    store on a timer and at the end, never past what is unfinished.

    Errors: `Unreachable` where nobody answers, `Refused` where the credentials are not good enough,
    `Gone` where there is no such stream. One that was deleted and made again is read from its
    beginning, and that is told. Throttling slows the shard down.

    Permissions needed: kinesis:DescribeStreamSummary, ListShards, GetShardIterator, GetRecords.
    """

    kind: ClassVar[str] = "kinesis"
    manner: ClassVar[Manner] = Manner.STREAM
    style: ClassVar[Style] = Style.LOWEST

    def __init__(
        self,
        name: str,
        options: KinesisOptions,
        *,
        store: Store,
        clock: Callable[[], Instant],
        emit: Emit,
        wall_clock: Callable[[], float] = time.time,  # noqa: TID251 - what records are dated by
    ) -> None:
        self.name = name
        self.judge: Judge = judge_log
        self._options = options
        self._clock = clock
        self._emit = emit
        self._wall_clock = wall_clock
        self._stream = Stream(options.access, options.stream)
        self._marks = Checkpoints(store, name)
        self._memory_lost = bool(store.lost)
        self._origin = Origin("", options.access.region, options.role)
        self._life = ""  # of the stream
        self._known: dict[str, Shard] = {}
        self._ended: set[str] = set()
        self._readings: dict[Lane, Reading] = {}
        self._told: deque[Opened | Closing] = deque()
        self._turn = 0
        self._changed = asyncio.Event()
        self._dirty = asyncio.Event()
        self._looking = anyio.Lock()
        self._spawn: Spawn | None = None
        self._state, self._reason = "connecting", ""

    # -- pure

    def ledger(self, lane: Lane) -> Ledger:
        return LogLedger(lane)

    def shape(self, batch: Batch) -> Event:
        return Event(Encoding.JSON, (self.event(batch),))

    def event(self, batch: Batch) -> bytes:
        return kinesis_event(self._origin, batch.lane.name, told(batch))

    def records(self, batch: Batch) -> tuple[Record, ...]:
        return looked(batch)

    def face(self, record: Record) -> tuple[Mapping[str, object], bytes | None]:
        return kinesis_face(record)

    def locate(self, batch: Batch, identifier: object) -> int | None:
        """A sequence number; those of one aggregate share theirs, and the first of them counts."""
        found = (at for at, each in positions(batch) if each["SequenceNumber"] == identifier)
        return next(found, None)

    def request_id(self, batch: Batch) -> str | None:
        return None

    def client_context(self, batch: Batch) -> bytes:
        return b""

    def reports(self, batch: Batch) -> bool:
        return True

    def batch_info(self, batch: Batch) -> Mapping[str, Any]:
        return kinesis_batch_info(batch, self._origin, told(batch))

    # -- test events

    @property
    def known_by(self) -> Callable[[Record], bytes | None]:
        """Its sequence number: which position that has is known once it has been read."""
        return lambda record: dict(record.headers).get(SEQUENCE)

    @asynccontextmanager
    async def sender(self, topic: str) -> AsyncIterator[Sender]:
        if topic:
            raise CannotSend(f"the stream is {self._options.stream}: there are no topics")
        yield _Sender(self._stream, self._options.stream)

    # -- life

    async def open(self, spawn: Spawn) -> None:
        self._spawn = spawn
        await self._stream.open()
        described = await self._stream.describe()
        self._origin = self._origin._replace(arn=described.arn)
        self._life = f"{described.arn} {described.created:.0f}"
        try:
            marks = await self._remembered(described)
            await self._look(marks, described)
        except StoreError as error:
            raise _unreachable(error) from error
        spawn(self._keep_looking, "shards")
        spawn(self._keep_marks, "marks")
        self._state, self._reason = "running", ""
        self._emit(SourceChanged(self.name, self._state, ""))

    async def next(self, ready: Collection[Lane]) -> Arrival:
        while True:
            self._changed.clear()
            if self._told:
                return self._told.popleft()
            for reading in self._in_turn(ready):
                if reading.waiting:
                    return Arrived(reading.waiting.popleft())
                reading.wanted.set()
            await self._changed.wait()

    def wake(self) -> None:
        self._changed.set()

    async def rewind(self, lane: Lane, position: int) -> None:
        self._readings[lane].rewind(position)
        self.wake()

    async def closed(self, lane: Lane) -> None:
        """Its shard is at its end, which must be known before what came out of it is read."""
        await self._write_marks()
        del self._readings[lane]
        await self._look_again()

    async def settle(self, settlement: Settlement) -> None:
        assert isinstance(settlement, Checkpoint)
        reading = self._readings.get(settlement.lane)
        if reading is not None:
            reading.settle(settlement.position)
            self._dirty.set()
            self._finish(reading)

    def durable(self, lane: Lane) -> int | None:
        reading = self._readings.get(lane)
        return None if reading is None else reading.durable.position - 1

    async def close(self) -> None:
        try:
            with anyio.move_on_after(CLOSE_SECONDS):
                await self._write_marks()
        finally:
            await self._stream.close()

    def view(self) -> SourceView:
        lanes = {
            lane: LaneView(
                position=reading.mark.position - 1 if reading.mark.position else None,
                lag=reading.lag,
                note=reading.note or _behind(reading.behind_ms),
            )
            for lane, reading in self._readings.items()
        }
        details = {"stream": self._options.stream, "arn": self._origin.arn}
        return SourceView(self._state, self._reason, lanes=lanes, details=details)

    # -- which shards

    async def _remembered(self, described: Described) -> dict[str, Mark]:
        """Marks of this life of the stream. Those of another are told of, and forgotten."""
        marks = await self._marks.load()
        of_others = [shard for shard, mark in marks.items() if mark.stream != self._life]
        if of_others:
            await self._marks.forget(of_others)
            text = (
                f"{self.name}: {self._options.stream} was deleted and made again; "
                "it is read from its beginning"
            )
            self._emit(DaemonStepped("warning:", text))
            self._memory_lost = True
        limit = self._wall_clock() - described.retention_seconds + RETENTION_MARGIN_SECONDS
        return {
            shard: self._leapt(mark) if _may_be_trimmed(mark, limit) else mark
            for shard, mark in marks.items()
            if mark.stream == self._life
        }

    def _leapt(self, mark: Mark) -> Mark:
        text = (
            f"{self.name}: {mark.shard} was last read near the end of the stream's retention; "
            "records after that may have been lost to it"
        )
        self._emit(DaemonStepped("warning:", text))
        return mark._replace(position=mark.position + EPOCH)

    async def _look(self, marks: Mapping[str, Mark], described: Described | None) -> None:
        """Asks for the shards, and opens those whose turn has come. `described`: for the first
        time; where nothing is remembered, all that are there begin where the trigger begins."""
        self._known = {shard.id: shard for shard in await self._stream.shards()}
        if described is not None:
            born = not marks
            marks = await self._still_there(marks)
            if born:
                marks = {name: self._beginning(name, described) for name in self._known}
                await self._marks.put(marks.values())
            self._ended = {name for name, mark in marks.items() if mark.ended}
        reading = {lane.name for lane in self._readings}
        parents = {name: shard.parents for name, shard in self._known.items()}
        due = [name for name in readable(parents, self._ended) if name not in reading]
        new = [self._mark(name, "TRIM_HORIZON") for name in due if name not in marks]
        if new:
            await self._marks.put(new)
        for mark in (*new, *(marks[name] for name in due if name in marks)):
            self._begin(mark)

    async def _still_there(self, marks: Mapping[str, Mark]) -> dict[str, Mark]:
        """Marks of shards that the stream knows; those of others are forgotten."""
        gone = [mark for name, mark in marks.items() if name not in self._known]
        for mark in gone:
            if not mark.ended:
                self._tell_gone(mark.shard)
        await self._marks.forget([mark.shard for mark in gone])
        return {name: mark for name, mark in marks.items() if name in self._known}

    def _beginning(self, shard: str, described: Described) -> Mark:
        start = self._options.start
        if start == "trim_horizon" or self._memory_lost:
            return self._mark(shard, "TRIM_HORIZON")
        if start == "latest":  # by the service's clock: the next life begins there as well
            start = described.now if described.now is not None else self._wall_clock()
        return self._mark(shard, "AT_TIMESTAMP", at_ms=int(float(start) * 1000))

    def _mark(self, shard: str, kind: str, at_ms: int = 0) -> Mark:
        return Mark(shard, self._life, 0, kind, "", 0, at_ms, ended=False)

    def _begin(self, mark: Mark) -> None:
        assert self._spawn is not None
        lane = Lane(self.name, mark.shard)
        reading = self._readings[lane] = Reading(
            lane,
            mark,
            aggregated=self._options.aggregated,
            overhead_bytes=self._origin.bytes,
            poll_seconds=self._options.poll_seconds,
        )
        self._told.append(Opened(lane))
        self._spawn(lambda: self._read_on(reading), lane.name)
        self.wake()

    async def _keep_looking(self) -> None:
        while True:
            await anyio.sleep(self._options.look_seconds)
            await self._look_again()

    async def _look_again(self) -> None:
        async with self._looking:
            try:
                await self._look({}, None)
            except StoreError as error:
                raise _unreachable(error) from error
            except Busy:  # there will be another look
                return

    # -- reading

    def _in_turn(self, ready: Collection[Lane]) -> list[Reading]:
        """Shards that may be read, each time beginning with another."""
        readings = [each for lane, each in self._readings.items() if lane in ready]
        self._turn += 1
        start = self._turn % len(readings) if readings else 0
        return readings[start:] + readings[:start]

    async def _read_on(self, reading: Reading) -> None:
        """Until the shard is at its end."""
        failures = 0
        while not reading.ended:
            await reading.wanted.wait()
            reading.wanted.clear()
            if reading.waiting:
                continue
            try:
                await self._read_once(reading)
                failures, reading.note = 0, ""
                pause = reading.pause_seconds
            except (Busy, Unreachable) as error:
                failures += 1
                if isinstance(error, Unreachable) and failures > FAILURES_MAX:
                    raise
                reading.note = str(error)
                pause = BACKOFF.delay(failures, random.random())
            self._finish(reading)
            self.wake()
            await anyio.sleep(pause)
            self.wake()

    async def _read_once(self, reading: Reading) -> None:
        try:
            if reading.iterator is None:
                reading.iterator = await self._stream.iterator(reading.name, reading.start())
            read = await self._stream.read(reading.iterator, self._options.records_max)
        except IteratorExpired:
            reading.iterator = None
            return
        except Gone:
            await self._forgotten(reading)
            return
        if read.records and not reading.anchored:
            await self._write(reading.anchor(read))
            reading.durable = reading.mark
        reading.take(read)
        if reading.empties >= EMPTIES_MAX and not read.behind_ms and self._closed(reading):
            reading.ended = True

    def _closed(self, reading: Reading) -> bool:
        shard = self._known.get(reading.name)
        return shard is not None and shard.closed

    async def _forgotten(self, reading: Reading) -> None:
        """The shard is not there any more: with its stream, or because it is past retention."""
        if reading.name in {shard.id for shard in await self._stream.shards()}:
            raise Unreachable(f"{reading.name} is listed, and cannot be read")
        self._tell_gone(reading.name)
        reading.ended = True

    def _tell_gone(self, shard: str) -> None:
        text = f"{self.name}: {shard} is past the stream's retention; what was not read is lost"
        self._emit(DaemonStepped("warning:", text))

    def _finish(self, reading: Reading) -> None:
        """Once all of a shard is finished with, its lane closes."""
        if reading.finished and reading.name not in self._ended:
            self._ended.add(reading.name)
            reading.mark = reading.mark._replace(ended=True)
            self._dirty.set()
            self._told.append(Closing(reading.lane, GRACE_SECONDS))
            self.wake()

    # -- marks

    async def _keep_marks(self) -> None:
        while True:
            await self._dirty.wait()
            await anyio.sleep(self._options.commit_seconds)
            await self._write_marks()

    async def _write_marks(self) -> None:
        self._dirty.clear()
        dirty = [each for each in self._readings.values() if each.mark != each.durable]
        marks = [each.mark for each in dirty]
        if marks:
            try:
                await self._write(*marks)
            except BaseException:
                self._dirty.set()
                raise
        for reading, mark in zip(dirty, marks, strict=True):
            reading.durable = mark

    async def _write(self, *marks: Mark) -> None:
        try:
            await self._marks.put(marks)
        except StoreError as error:
            raise _unreachable(error) from error


class _Sender:
    def __init__(self, stream: Stream, name: str) -> None:
        self.target = f"stream {name}"
        self._stream = stream

    async def send(self, message: Message) -> Sent:
        """Permissions needed: kinesis:PutRecords."""
        if message.headers or message.partition is not None or message.value is None:
            raise CannotSend("a record has a partition key and data, no headers and no partition")
        try:
            key = (message.key or b"streamfaas").decode()
        except UnicodeDecodeError as error:
            raise CannotSend("a partition key is text") from error
        ((shard, sequence),) = await self._stream.put([(key, message.value)])
        return Sent(f"{shard}:{sequence}", key=sequence.encode())


def _may_be_trimmed(mark: Mark, limit: float) -> bool:
    return bool(mark.sequence) and not mark.ended and mark.at_ms / 1000 < limit


def _behind(behind_ms: int | None) -> str:
    return "" if behind_ms is None else f"{behind_ms / 1000:.1f} s behind"


def _unreachable(error: StoreError) -> WorldError:
    return Unreachable(f"{error}; {error.remedy}".rstrip("; "))
