"""A queue that hands things out one by one, and a source over it, as `sources/directory` is one."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import anyio

from proof.judgement import Wanted
from proof.ledgers import Acknowledged
from proof.simulation.stream import look, shaped
from proof.simulation.world import MAPPING, TOPIC, Made, Process, World
from streamfaas.flow.batch import Batch
from streamfaas.flow.errors import Unreachable
from streamfaas.flow.event import Event
from streamfaas.flow.invocation import Manner
from streamfaas.flow.ledger import Ledger, QueueLedger, Receipts, Settlement
from streamfaas.flow.partial import Style
from streamfaas.flow.record import Instant, Lane, Record, run_of_records
from streamfaas.flow.verdict import Judge, judge_queue
from streamfaas.sources import Arrival, Arrived, LaneView, Opened, SourceView, Spawn
from streamfaas.wire.kafka_event import kafka_batch_info, kafka_event, kafka_face, kafka_locate

IDLE_SECONDS = 30.0
SLOTS = 3


@dataclass(slots=True)
class Item:
    """Something in the queue: how often it failed, from when on it may go out, and to whom it is
    out."""

    made: Made
    failures: int = 0
    due: float = 0.0
    holder: str | None = None

    @property
    def key(self) -> bytes | None:
        return self.made.record.key if self.made.record is not None else None


class Queue:
    """All records of the world, in one queue. Those of one key go out one at a time, in order."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.items: dict[int, Item] = {}
        for lane in world.lanes[:1]:
            for made in world.made[lane]:
                if made.record is not None:
                    self.items[made.position] = Item(made, due=made.at)

    @property
    def finished(self) -> bool:
        return not self.items

    def stored(self, connection: sqlite3.Connection) -> None:
        """Nothing of that is ours."""

    def judged(self, wanted: Wanted) -> Wanted:
        return wanted

    def receive(self, holder: str, most: int) -> list[Item]:
        """The next that may go; several only if nothing lies between them."""
        now, busy, found = self._world.now, set[bytes | None](), list[Item]()
        for item in self.items.values():
            free = item.holder is None and item.due <= now and item.key not in busy
            if free and (not found or _follows(found[-1], item)):
                found.append(item)
                if len(found) == most:
                    break
            elif found:
                break
            else:
                busy.add(item.key)
        for item in found:
            item.holder = holder
        return found

    @property
    def due(self) -> float | None:
        """When something may go out: only the first of a key can be next."""
        first: dict[bytes | None, Item] = {}
        for item in self.items.values():
            first.setdefault(item.key, item)
        return min((item.due for item in first.values() if item.holder is None), default=None)

    def finish(self, first: int, last: int, holder: str) -> None:
        if self.items[first].holder != holder:
            return
        for position in range(first, last + 1):
            del self.items[position]
        self._world.story.tell("queue", "{} is done with {}..{}", holder, first, last)
        self._world.books.acknowledged.append(Acknowledged(self._world.now, TOPIC, 0, first, last))

    def give_back(
        self, first: int, last: int, holder: str, at: Instant | None, *, counted: bool
    ) -> None:
        for position in range(first, last + 1):
            item = self.items[position]
            if item.holder != holder:
                continue
            item.holder = None
            item.due = self._world.now if at is None else at
            item.failures += counted
        self._world.story.tell("queue", "{} gives back {}..{} until {}", holder, first, last, at)

    def noticed(self, name: str) -> None:
        """Its holder is gone: whatever it had may go out again."""
        for item in self.items.values():
            if item.holder is not None and item.holder.startswith(name):
                item.holder = None


def _follows(one: Item, other: Item) -> bool:
    return one.made.position + 1 == other.made.position and one.failures == other.failures


