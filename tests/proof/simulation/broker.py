"""A broker, as far as a consumer group can tell: a log a partition, seats, and what is committed."""

from __future__ import annotations

import asyncio
import sqlite3
from bisect import bisect_left
from dataclasses import dataclass, field, replace

from proof.judgement import Wanted
from proof.ledgers import Committed
from proof.simulation.world import TOPIC, Made, World
from streamfaas.flow.record import Lane

GROUP = "streamfaas.checkout.orders"
SESSION_SECONDS = 6.0
REBALANCE_SECONDS = 12.0
GUEST = "guest"


class Fenced(Exception):
    """The seat is not one of this generation."""


@dataclass(slots=True)
class Seat:
    """A member. `joined`: it waits for the next generation."""

    name: str
    expires: asyncio.TimerHandle | None = None
    joined: asyncio.Future[tuple[int, list[Lane]]] | None = None
    lanes: list[Lane] = field(default_factory=list)


class Broker:
    """Keeps what a broker keeps, and does on its own what a broker does on its own."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._loop = asyncio.get_running_loop()
        self.committed: dict[Lane, int] = {}
        self._positions = {
            lane: [made.position for made in rows] for lane, rows in world.made.items()
        }
        self._times = {lane: [made.at for made in rows] for lane, rows in world.made.items()}
        self.generation = 0
        self._seats: dict[str, Seat] = {}
        self._deadline: asyncio.TimerHandle | None = None
        self._put_out: dict[str, int] = {}  # who does not know it yet, and the row of K

    # -- the log

    def fetch(self, lane: Lane, position: int, count: int) -> list[Made]:
        """What is there from a position on."""
        rows = self._world.made[lane]
        start = bisect_left(self._positions[lane], position)
        found = rows[start : start + count]
        while found and found[-1].at > self._world.now:
            found.pop()
        return found

    def next_at(self, lane: Lane, position: int) -> float | None:
        """When there will be something from a position on; None: never."""
        start = bisect_left(self._positions[lane], position)
        times = self._times[lane]
        return times[start] if start < len(times) else None

    def end(self, lane: Lane) -> int:
        return self._positions[lane][-1] + 1

    @property
    def finished(self) -> bool:
        return all(self.committed.get(lane, 0) >= self.end(lane) for lane in self._world.lanes)

    def reader(self, lane: Lane) -> int | None:
        """The machine that has a lane."""
        for name, seat in self._seats.items():
            if lane in seat.lanes and name != GUEST:
                return int(name.partition("-")[2].partition(".")[0])
        return None

    def stored(self, connection: sqlite3.Connection) -> None:
        """Nothing of that is ours."""

    def judged(self, wanted: Wanted) -> Wanted:
        return wanted

    # -- the group

    @property
    def preparing(self) -> bool:
        return self._deadline is not None

    def join(self, name: str) -> asyncio.Future[tuple[int, list[Lane]]]:
        """The seat in the next generation, once all have joined it or been put out."""
        seat = self._seats.setdefault(name, Seat(name))
        seat.joined = joined = self._loop.create_future()
        self._touch(seat)
        self._prepare()
        self._maybe_begin()
        return joined

    def leave(self, name: str) -> None:
        seat = self._seats.pop(name, None)
        self.noticed(name)
        if seat is None:
            return
        if seat.expires is not None:
            seat.expires.cancel()
        self._world.story.tell("broker", "{} leaves", name)
        self._prepare()
        self._maybe_begin()

    def visit(self, seconds: float) -> None:
        """A stranger takes its share for a while, and does nothing with it."""
        if GUEST not in self._seats:
            self._world.story.tell("broker", "a guest joins for {:.1f} s", seconds)
            self._seats[GUEST] = Seat(GUEST)
            self._loop.call_later(seconds, self.leave, GUEST)
            self._prepare()
            self._maybe_begin()

    def heartbeat(self, name: str, generation: int) -> bool:
        """Whether the generation stands; False: join the next one."""
        seat = self._seat(name, generation)
        self._touch(seat)
        return not self.preparing

    def commit(self, name: str, generation: int, offsets: dict[Lane, int]) -> None:
        self._seat(name, generation)
        self.write(name, offsets)

    def write(self, name: str, offsets: dict[Lane, int]) -> None:
        for lane, offset in offsets.items():
            self.committed[lane] = offset
            self._world.story.tell("broker", "{} commits {} at {}", name, lane.name, offset)
            self._world.books.committed.append(
                Committed(self._world.now, GROUP, TOPIC, self._world.partition(lane), offset)
            )

    def _seat(self, name: str, generation: int) -> Seat:
        if name not in self._seats or generation != self.generation:
            self._world.story.tell("broker", "{} of generation {} is refused", name, generation)
            raise Fenced
        return self._seats[name]

    def _touch(self, seat: Seat) -> None:
        if seat.expires is not None:
            seat.expires.cancel()
        seat.expires = self._loop.call_later(SESSION_SECONDS, self._expel, seat)

    def _expel(self, seat: Seat) -> None:
        if self._seats.get(seat.name) is seat and seat.joined is None:
            self._put(seat, "not heard of", SESSION_SECONDS)
            self._prepare()
            self._maybe_begin()

    def _put(self, seat: Seat, why: str, seconds: float) -> None:
        """Out of the group."""
        del self._seats[seat.name]
        if seat.expires is not None:
            seat.expires.cancel()
        self._world.story.tell("broker", "{} is put out: {}", seat.name, why)
        since = self._world.now - seconds
        self._put_out[seat.name] = self._world.books.harm("seat-lost", seat.name, since)

    def noticed(self, name: str) -> None:
        """Who was put out knows it, or knows nothing any more: till then it went on."""
        rows = self._world.books.harmed
        for one in [one for one in self._put_out if one.startswith(name)]:
            number = self._put_out.pop(one)
            rows[number] = replace(rows[number], end=self._world.now)

    def _prepare(self) -> None:
        if self._deadline is None:
            self._deadline = self._loop.call_later(REBALANCE_SECONDS, self._begin)

    def _maybe_begin(self) -> None:
        if all(seat.joined or seat.name == GUEST for seat in self._seats.values()):
            self._begin()

    def _begin(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        for late in [s for s in self._seats.values() if not s.joined and s.name != GUEST]:
            self._put(late, "it did not join", REBALANCE_SECONDS)
        self.generation += 1
        names = sorted(self._seats)
        for seat in self._seats.values():
            seat.lanes = []
        for number, lane in enumerate(self._world.lanes):
            if names:
                self._seats[names[(number + self.generation) % len(names)]].lanes.append(lane)
                self._world.books.harm("handover", lane.name)
        for seat in self._seats.values():
            shares = " ".join(lane.name for lane in seat.lanes) or "nothing"
            self._world.story.tell(
                "broker", "generation {}: {} has {}", self.generation, seat.name, shares
            )
            joined, seat.joined = seat.joined, None
            if seat.name != GUEST:
                self._touch(seat)
            if joined is not None and not joined.done():
                joined.set_result((self.generation, seat.lanes))
