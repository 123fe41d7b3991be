"""The world around the daemons: what is durable, what goes wrong, and how it is asked."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import anyio

from proof.judgement import Wanted
from proof.ledgers import Produced
from proof.recorder.handler import fingerprint
from proof.simulation.books import Books, Story
from proof.simulation.faces import Face, Plain
from proof.simulation.plan import CALM_SECONDS, Plan
from streamfaas.flow.errors import Unreachable
from streamfaas.flow.record import Lane, Record
from streamfaas.telemetry.signals import Emit

EPOCH = 1_700_000_000.0
TOPIC = "orders"
MAPPING = "checkout/orders"
PARTITIONS: dict[str, Callable[[Plan], int]] = {
    "stream": lambda plan: plan.lanes,
    "tray": lambda _: 1,
    "shards": lambda _: 0,
    "messages": lambda _: 0,
}
"""In how many lanes the records lie, where that is known beforehand."""

TARDY_SECONDS = 15.0

T = TypeVar("T")


class Dead(BaseException):
    """The process that would go on here has been killed."""


@dataclass(frozen=True, slots=True)
class Made:
    """A record as it was produced, and what the world knows about it. `record` None: only a
    position without one."""

    position: int
    at: float
    record: Record | None


class Backing(Protocol):
    """What the records come from."""

    @property
    def finished(self) -> bool:
        """All of it is off, or committed."""

    def noticed(self, name: str) -> None:
        """Whoever read under a name that begins so is gone, or knows that its place is."""

    def stored(self, connection: sqlite3.Connection) -> None:
        """Something has been written to a machine's disk."""

    def judged(self, wanted: Wanted) -> Wanted:
        """What must hold, with what only this one knows."""


@dataclass(slots=True)
class Process:
    """One life of a daemon, as far as the world can tell. Everything it asks of the world goes
    through `ask`, and may be the last thing that it does."""

    world: World
    slot: int
    life: int
    alive: bool = True
    killed: bool = False
    steps: int = 0
    dies_at: int | None = None
    dies_on: str = ""
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    received: int = 0
    again: int = 0
    seat: str = ""  # under which it reads
    lives: Counter[str] = field(default_factory=Counter)  # of lanes that may come back
    paused: Any = None  # by whom: then nothing may be begun
    emit: Emit = lambda _: None  # where its signals go

    @property
    def name(self) -> str:
        return f"daemon-{self.slot}.{self.life}"

    def die(self, before: str) -> None:
        if self.alive:
            self.alive, self.killed = False, True
            self.world.story.tell(self.name, "is killed, at: {}", before)
            self.world.books.harm("daemon-kill", self.name)
            self.scope.cancel()

    def cross(self, what: str) -> None:
        """A step that can be the last."""
        self.steps += 1
        if what == self.dies_on or (self.dies_at is not None and self.steps >= self.dies_at):
            self.die(what)
        if not self.alive:
            raise Dead

    async def ask(self, what: str, act: Callable[[], T], seconds: float = 0.0) -> T:
        """Has the other side `act`. What is under way when the asker dies or gives up still
        arrives there."""
        self.cross(what)
        if seconds:
            loop = asyncio.get_running_loop()
            answered: asyncio.Future[T] = loop.create_future()

            def arrive() -> None:
                try:
                    result = act()
                except Exception as error:
                    loop.call_later(seconds / 2, _fail, answered, error)
                else:
                    loop.call_later(seconds / 2, _answer, answered, result)

            loop.call_later(seconds / 2, arrive)
            result = await answered
        else:
            result = act()
        self.cross(f"{what}, done")
        return result


def _answer(future: asyncio.Future[Any], result: object) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


