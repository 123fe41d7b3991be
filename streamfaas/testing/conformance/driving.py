"""One source object, driven as the engine drives it, but one step at a time."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

import anyio
from anyio.abc import TaskGroup

from streamfaas.flow.batch import Batch
from streamfaas.flow.ledger import Ledger, QueueLedger
from streamfaas.flow.record import Instant, Lane, Record, Run
from streamfaas.sources import Arrived, Closing, Opened, Source, Spawn

PATIENCE_SECONDS = 60.0
"""How long anything that must happen may take; a machine of tests may be slow."""

QUIET_SECONDS = 0.3
"""How long nothing must happen where nothing may."""

CLOSE_SECONDS = 20.0

Identity: TypeAlias = tuple[bytes | None, bytes | None]


def identity(record: Record) -> Identity:
    """What makes a record this one, wherever it stands."""
    return record.key, record.value


def identities(records: Iterable[Record]) -> set[Identity]:
    """Of all of them."""
    return set(map(identity, records))


@dataclass(slots=True)
class Driver:
    """What has been taken over is kept in `taken` until it is settled; everything that ever came is
    in `seen`."""

    source: Source
    tasks: TaskGroup
    ready: set[Lane] = field(default_factory=set)
    ledgers: dict[Lane, Ledger] = field(default_factory=dict)
    taken: deque[Run] = field(default_factory=deque)
    closing: dict[Lane, float] = field(default_factory=dict)
    seen: list[Record] = field(default_factory=list)

    async def step(self) -> Opened | Arrived | Closing:
        """One arrival, taken in."""
        with anyio.fail_after(PATIENCE_SECONDS):
            arrival = await self.source.next(self.ready)
        match arrival:
            case Opened(lane):
                assert lane not in self.ledgers, f"{lane} was opened twice"
                self.ledgers[lane] = self.source.ledger(lane)
                self.ready.add(lane)
            case Closing(lane, grace_seconds):
                assert lane in self.ledgers, f"{lane} closes, and was never opened"
                assert lane not in self.closing, f"{lane} was told to close twice"
                self.closing[lane] = grace_seconds  # and it stays ready: the source knows
            case Arrived(run):
                assert run.lane in self.ready, f"{run.lane} was not ready"
                assert run.lane not in self.closing, f"{run.lane} is closing"
                self.ledgers[run.lane].take(run)
                records = self.records(run)
                assert len(records) == run.count
                self.taken.append(run)
                self.seen += records
        return arrival

    def records(self, *runs: Run) -> list[Record]:
        """Those of all of them, one run after the other."""
        return [record for run in runs for record in self.source.records(Batch((run,)))]

    def seen_of(self, lane: Lane) -> list[Record]:
        return [record for record in self.seen if record.lane == lane]

    # -- until something has come

    async def take(self, count: int) -> list[Record]:
        """Steps until so many records have come that this object had not seen before."""
        before = len(self.seen)
        while len(self.seen) - before < count:
            while not self.may_take():
                await self.finish(self.taken[0])
            await self.step()
        return self.seen[before:]

    def may_take(self) -> bool:
        """Whether something may come: a queue gives nothing to lanes that are busy."""
        queues = {lane for lane, ledger in self.ledgers.items() if isinstance(ledger, QueueLedger)}
        busy = {run.lane for run in self.taken} & queues
        return not self.ledgers or bool(self.ready - busy)

    async def take_everything(self, count: int, without: Iterable[Identity] = ()) -> set[Identity]:
        """Takes and finishes until `count` different records are known, those of `without` too."""
        known = set(without)
        await self.finish_all()
        while len(identities(self.seen) | known) < count:
            await self.step()
            await self.finish_all()
        return identities(self.seen)

    async def until(self, lane: Lane, count: int) -> list[Record]:
        """So many records of a lane, from here on."""
        before = len(self.seen_of(lane))
        while len(came := self.seen_of(lane)[before:]) < count:
            await self.step()
        return came

    async def until_open(self, lane: Lane) -> None:
        while lane not in self.ledgers:
            await self.step()

    async def until_again(self, wanted: Record) -> Run:
        """The run of this one record. Finishes whatever else comes."""
        while True:
            for run in list(self.taken):
                if identities(self.records(run)) == {identity(wanted)}:
                    return run
                await self.finish(run)
            await self.step()

    async def quiet(self) -> None:
        """No record comes for a while. Lanes that are opened meanwhile are ready, unless it is
        that none shall be."""
        none_ready = bool(self.ledgers) and not self.ready
        with anyio.move_on_after(QUIET_SECONDS):
            while True:
                arrival = await self.step()
                assert not isinstance(arrival, Arrived), f"{arrival} came unasked"
                if none_ready:
                    self.ready.clear()

    # -- what becomes of it

    async def finish(self, run: Run) -> None:
        self.taken.remove(run)
        settlement = self.ledgers[run.lane].finish(Batch((run,)))
        if settlement is not None:
            with anyio.fail_after(PATIENCE_SECONDS):
                await self.source.settle(settlement)

    async def finish_all(self) -> None:
        while self.taken:
            await self.finish(self.taken[0])

    async def release(self, run: Run, at: Instant | None, reason: str = "") -> None:
        self.taken.remove(run)
        ledger, counted = self.ledgers[run.lane], at is not None
        settlement = ledger.release(Batch((run,)), at, counted=counted, reason=reason)
        assert settlement is not None
        with anyio.fail_after(PATIENCE_SECONDS):
            await self.source.settle(settlement)

    def let_go(self, lane: Lane) -> None:
        """What is in hand of the lane is not finished with any more: it is about to be sought."""
        self.taken = deque(run for run in self.taken if run.lane != lane)
        self.ledgers.pop(lane, None)
        self.ready.discard(lane)

    async def leave(self, lane: Lane) -> None:
        """What is in hand of a lane that closes is finished, and it is let go."""
        self.ready.discard(lane)
        for run in [run for run in self.taken if run.lane == lane]:
            await self.finish(run)
        with anyio.fail_after(PATIENCE_SECONDS):
            await self.source.closed(lane)
        del self.ledgers[lane], self.closing[lane]

    async def close(self) -> None:
        await closed(self.source)


@contextlib.asynccontextmanager
async def driven(source: Source) -> AsyncIterator[Driver]:
    """An open source. It is closed at the end if nobody has done so."""
    async with crashed(source) as driver:
        try:
            yield driver
        finally:
            with anyio.CancelScope(shield=True):
                await driver.close()


@contextlib.asynccontextmanager
async def crashed(source: Source) -> AsyncIterator[Driver]:
    """An open source that nobody closes: its tasks are gone at the end, and it hears nothing."""
    async with anyio.create_task_group() as tasks:
        await opened(source, tasks)
        try:
            yield Driver(source, tasks)
        finally:
            tasks.cancel_scope.cancel()


async def opened(source: Source, tasks: TaskGroup) -> None:
    """In time."""
    with anyio.fail_after(PATIENCE_SECONDS):
        await source.open(_spawn(tasks))


async def closed(source: Source) -> None:
    """In time."""
    with anyio.fail_after(CLOSE_SECONDS):
        await source.close()


def _spawn(tasks: TaskGroup) -> Spawn:
    def spawn(work: Callable[[], Awaitable[None]], name: str) -> None:
        async def run() -> None:
            await work()

        tasks.start_soon(run, name=name)

    return spawn