class Tray:
    """Reads the queue: a lane is a slot that has one run in hand."""

    kind: ClassVar[str] = "simulated-queue"
    manner: ClassVar[Manner] = Manner.STREAM
    style: ClassVar[Style] = Style.LISTED

    def __init__(self, process: Process, queue: Queue) -> None:
        self.judge: Judge = judge_queue
        self._process = process
        self._world = process.world
        self._queue = queue
        self._name = f"{process.name}/{self._world.time_of(('source', process.name)) + 1}"
        lanes = [Lane(MAPPING, f"slot-{number}") for number in range(SLOTS)]
        self._unopened = deque(lanes)
        self._idle = dict.fromkeys(lanes)
        self._in_hand: dict[Lane, int] = {}  # how many records are out
        self._changed = asyncio.Event()

    # -- pure

    def ledger(self, lane: Lane) -> Ledger:
        return QueueLedger(lane)

    def shape(self, batch: Batch) -> Event:
        return shaped(batch)

    def event(self, batch: Batch) -> bytes:
        return kafka_event(TOPIC, 0, "simulated", look(batch))

    def records(self, batch: Batch) -> tuple[Record, ...]:
        return look(batch)

    def face(self, record: Record) -> tuple[Mapping[str, object], bytes | None]:
        return kafka_face(TOPIC, 0, record)

    def locate(self, batch: Batch, identifier: object) -> int | None:
        return kafka_locate(batch, identifier)

    def durable(self, lane: Lane) -> int | None:
        return None

    def batch_info(self, batch: Batch) -> Mapping[str, Any]:
        info = kafka_batch_info(batch, "simulated", look(batch))
        told = info["KafkaBatchInfo"]["recordsInfo"]
        told[f"{TOPIC}-0"] = told.pop(batch.lane.name)  # where it lay, not which slot had it
        return info

    # -- life

    async def open(self, spawn: Spawn) -> None:
        await self._process.ask("connect", lambda: self._world.reach("source"), 0.01)
        self._process.seat = self._name

    async def close(self) -> None:
        self._queue.noticed(self._name)

    def view(self) -> SourceView:
        return SourceView("running", lanes={lane: LaneView() for lane in self._idle})

    async def next(self, ready: Collection[Lane]) -> Arrival:
        while True:
            if self._world.wrong("source"):
                raise Unreachable("source: connection reset")
            if self._unopened:
                return Opened(self._unopened.popleft())
            self._changed.clear()
            lane = next((lane for lane in self._idle if lane in ready), None)
            if lane is not None and (items := self._queue.receive(self._name, self._most())):
                self._process.cross("records")
                return self._arrived(lane, items)
            due = self._queue.due if lane is not None else None
            await self._wait(due)

    def _most(self) -> int:
        return 1 if self._world.plan.batch == 1 else 2 * self._world.plan.batch

    def _arrived(self, lane: Lane, items: list[Item]) -> Arrived:
        records = tuple(item.made.record for item in items if item.made.record is not None)
        del self._idle[lane]
        self._in_hand[lane] = len(records)
        self._process.received += len(records)
        mine = tuple(Record(lane, r.position, r.value, r.key, r.timestamp_ms) for r in records)
        return Arrived(run_of_records(mine, items[0].failures))

    async def _wait(self, until: float | None) -> None:
        now = self._world.now
        at = now + IDLE_SECONDS if until is None else min(max(until, now), now + IDLE_SECONDS)
        timer = asyncio.get_running_loop().call_at(at, self._changed.set)
        try:
            await self._changed.wait()
        finally:
            timer.cancel()

    def wake(self) -> None:
        self._changed.set()

    async def rewind(self, lane: Lane, position: int) -> None:
        raise AssertionError("a queue is not read again from a position")

    async def closed(self, lane: Lane) -> None:
        raise AssertionError("never asked for")

    async def settle(self, settlement: Settlement) -> None:
        assert isinstance(settlement, Receipts)
        with anyio.CancelScope(shield=True):
            await self._process.ask(
                "settle", lambda: self._settled(settlement), self._world.latency()
            )
            self._process.world.reach("queue-deaf")
        ranges = settlement.finished + settlement.released
        self._in_hand[settlement.lane] -= sum(last - first + 1 for first, last in ranges)
        if not self._in_hand[settlement.lane]:
            self._idle[settlement.lane] = None
            self._changed.set()

    def _settled(self, settlement: Receipts) -> None:
        for first, last in settlement.finished:
            self._queue.finish(first, last, self._name)
        for first, last in settlement.released:
            self._queue.give_back(
                first, last, self._name, settlement.at, counted=settlement.counted
            )