class World:
    """What there is beside the daemons."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.chance = plan.chance
        self._loop = asyncio.get_running_loop()
        self.story = Story(self._loop.time)
        self.books = Books(self._loop.time)
        self.skew = 0.0
        self.over = False
        self.asked = 0
        self._until: dict[tuple[str, int], float] = {}
        self.stores: dict[int, Any] = {}  # of each machine: what is on its disk
        self.tries: dict[object, int] = {}
        self.warned: list[str] = []  # what daemons have told people
        self.face: Face = Plain()
        self.backing: Backing | None = None
        count = PARTITIONS[plan.kind](plan)
        self.lanes = tuple(Lane(MAPPING, f"{TOPIC}-{n}") for n in range(count))
        self.made: dict[Lane, list[Made]] = {lane: self._make(lane) for lane in self.lanes}

    # -- time

    @property
    def now(self) -> float:
        return self._loop.time()

    @property
    def wall(self) -> float:
        return EPOCH + self.now + self.skew

    @property
    def calm(self) -> bool:
        return self.now >= CALM_SECONDS

    def later(self, seconds: float, act: Callable[..., object], *args: object) -> None:
        self._loop.call_later(seconds, act, *args)

    # -- what is wrong at the moment

    def spoil(self, what: str, seconds: float, where: int = 0) -> None:
        self._until[what, where] = max(self._until.get((what, where), 0.0), self.now + seconds)

    def wrong(self, what: str, where: int = 0) -> bool:
        return self.now < self._until.get((what, where), 0.0)

    def right_in(self, what: str, where: int = 0) -> float:
        return max(0.0, self._until.get((what, where), 0.0) - self.now)

    def reach(self, what: str) -> None:
        if self.wrong(what):
            raise Unreachable(f"{what}: nobody answers")

    def time_of(self, what: object) -> int:
        """How often this has been asked before."""
        times = self.tries.get(what, 0)
        self.tries[what] = times + 1
        return times

    def latency(self) -> float:
        """What a request takes: often nothing that matters."""
        self.asked += 1
        draw = self.chance("latency", self.asked)
        return 0.0 if draw < 0.5 else 0.04 * (draw - 0.5)

    # -- records

    def _make(self, lane: Lane) -> list[Made]:
        plan, chance = self.plan, self.chance
        made: list[Made] = []
        position = int(chance.between(0, 3, "first", lane.name))
        for number in range(plan.records):
            at = plan.spread * number / plan.records
            while chance.happens(plan.gaps, "gap", lane.name, position):
                if chance("marker", lane.name, position) < 0.5:
                    made.append(Made(position, at, None))
                position += 1
            made.append(Made(position, at, self._record(lane, position, number, at)))
            position += 1
        return made

    def _record(self, lane: Lane, position: int, number: int, at: float) -> Record:
        plan, chance, name = self.plan, self.chance, lane.name
        key = None
        if not chance.happens(plan.keyless, "keyless", name, number):
            key = self.key(name, number)
        if chance.happens(plan.tardy, "tardy", name, number):
            at -= chance.between(0, TARDY_SECONDS, "tardy by", name, number)
        return self.produce(lane, position, number, at, key)

    def key(self, *purpose: object) -> bytes:
        return b"key-%d" % int(self.chance.between(0, self.plan.keys, "key", *purpose))

    def produce(
        self, lane: Lane, position: int, number: int, at: float, key: bytes | None
    ) -> Record:
        """Makes the record of this name, and writes it down."""
        plan, chance = self.plan, self.chance
        large = chance.happens(plan.large, "large", lane.name, number)
        size = plan.event_bytes if large else int(chance.between(0, 60, "size", lane.name, number))
        value = f"{lane.name} {number} ".encode() + b"x" * size
        record = Record(lane, position, value, key, round((EPOCH + at) * 1000))
        self.books.produced.append(
            Produced(
                id=f"{lane.name}/{number}",
                topic=TOPIC,
                partition=self.partition(lane),
                offset=position,
                fingerprint=fingerprint(record.timestamp_ms, key, value).hex(),
                key=None if key is None else key.decode(),
                at=EPOCH + at,
                large=large,
            )
        )
        return record

    def unwanted(self, name: str) -> bool:
        """Whether the filter leaves out the record of this name (`lane/number`)."""
        return self.chance.happens(self.plan.unwanted, "unwanted", name)

    def poisonous(self, name: str) -> bool:
        """Whether the function can never do it."""
        lane, number = name.split("/")
        return self.chance.happens(self.plan.poison, "poison", lane, number)

    @staticmethod
    def name_of(value: bytes | str) -> str:
        """Every value begins with the record's name."""
        text = value.decode() if isinstance(value, bytes) else value
        lane, number, _ = text.split(" ", 2)
        return f"{lane}/{number}"

    @staticmethod
    def partition(lane: Lane) -> int:
        return int(lane.name.rpartition("-")[2])
