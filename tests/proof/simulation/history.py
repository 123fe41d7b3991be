"""One seed is one history: it is lived, and then judged by its ledgers."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass

import anyio
from anyio.abc import TaskGroup

from proof.checker import Report, Wanted, check
from proof.ledgers import Harmed, Ledgers
from proof.simulation import disk
from proof.simulation.books import Story
from proof.simulation.broker import Broker
from proof.simulation.daemon import Daemon
from proof.simulation.loop import repeatably
from proof.simulation.mailbox import Mailbox
from proof.simulation.parts import REAL, Parts
from proof.simulation.plan import REST_SECONDS, Fault, Plan, Trouble
from proof.simulation.queue import Queue
from proof.simulation.reducer import all_ended, left_open
from proof.simulation.service import Service
from proof.simulation.shelf import Shelf
from proof.simulation.world import Backing, World


@dataclass(frozen=True, slots=True)
class History:
    """What happened, and what is wrong with it."""

    plan: Plan
    story: Story
    ledgers: Ledgers
    report: Report
    seconds: float
    turns: int
    failure: BaseException | None = None  # an exception of ours: no invariant, and worse

    @property
    def broken(self) -> frozenset[str]:
        return self.report.broken | ({"bug"} if self.failure is not None else set())

    @property
    def complaints(self) -> list[str]:
        found = list(map(str, self.report.violations))
        return found if self.failure is None else [_innermost(self.failure), *found]


def live(plan: Plan, parts: Parts = REAL) -> History:
    """Lives a plan to its end, and judges it."""
    worlds: list[World] = []
    failure: BaseException | None = None

    async def main() -> None:
        worlds.append(World(plan))
        await _history(worlds[0], parts)

    seconds, turns = 0.0, 0
    try:
        _, loop = repeatably(main)
        seconds, turns = loop.time(), loop.turns
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        failure = error
    world = worlds[0]
    if failure is not None:
        world.story.tell("daemon", "fails: {}", "".join(traceback.format_exception(failure)))
    disk.close(world)
    ledgers = world.books.ledgers()
    report = check(ledgers, wanted(world))
    return History(plan, world.story, ledgers, report, seconds, turns, failure)


def wanted(world: World) -> Wanted:
    """What the checker has to know of a world."""
    plan = world.plan
    names = [row.id for row in world.books.produced]
    quiet = not plan.faults and plan.trouble == Trouble()
    alone = not plan.queue and plan.strands == 1
    faults = {fault.kind for fault in plan.faults}
    replay_max = {"worker-kill": plan.batch}
    if (
        alone
        and plan.kind == "stream"
        and not plan.commit
        and not faults & {"cut-off", "source-away"}
    ):
        replay_max["daemon-kill"] = plan.batch * plan.lanes
    known = Wanted(
        attempts_max=None if plan.retries is None else plan.retries + 1,
        order=_order(plan),
        replay_max=replay_max,
        age_max=plan.age,
        answered=plan.answers,
        kept=plan.daemons == 1 and "store-full" not in faults and not (plan.redrive or plan.twice),
        halved=plan.bisect,
        bisected=plan.bisect and (not plan.partial or plan.lowest),
        poison=frozenset(filter(world.poisonous, names))
        if quiet and alone and not plan.partial and not plan.large and not plan.age
        else None,
        filtered=frozenset(filter(world.unwanted, names)),
        windows=frozenset(round(1000 * seconds) for seconds in plan.tumbling),
        shared=plan.daemons > 1,
        forgets=plan.retention is not None,
    )
    return known if world.backing is None else world.backing.judged(known)


def _order(plan: Plan) -> str:
    if plan.kind == "messages":
        return "key" if plan.fifo else "none"
    if plan.queue:
        return "key" if plan.batch == 1 else "none"
    return "lane" if plan.strands == 1 else "key"


BACKINGS: dict[str, Callable[[World], Backing]] = {
    "stream": Broker,
    "tray": Queue,
    "shards": Service,
    "messages": Mailbox,
}


async def _history(world: World, parts: Parts) -> None:
    plan = world.plan
    backing = world.backing = BACKINGS[plan.kind](world)
    shelf = Shelf(world)
    daemons = [Daemon(world, slot, parts, shelf, backing) for slot in range(plan.daemons)]
    async with anyio.create_task_group() as tasks:
        for daemon in daemons:
            tasks.start_soon(daemon.run)
        for fault in plan.faults:
            await anyio.sleep(max(0.0, fault.at - world.now))
            _strike(fault, world, daemons, tasks)
        rest = REST_SECONDS + sum(one.seconds for one in plan.faults if one.kind == "down")
        while not (backing.finished and all_ended(world)) and world.now < rest:
            await anyio.sleep(1.0)
            if int(world.now) % 7 == 0:
                for daemon in daemons:
                    daemon.scrape()
        rested = backing.finished and all_ended(world)
        world.story.tell("world", "rests" if rested else "does not come to rest")
        world.books.left_open += left_open(world)
        world.over = True
        for daemon in daemons:
            await daemon.stop()
        tasks.cancel_scope.cancel()


TOLD_SECONDS = 10.0
"""After which a queue that is back has been told what was done meanwhile."""

STEPS = ("send", "send, done", "commit", "commit, done", "store, done", "answer", "settle, done")
"""Steps at which a daemon may be killed on purpose: those where something is half done."""

DESTINATION_AWAY = ("destination-down", "destination-refuses", "destination-slow")


def _strike(fault: Fault, world: World, daemons: list[Daemon], tasks: TaskGroup) -> None:
    daemon = daemons[fault.where % len(daemons)]
    match fault.kind:
        case "kill":
            daemon.kill(fault.count)
        case "kill-on":
            daemon.kill_on(STEPS[fault.count % len(STEPS)])
        case "down":
            daemon.fall(fault.seconds)
        case "split" | "merge":
            world.story.tell("service", "it is time for a {}", fault.kind)
        case "expire":
            assert isinstance(daemon.backing, Service)
            daemon.backing.void()
            world.story.tell("service", "all iterators have expired")
        case "skip":
            daemon.skip()
        case "seek":
            tasks.start_soon(daemon.seek, fault.count)
        case "pause":
            daemon.pause(fault.seconds)
        case "stop":
            tasks.start_soon(daemon.stop)
        case "reload":
            tasks.start_soon(daemon.reload)
        case "guest":
            assert isinstance(daemon.backing, Broker)
            daemon.backing.visit(fault.seconds)
        case "wall":
            world.skew += (fault.count - 20) * (1.0 if world.plan.tumbling else 600.0)
            world.story.tell("world", "the wall clock is off by {:.0f} s", world.skew)
        case "source-away":
            world.spoil("source", fault.seconds)
            if world.plan.kind == "messages":  # what was done of it cannot be told
                until = world.now + fault.seconds + TOLD_SECONDS
                world.books.harmed.append(Harmed("ack-lost", "queue: away", world.now, until))
            world.story.tell("world", "the source is away for {} s", fault.seconds)
            for one in daemons:
                one.stir()
        case _:
            world.spoil(fault.kind, fault.seconds, fault.where)
            full = fault.kind == "store-full"
            if full or (world.plan.answers and fault.kind in DESTINATION_AWAY):
                # what cannot be told or ticked off is not known to anybody else
                until = world.now + fault.seconds + world.plan.backoff_max
                world.books.harmed.append(Harmed("ack-lost", fault.kind, world.now, until))
            world.story.tell("world", "{} for {} s ({})", fault.kind, fault.seconds, fault.where)


def _innermost(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return "bug: " + "".join(traceback.format_exception_only(error)).strip()
