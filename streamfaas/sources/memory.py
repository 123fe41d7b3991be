"""A simulated stream in this process, shaped like Kafka: for trying things and for tests."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar
from zlib import crc32

import orjson

from streamfaas.flow.batch import Batch, looked_at
from streamfaas.flow.errors import Busy, CannotSend, Gone, Unreachable
from streamfaas.flow.event import Encoding, Event
from streamfaas.flow.invocation import Manner
from streamfaas.flow.ledger import Checkpoint, Ledger, LogLedger, Settlement
from streamfaas.flow.partial import Style
from streamfaas.flow.record import Headers, Instant, Lane, Record, run_of_records
from streamfaas.flow.verdict import Judge, judge_log
from streamfaas.sources import (
    Arrival,
    Arrived,
    Closing,
    LaneView,
    Message,
    Opened,
    Place,
    Sent,
    SourceView,
    Spawn,
)
from streamfaas.telemetry.signals import Emit
from streamfaas.wire.kafka_event import (
    kafka_batch_info,
    kafka_event,
    kafka_face,
    kafka_locate,
)

RUN_MAX = 500
"""Records that are handed over at a time."""

PUT_MAX = 1_000_000
"""Records of one lane that were put in and are not settled."""

GRACE_SECONDS = 10.0
SERVERS = "memory:9092"
"""What the event gives as bootstrap servers."""

Generate = Callable[[int], bytes]


def orders(seed: int = 0) -> Generate:
    """Orders of a shop, told by their number: the same seed gives the same ones."""

    def order(number: int) -> bytes:
        chance = _scrambled(seed, number)
        return orjson.dumps(
            {
                "id": number,
                "customer": f"customer-{chance % 97}",
                "total": (chance >> 8) % 20_000 / 100 + 1,
                "items": (chance >> 32) % 5 + 1,
            }
        )

    return order


@dataclass(frozen=True, slots=True)
class MemoryOptions:
    """What is simulated. `records` None goes on for ever, `rate_per_second` None gives all that
    there is at once; both are over all partitions. `value` makes the value of the n-th record."""

    topic: str
    partitions: int = 1
    records: int | None = None
    rate_per_second: float | None = None
    seed: int = 0
    value: Generate | None = None

    def __post_init__(self) -> None:
        assert self.partitions >= 1
        assert self.records is None or self.records >= 0
        assert self.rate_per_second is None or self.rate_per_second > 0


class Vanished:
    """Positions that nothing stands at any more, in rising stretches."""

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._counts: list[int] = []
        self._before: list[int] = []  # how many there are in the stretches before
        self.count = 0

    @property
    def stretches(self) -> int:
        return len(self._firsts)

    def add(self, position: int) -> None:
        """One beyond all the others."""
        if self._firsts and position == self._firsts[-1] + self._counts[-1]:
            self._counts[-1] += 1
        else:
            self._firsts.append(position)
            self._counts.append(1)
            self._before.append(self.count)
        self.count += 1

    def holds(self, position: int) -> bool:
        at = bisect_right(self._firsts, position) - 1
        return at >= 0 and position < self._firsts[at] + self._counts[at]

    def before(self, position: int) -> int:
        """How many of them are smaller."""
        at = bisect_left(self._firsts, position) - 1
        return (
            0 if at < 0 else self._before[at] + min(self._counts[at], position - self._firsts[at])
        )


@dataclass(slots=True)
class Stream:
    """What a broker would keep while its readers come and go: since when there is something, what
    was put in among what is generated (and what of that is settled and gone), and how far
    each lane has been settled."""

    born: Instant | None = None
    born_ms: int = 0
    put: dict[str, deque[Record]] = field(default_factory=dict)
    gone: dict[str, Vanished] = field(default_factory=dict)
    checkpoints: dict[str, int] = field(default_factory=dict)


class Memory:
    """Records that are made up, or put in by whoever holds this object.

    Delivery: at least once, in order within a lane, for as long as the `stream` is kept; it ends
    with the process. Errors: `Busy` from `put` when far too much lies unsettled.
    """

    kind: ClassVar[str] = "memory"
    manner: ClassVar[Manner] = Manner.STREAM
    style: ClassVar[Style] = Style.LISTED

    def __init__(
        self,
        name: str,
        options: MemoryOptions,
        *,
        clock: Callable[[], Instant],
        emit: Emit,
        stream: Stream | None = None,
        wall_clock: Callable[[], float] = time.time,  # noqa: TID251 - the timestamps of records
    ) -> None:
        self.name = name
        self.judge: Judge = judge_log
        self.stream = Stream() if stream is None else stream
        self._options = options
        self._clock = clock
        self._wall_clock = wall_clock
        self._value = orders(options.seed) if options.value is None else options.value
        self.lanes = tuple(
            Lane(name, f"{options.topic}-{number}") for number in range(options.partitions)
        )
        self._count = _ENDLESS if options.records is None else options.records
        self._numbers = {lane: number for number, lane in enumerate(self.lanes)}
        self._told: deque[Opened | Closing] = deque()
        self._next: dict[Lane, int] = {}  # lanes that are ours, and where reading goes on
        self._leaving: set[Lane] = set()  # told to close, and not closed yet
        self._sought: set[Lane] = set()  # sent elsewhere, and not closed yet
        self._turn = 0
        self._changed = asyncio.Event()
        self._settled = asyncio.Event()
        self._state = "connecting"

    # -- pure

    def ledger(self, lane: Lane) -> Ledger:
        return LogLedger(lane)

    def shape(self, batch: Batch) -> Event:
        return Event(Encoding.JSON, (self.event(batch),))

    def event(self, batch: Batch) -> bytes:
        partition = self._numbers[batch.lane]
        return kafka_event(self._options.topic, partition, SERVERS, self.records(batch))

    def records(self, batch: Batch) -> tuple[Record, ...]:
        return looked_at(batch)

    def face(self, record: Record) -> tuple[Mapping[str, object], bytes | None]:
        return kafka_face(self._options.topic, self._numbers[record.lane], record)

    def locate(self, batch: Batch, identifier: object) -> int | None:
        return kafka_locate(batch, identifier)

    def batch_info(self, batch: Batch) -> Mapping[str, Any]:
        return kafka_batch_info(batch, SERVERS, self.records(batch))

    # -- life

    async def open(self, spawn: Spawn) -> None:
        if self.stream.born is None:
            self.stream.born = self._clock()
            self.stream.born_ms = int(self._wall_clock() * 1000)
        for lane in self.lanes:
            self.assign(lane)
        self._state = "running"

    async def next(self, ready: Collection[Lane]) -> Arrival:
        while True:
            self._changed.clear()
            if (told := self._tell()) is not None:
                return told
            for lane in self._in_turn(ready):
                if records := self._read(lane):
                    self._next[lane] = records[-1].position + 1
                    return Arrived(run_of_records(records))
            await self._wait()

    def wake(self) -> None:
        self._changed.set()

    async def rewind(self, lane: Lane, position: int) -> None:
        if lane in self._next:
            self._next[lane] = min(self._next[lane], position)
        self.wake()

    async def closed(self, lane: Lane) -> None:
        self._leaving.discard(lane)
        self._sought.discard(lane)
        self.wake()

    async def settle(self, settlement: Settlement) -> None:
        assert isinstance(settlement, Checkpoint)
        name, position = settlement.lane.name, settlement.position
        assert position > self._checkpoint(settlement.lane), "a settlement went back"
        self.stream.checkpoints[name] = position
        put = self.stream.put.get(name, deque())
        while put and put[0].position <= position:
            self._gone(settlement.lane).add(put.popleft().position)
        self._settled.set()

    # -- tumbling windows

    @property
    def arn(self) -> str:
        return ""

    def life(self, lane: Lane) -> str:
        return str(self.stream.born_ms)

    def seen_empty(self, lane: Lane) -> Instant | None:
        at = self._next.get(lane)
        return self._clock() if at is not None and at >= self._end(lane) else None

    # -- reading on from elsewhere

    def standing(self) -> Mapping[Lane, int]:
        return {lane: self._checkpoint(lane) + 1 for lane in self._next}

    def elsewhere(self) -> tuple[str, ...]:
        return tuple(lane.name for lane in self.lanes if lane not in self._next)

    async def places(self, lanes: Collection[Lane], to: Place) -> Mapping[Lane, int]:
        return {lane: self._place(lane, to) for lane in lanes}

    async def seek(self, positions: Mapping[Lane, int]) -> None:
        if missing := sorted(lane.name for lane in positions if lane not in self._next):
            raise Unreachable(f"{', '.join(missing)}: given away; nothing has changed, try again")
        self._told = deque(told for told in self._told if told.lane not in positions)
        for lane, position in positions.items():
            self._next[lane] = position
            self._sought.add(lane)
            self.stream.checkpoints[lane.name] = position - 1
            self.assign(lane)

    def durable(self, lane: Lane) -> int | None:
        return self.stream.checkpoints.get(lane.name)

    async def close(self) -> None:
        self._next.clear()
        self._told.clear()
        self._leaving.clear()

    def view(self) -> SourceView:
        return SourceView(
            self._state,
            lanes={
                lane: LaneView(
                    position=self.stream.checkpoints.get(lane.name),
                    lag=self._lag(lane),
                )
                for lane in self.lanes
            },
        )

    # -- what a broker and its other clients would do

    def put(
        self, lane: Lane, value: bytes | None, key: bytes | None = None, headers: Headers = ()
    ) -> int:
        """Appends a record to a lane: behind all of its own, or where they have no end, behind
        those that are there by now. Its position."""
        endless = self._options.records is None
        assert not endless or self._options.rate_per_second, "what floods has no end to put it at"
        position = self._end(lane) if endless else self._end_of_all(lane)
        put = self._put(lane)
        if len(put) >= PUT_MAX or self._gone(lane).stretches >= PUT_MAX:
            raise Busy(f"{PUT_MAX} records lie in {lane.name} that were put into it")
        time_ms = int(self._wall_clock() * 1000)
        put.append(Record(lane, position, value, key, time_ms, headers=headers))
        self.wake()
        return position

    @property
    def known_by(self) -> None:
        return None

    @asynccontextmanager
    async def sender(self, topic: str) -> AsyncIterator[_Sender]:
        if topic not in {"", self._options.topic}:
            raise CannotSend(f"the topic is {self._options.topic}, and there is no other")
        if self._options.records is None and self._options.rate_per_second is None:
            raise CannotSend("it gives endless records at once: behind them nothing is ever read")
        yield _Sender(self)

    def lane_of(self, key: bytes | None, partition: int | None) -> Lane:
        """Where a record goes: of one key, always to the same partition."""
        if partition is None and key is None:
            return min(self.lanes, key=self._end_of_all)
        number = crc32(key or b"") % len(self.lanes) if partition is None else partition
        if not 0 <= number < len(self.lanes):
            raise CannotSend(f"there are {len(self.lanes)} partitions, from 0 on")
        return self.lanes[number]

    def revoke(self, lane: Lane, grace_seconds: float = GRACE_SECONDS) -> None:
        """Another reader shall have the lane."""
        self._told.append(Closing(lane, grace_seconds))
        self.wake()

    def assign(self, lane: Lane) -> None:
        """The lane is ours, from its checkpoint on."""
        self._told.append(Opened(lane))
        self.wake()

    async def finished(self) -> None:
        """Waits until everything is settled, for ever if there is no end."""
        while any(self._checkpoint(lane) + 1 < self._end_of_all(lane) for lane in self.lanes):
            self._settled.clear()
            await self._settled.wait()

    # -- reading

    def _tell(self) -> Opened | Closing | None:
        """What is to be told next; a lane that is still leaving cannot be opened again."""
        for told in self._told:
            if told.lane not in self._leaving | self._sought:
                self._told.remove(told)
                break
        else:
            return None
        if isinstance(told, Opened):
            self._next[told.lane] = self._checkpoint(told.lane) + 1
        else:
            self._leaving.add(told.lane)
            self._next.pop(told.lane, None)
        return told

    def _in_turn(self, ready: Collection[Lane]) -> list[Lane]:
        """Lanes that may be read, each time beginning with another."""
        lanes = [lane for lane in self._next if lane in ready and lane not in self._sought]
        self._turn += 1
        start = self._turn % len(lanes) if lanes else 0
        return lanes[start:] + lanes[:start]

    def _read(self, lane: Lane) -> tuple[Record, ...]:
        position, end = self._next[lane], self._end(lane)
        put, gone = self._put(lane), self._gone(lane)
        at = bisect_left(range(len(put)), position, key=lambda each: put[each].position)
        found: list[Record] = []
        while position < end and len(found) < RUN_MAX:
            if at < len(put) and put[at].position == position:
                found.append(put[at])
                at += 1
            elif not gone.holds(position):
                index = position - gone.before(position) - at
                found.append(self._made(lane, position, index))
            position += 1
        return tuple(found)

    def _made(self, lane: Lane, position: int, index: int) -> Record:
        """The lane's own record of that index, which stands at a position."""
        number = index * len(self.lanes) + self._numbers[lane]
        rate = self._options.rate_per_second
        later_ms = 0 if rate is None else int(number * 1000 / rate)
        key = b"customer-%d" % (_scrambled(self._options.seed, number) % 97)
        return Record(lane, position, self._value(number), key, self.stream.born_ms + later_ms)

    def _end(self, lane: Lane) -> int:
        """The position after the last record that is there by now."""
        count = self._count
        if self._options.rate_per_second is not None:
            born = self.stream.born
            elapsed = 0.0 if born is None else self._clock() - born
            count = min(count, int(elapsed * self._options.rate_per_second) + 1)
        generated = self._share(lane, count)
        put, gone = self._put(lane), self._gone(lane).count
        # what was put in is there once as many made ones are as stand before it
        there = range(len(put))
        reached = bisect_right(there, generated, key=lambda at: put[at].position - gone - at)
        return generated + gone + reached

    def _place(self, lane: Lane, to: Place) -> int:
        if to == "earliest":
            return 0
        end = self._end(lane)
        if end > _ENDLESS >> 32:
            raise Gone(f"{lane.name} has no end, and no times: it is all there at once")
        if to == "latest":
            return end
        return bisect_left(range(end), to, key=lambda at: self._time_ms(lane, at))

    def _time_ms(self, lane: Lane, position: int) -> int:
        put, gone = self._put(lane), self._gone(lane)
        at = bisect_left(range(len(put)), position, key=lambda each: put[each].position)
        if at < len(put) and (put[at].position == position or gone.holds(position)):
            return put[at].timestamp_ms
        index = position - gone.before(position) - at
        return self._made(lane, position, index).timestamp_ms

    def _checkpoint(self, lane: Lane) -> int:
        return self.stream.checkpoints.get(lane.name, -1)

    def _lag(self, lane: Lane) -> int | None:
        lag = self._end(lane) - self._checkpoint(lane) - 1
        return lag if lag < _ENDLESS >> 32 else None

    def _end_of_all(self, lane: Lane) -> int:
        """The position after the last record that will ever be there by itself."""
        put, gone = self._put(lane), self._gone(lane)
        return self._share(lane, self._count) + gone.count + len(put)

    def _put(self, lane: Lane) -> deque[Record]:
        return self.stream.put.setdefault(lane.name, deque())

    def _gone(self, lane: Lane) -> Vanished:
        return self.stream.gone.setdefault(lane.name, Vanished())

    def _share(self, lane: Lane, count: int) -> int:
        """How many of the first `count` records fall to a lane."""
        partitions = len(self.lanes)
        return (count + partitions - 1 - self._numbers[lane]) // partitions

    async def _wait(self) -> None:
        """Until something changes, or the next record is due."""
        rate = self._options.rate_per_second
        pause = _IDLE_SECONDS if rate is None else min(max(1 / rate, 0.01), _IDLE_SECONDS)
        timer = asyncio.get_running_loop().call_later(pause, self._changed.set)
        try:
            await self._changed.wait()
        finally:
            timer.cancel()


class _Sender:
    def __init__(self, source: Memory) -> None:
        self.target = f"simulated topic {source.lanes[0].name.rpartition('-')[0]}"
        self._source = source

    async def send(self, message: Message) -> Sent:
        lane = self._source.lane_of(message.key, message.partition)
        position = self._source.put(lane, message.value, message.key, message.headers)
        return Sent(f"{lane.name}@{position}", lane, position, message.key)


_ENDLESS = 1 << 62
_IDLE_SECONDS = 60.0


def _scrambled(seed: int, number: int) -> int:
    """64 bits that look like chance (the finaliser of MurmurHash3)."""
    value = (number + (seed + 1) * 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ value >> 33) * 0xFF51AFD7ED558CCD) & _MASK
    value = ((value ^ value >> 33) * 0xC4CEB9FE1A85EC53) & _MASK
    return value ^ value >> 33


_MASK = (1 << 64) - 1
