"""A source over the simulated broker: a member of a group, as `sources/kafka` is one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import anyio
import orjson

from proof.simulation.broker import Broker, Fenced
from proof.simulation.world import TOPIC, Process
from streamfaas.engine.mapping import REBUILD_GRACE_SECONDS
from streamfaas.flow.batch import Batch
from streamfaas.flow.errors import CorruptBatch, Unreachable, WorldError
from streamfaas.flow.event import Encoding, Event
from streamfaas.flow.invocation import Manner
from streamfaas.flow.ledger import Checkpoint, Ledger, LogLedger, Settlement
from streamfaas.flow.partial import Style
from streamfaas.flow.record import Instant, Lane, Record, Records, run_of
from streamfaas.flow.verdict import Judge, judge_log
from streamfaas.sources import Arrival, Arrived, Closing, LaneView, Opened, SourceView, Spawn
from streamfaas.wire.kafka_event import kafka_batch_info, kafka_event, kafka_face, kafka_locate

HEARTBEAT_SECONDS = 1.5
COMMIT_SECONDS = 5.0
LOST_SECONDS = 2.0
PATIENCE_SECONDS = REBUILD_GRACE_SECONDS + 0.5
"""How long an engine may take to let go that does not listen, since it makes us anew."""

FETCH_MAX = 15
IDLE_SECONDS = 30.0


class Fetched(Records):
    """Records as they came over the wire; `damaged` positions fail their checksum."""

    __slots__ = ("damaged",)

    def __init__(self, records: tuple[Record, ...], damaged: tuple[int, ...]) -> None:
        super().__init__(records)
        object.__setattr__(self, "damaged", damaged)


def look(batch: Batch) -> tuple[Record, ...]:
    """The records of a batch whose payloads are whole."""
    found: list[Record] = []
    for run in batch.runs:
        payload = run.payload
        assert isinstance(payload, Records)
        for position in getattr(payload, "damaged", ()):
            if run.first <= position <= run.last:
                raise CorruptBatch(position, "bad checksum")
        found += payload.between(run.first, run.last)
    return tuple(found)


def shaped(batch: Batch) -> Event:
    """A short event: what a record is, one after the other."""
    rows = [
        [
            record.position,
            record.timestamp_ms,
            None if record.key is None else record.key.decode(),
            (record.value or b"").decode(),
        ]
        for record in look(batch)
    ]
    return Event(Encoding.JSON, (orjson.dumps(rows),))


@dataclass(slots=True)
class Share:
    """A partition that is ours. `settled` and `committed` are where the next reader would begin."""

    lane: Lane
    next: int
    settled: int
    committed: int
    opened: bool = False


class Stream:
    """Joins, reads, commits and gives away like the real one."""

    kind: ClassVar[str] = "simulated-log"
    manner: ClassVar[Manner] = Manner.STREAM
    commits_at_close = True

    def __init__(self, process: Process, broker: Broker) -> None:
        self.judge: Judge = judge_log
        self.style = Style.LOWEST if process.world.plan.lowest else Style.LISTED
        self._process = process
        self._world = process.world
        self._broker = broker
        made = self._world.time_of(("source", process.name))
        self._name = f"{process.name}/{made + 1}"
        self._generation = 0
        self._shares: dict[Lane, Share] = {}
        self._told: deque[Opened | Closing] = deque()
        self._leaving: set[Lane] = set()
        self._held: set[Lane] = set()
        self._stirred = asyncio.Event()
        self._left = asyncio.Event()
        self._committing = anyio.Lock()
        self._lost = False
        self._revoking = False
        self._closing = False
        self._joined = False
        self._failure: WorldError | None = None

    # -- pure

    def ledger(self, lane: Lane) -> Ledger:
        return LogLedger(lane)

    def shape(self, batch: Batch) -> Event:
        return shaped(batch)

    def event(self, batch: Batch) -> bytes:
        return kafka_event(TOPIC, self._world.partition(batch.lane), "simulated", look(batch))

    def records(self, batch: Batch) -> tuple[Record, ...]:
        return look(batch)

    def face(self, record: Record) -> tuple[Mapping[str, object], bytes | None]:
        return kafka_face(TOPIC, self._world.partition(record.lane), record)

    def locate(self, batch: Batch, identifier: object) -> int | None:
        return kafka_locate(batch, identifier)

    def batch_info(self, batch: Batch) -> Mapping[str, Any]:
        try:
            records = look(batch)
        except CorruptBatch:
            records = ()
        return kafka_batch_info(batch, "simulated", records)

    # -- life

    async def open(self, spawn: Spawn) -> None:
        await self._process.ask("connect", lambda: self._world.reach("source"), 0.01)
        spawn(self._belong, "member")
        if self._world.plan.commit:
            spawn(self._commit_now_and_then, "commits")

    async def close(self) -> None:
        self._closing = True
        self._left.set()
        if not self._process.alive or not self._joined:
            return
        with anyio.move_on_after(COMMIT_SECONDS):
            while self._revoking:
                self._left.clear()
                await self._left.wait()
            if self.commits_at_close:
                await self._last_commit()
        if not self._cut_off():  # else the broker finds out by itself
            await self._process.ask("leave", lambda: self._broker.leave(self._name))

    def view(self) -> SourceView:
        lanes = {lane: LaneView(position=one.committed - 1) for lane, one in self._shares.items()}
        return SourceView("running", lanes=lanes)

    # -- reading

    async def next(self, ready: Collection[Lane]) -> Arrival:
        while True:
            self._stirred.clear()
            if self._world.wrong("source"):
                raise Unreachable("source: connection reset")
            if self._failure is not None:
                raise self._failure
            if self._told:
                arrival = self._told.popleft()
                if isinstance(arrival, Opened):
                    self._shares[arrival.lane].opened = True
                return arrival
            if (arrived := self._arrived(ready)) is not None:
                self._process.cross("records")
                return arrived
            await self._wait(self._next_at(ready))

    def wake(self) -> None:
        self._stirred.set()

    async def rewind(self, lane: Lane, position: int) -> None:
        share = self._shares.get(lane)
        if share is not None and share.opened:
            again = sum(
                position <= made.position < share.next and made.record is not None
                for made in self._world.made[lane]
            )
            self._process.received -= again
            self._process.again += again
            share.next = position
            self._stirred.set()

    def _arrived(self, ready: Collection[Lane]) -> Arrived | None:
        if self._revoking or self._cut_off():
            return None
        world = self._world
        for share in self._readable(ready):
            count = 1 + int(
                world.chance.between(0, FETCH_MAX, "fetch", share.lane.name, share.next)
            )
            if not (found := self._broker.fetch(share.lane, share.next, count)):
                continue
            first, last = share.next, found[-1].position
            share.next = last + 1
            payload = Fetched(
                tuple(made.record for made in found if made.record is not None),
                tuple(made.position for made in found if self._damaged(share, made.position)),
            )
            self._process.received += len(payload.records)
            what = "{} has read {} {}..{}, {} of them damaged"
            world.story.tell(
                "broker", what, self._name, share.lane.name, first, last, len(payload.damaged)
            )
            return Arrived(run_of(share.lane, first, last, payload))
        return None

    def _damaged(self, share: Share, position: int) -> bool:
        world = self._world
        damage, name = world.plan.trouble.damage, share.lane.name
        if world.calm or not world.chance.happens(damage, "damage", name, position):
            return False
        return world.time_of(("read", name, position)) < 3 * world.chance("for", name, position)

    def _readable(self, ready: Collection[Lane]) -> list[Share]:
        found = [one for one in self._shares.values() if one.opened and one.lane in ready]
        turn = self._world.time_of("turn") % len(found) if found else 0
        return found[turn:] + found[:turn]

    def _next_at(self, ready: Collection[Lane]) -> float:
        now = self._world.now
        if self._revoking or self._cut_off():
            return now + IDLE_SECONDS
        times = [
            self._broker.next_at(one.lane, one.next)
            for one in self._shares.values()
            if one.opened and one.lane in ready
        ]
        return min([now + IDLE_SECONDS, *(max(at, now) for at in times if at is not None)])

    async def _wait(self, until: float) -> None:
        timer = asyncio.get_running_loop().call_at(until, self._stirred.set)
        try:
            await self._stirred.wait()
        finally:
            timer.cancel()

    def _cut_off(self) -> bool:
        return self._world.wrong("cut-off", self._process.slot)

    # -- tumbling windows

    @property
    def arn(self) -> str:
        return ""

    def life(self, lane: Lane) -> str:
        return ""

    def seen_empty(self, lane: Lane) -> Instant | None:
        """It asks every second, and hears nothing where it is cut off."""
        share, world = self._shares.get(lane), self._world
        if share is None or self._revoking or self._cut_off() or world.wrong("source"):
            return None
        asked = int(world.now)
        next_at = self._broker.next_at(lane, share.next)
        return None if next_at is not None and next_at <= asked else Instant(asked)

    # -- settling

    async def settle(self, settlement: Settlement) -> None:
        assert isinstance(settlement, Checkpoint)
        share = self._shares.get(settlement.lane)
        if share is None or not share.opened:
            return  # somebody else has the partition now
        share.settled = max(share.settled, settlement.position + 1)
        if not self._world.plan.commit:
            await self._commit_soon()

    def durable(self, lane: Lane) -> int | None:
        share = self._shares.get(lane)
        return None if share is None else share.committed - 1

    async def closed(self, lane: Lane) -> None:
        self._leaving.discard(lane)
        self._left.set()
        if lane in self._held:
            self._held.discard(lane)
            self._told.append(Opened(lane))
            self._stirred.set()

    async def _commit_now_and_then(self) -> None:
        while not self._closing:
            await anyio.sleep(self._world.plan.commit)
            if not self._revoking:
                await self._commit_soon()

    async def _commit_soon(self) -> None:
        with anyio.move_on_after(COMMIT_SECONDS):
            await self._last_commit()

    async def _last_commit(self) -> None:
        generation = self._generation
        try:
            await self._commit()
        except Fenced:
            if generation == self._generation:  # and not an answer about a seat of before
                self._lose()

    async def _commit(self) -> None:
        async with self._committing:  # else two that are on their way could pass each other
            await self._commit_risen()

    async def _commit_risen(self) -> None:
        risen = {s.lane: s.settled for s in self._shares.values() if s.settled > s.committed}
        if not risen:
            return
        generation = self._generation
        await self._process.ask(
            "commit", lambda: self._commits(generation, risen), self._way() + self._world.latency()
        )
        for lane, offset in risen.items():
            if (share := self._shares.get(lane)) is not None:
                share.committed = max(share.committed, offset)

    def _commits(self, generation: int, offsets: dict[Lane, int]) -> None:
        self._broker.commit(self._name, generation, offsets)

    def _way(self) -> float:
        """A request that cannot get through arrives when it can."""
        return 2 * self._world.right_in("cut-off", self._process.slot)

    # -- the group

    async def _belong(self) -> None:
        while not self._closing:
            await self._take_seat()
            while not self._closing and await self._keep_seat():
                pass
            if not self._closing:
                await self._give_away()

    async def _take_seat(self) -> None:
        if way := self._way():
            await anyio.sleep(way)
        self._joined, self._lost = True, False
        joined = await self._process.ask("join", lambda: self._broker.join(self._name))
        self._generation, lanes = await joined
        self._process.cross("seated")
        self._process.seat = f"{self._name}/{self._generation}"
        for lane in lanes:
            at = self._begins_at(lane)
            self._shares[lane] = Share(lane, at, at, at)
            if lane in self._leaving:
                self._held.add(lane)
            else:
                self._told.append(Opened(lane))
        self._stirred.set()

    def _begins_at(self, lane: Lane) -> int:
        return self._broker.committed.get(lane, 0)

    async def _keep_seat(self) -> bool:
        with anyio.move_on_after(HEARTBEAT_SECONDS):
            while not self._lost:
                self._left.clear()
                await self._left.wait()
        return await self._beat()

    async def _beat(self) -> bool:
        """Whether the generation stands, as far as is known."""
        if self._lost:
            return False
        if self._cut_off():
            return True
        try:
            return await self._process.ask(
                "heartbeat", lambda: self._broker.heartbeat(self._name, self._generation)
            )
        except Fenced:
            self._lose()
            return False

    def _lose(self) -> None:
        """It is known now that the seat is gone."""
        self._lost = True
        self._left.set()
        self._broker.noticed(self._name)

    async def _give_away(self) -> None:
        lost, grace = self._lost, self._world.plan.grace
        seconds = LOST_SECONDS if lost else grace
        self._revoking = True
        try:
            self._told = deque(one for one in self._told if isinstance(one, Closing))
            self._held.clear()
            going = {lane for lane, one in self._shares.items() if one.opened}
            for lane in sorted(going):
                self._leaving.add(lane)
                self._told.append(Closing(lane, 0.0 if lost else 0.9 * seconds))
            self._stirred.set()
            with anyio.move_on_after(max(seconds, PATIENCE_SECONDS)):
                while going & self._leaving and not self._closing:
                    self._left.clear()
                    with anyio.move_on_after(HEARTBEAT_SECONDS):
                        await self._left.wait()
                    await self._beat()
            if not self._lost:
                with anyio.move_on_after(COMMIT_SECONDS):
                    await self._last_commit()
            self._shares.clear()
            self._generation = 0
        finally:  # cut short, what is left to commit is committed by `close`
            self._revoking = False
            self._left.set()
