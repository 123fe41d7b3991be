"""The real machine of sharded logs over a simulated stream, and a process's way to that."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import ClassVar, TypeVar

from proof.simulation.disk import Disk
from proof.simulation.service import ARN, LEASE_SECONDS, NAME, Service
from proof.simulation.tenants import Tenants
from proof.simulation.world import EPOCH, MAPPING, TOPIC, Process
from streamfaas.flow.errors import Busy, Unreachable
from streamfaas.flow.record import Lane
from streamfaas.sources import Arrival, Arrived, Opened, Spawn
from streamfaas.sources.sharded.dynamodb import DynamoDb
from streamfaas.sources.sharded.kinesis import Kinesis
from streamfaas.sources.sharded.machine import ShardedLog
from streamfaas.sources.sharded.options import LeaseOptions, LogOptions
from streamfaas.store.checkpoints import Checkpoints
from streamfaas.wire import shards as wire
from streamfaas.wire.aws import AwsAccess

T = TypeVar("T")


class Wire:
    """A client of the stream, as `wire.kinesis` has one."""

    name = NAME

    def __init__(self, process: Process, service: Service) -> None:
        self._process = process
        self._world = process.world
        self._service = service

    async def open(self) -> None:
        """Nothing is held open."""

    async def close(self) -> None:
        """Nothing is open."""

    remade: ClassVar[str] = "was deleted and made again"

    async def describe(self, lives: Collection[str] = ()) -> wire.Described:
        return await self._ask("describe", self._service.describe)

    async def shards(self) -> tuple[wire.Shard, ...]:
        return await self._ask("list shards", self._service.list)

    async def iterator(self, shard: str, start: wire.Start) -> str:
        return await self._ask("iterator", lambda: self._service.iterator(shard, start))

    async def read(self, iterator: str, records_max: int) -> wire.Page:
        return await self._ask("read", lambda: self._service.read(iterator, records_max))

    async def _ask(self, what: str, act: Callable[[], T]) -> T:
        world, ill, seconds = self._world, self._ill(), self._world.latency()
        seconds += 2 * world.right_in("cut-off", self._process.slot)
        if ill == "late" or world.wrong("slow-service"):
            seconds += 8 * world.chance("late", world.asked)

        def served() -> T:
            world.reach("source")
            if ill == "busy" or (
                world.wrong("throttled") and world.chance("busy", world.asked) < 0.7
            ):
                raise Busy(f"{what}: rate exceeded")
            if ill == "reset":
                raise Unreachable(f"{what}: connection reset")
            if ill == "expired" and what == "read":
                raise wire.IteratorExpired
            answer = act()
            if ill == "unheard":
                raise Unreachable(f"{what}: no answer")
            return answer

        return await self._process.ask(what, served, seconds)

    def _ill(self) -> str:
        world = self._world
        world.asked += 1
        if world.calm or not world.chance.happens(world.plan.wire, "ill", world.asked):
            return ""
        return ILLS[int(world.chance.between(0, len(ILLS), "ill of", world.asked))]


ILLS = ("busy", "reset", "unheard", "expired", "late", "late")


class Shards(ShardedLog):
    """Reads the stream like any other; what it hands over is counted."""

    wire: ClassVar[type[Wire]] = Wire
    table: ClassVar[type[Tenants]] = Tenants
    marks: ClassVar[type[Checkpoints]] = Checkpoints

    def __init__(self, process: Process, service: Service) -> None:
        self._process = process
        world, plan = process.world, process.world.plan
        start = plan.start if isinstance(plan.start, str) else EPOCH + plan.start
        made = world.time_of(("source", process.name))
        self._seat = f"{process.name}/{made + 1}"
        super().__init__(
            MAPPING,
            DynamoDb() if plan.changes else Kinesis(plan.aggregated),
            self.wire(process, service),
            LogOptions(
                start, poll_seconds=plan.poll, commit_seconds=plan.commit, leases=self._leased()
            ),
            origin=wire.Origin(ARN, "local", "arn:aws:iam::000000000000:role/streamfaas"),
            marks=self.marks(Disk(process), MAPPING),  # type: ignore[arg-type]
            memory_lost=False,
            sender=lambda topic: None,  # type: ignore[arg-type,return-value]
            emit=process.emit,
            wall_clock=lambda: world.wall,
            make_table=lambda _, __, *, call_seconds: self.table(process, service, call_seconds),  # type: ignore[arg-type,return-value]
            jitter=lambda: world.chance("poll", world.time_of("poll")),
        )

    def _leased(self) -> LeaseOptions | None:
        if self._process.world.plan.daemons == 1:
            return None
        return LeaseOptions(AwsAccess("local"), "leases", self._seat, LEASE_SECONDS)

    async def open(self, spawn: Spawn) -> None:
        self._process.seat = self._seat
        await super().open(spawn)

    async def next(self, ready: Collection[Lane]) -> Arrival:
        arrival, world = await super().next(ready), self._process.world
        match arrival:
            case Opened(lane):
                self._process.lives[lane.name] += 1
                world.books.harm("handover", f"{TOPIC}-{int(lane.name.split('-')[1])}")
            case Arrived(run):
                self._process.cross("records")
                if not self._readings[run.lane].closing:  # else nobody takes it
                    self._process.received += run.count
                what = "{} has read {} {}..{}"
                world.story.tell("service", what, self._seat, run.lane.name, run.first, run.last)
        return arrival
