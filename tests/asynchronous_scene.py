"""The asynchronous invocations of a function, from a real store to destinations that keep what they
are sent, in simulated time."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio

from config_project import FUNCTION, valid
from lane_scene import WALL, Kept
from streamfaas.daemon.build import plan_of
from streamfaas.daemon.deliveries import Destinations
from streamfaas.engine.lane import Surroundings
from streamfaas.engine.mapping import Mapping
from streamfaas.engine.requests import RequestIds
from streamfaas.sources.backlog import AsyncInvocations, BacklogOptions
from streamfaas.store import Store
from streamfaas.store.backlog import Backlog
from streamfaas.store.outbox import Outbox
from streamfaas.testing.simulation import simulate

NAME = "f/asynchronous"


class Still:
    """A store. While it works no time passes: it has threads and a disk of its own."""

    def __init__(self, store):
        self._store = store

    async def write(self, job, **options):
        with asyncio.get_running_loop().standing_still():
            return await self._store.write(job, **options)

    async def read(self, job, **options):
        with asyncio.get_running_loop().standing_still():
            return await self._store.read(job, **options)


@asynccontextmanager
async def stored(folder):
    loop = asyncio.get_running_loop()
    with loop.standing_still():
        store = await Store.open(folder / "state" / "streamfaas.db")
    try:
        yield Still(store)
    finally:
        with loop.standing_still():
            await store.close()


class Invocations:
    """One function, `answer(event, attempt)`. `asked` is its `asynchronous` in the configuration;
    the destinations are replaced by ones that keep what they are sent."""

    def __init__(self, folder, answer, asked="{}", *, start=0.0, **destinations):
        self.folder, self.answer, self.start = folder, answer, start
        self.calls, self.signals = [], []
        self.failed, self.answered, self.dead, self.last = Kept(), Kept(), Kept(), Kept()
        self._policy = _policy(folder, asked)
        self._destinations = destinations

    @asynccontextmanager
    async def running(self):
        """A life of the mapping, over what the store holds."""
        async with stored(self.folder) as store:
            self.backlog = Backlog(store, wall_clock=self.wall)
            chosen = {
                "set_aside": self.failed,
                "on_success": self.answered,
                "dead_letter": self.dead,
                "last_resort": self.last,
                **{name: make(self.backlog) for name, make in self._destinations.items()},
            }
            self.mapping = Mapping(
                NAME, self._source, replace(self._policy, **chosen), self._around(store)
            )
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.mapping.run)
                try:
                    yield self
                finally:
                    await self.mapping.stop(5.0)

    async def until_nothing_waits(self):
        while any(queue.events for queue in await self.backlog.queues()):  # noqa: ASYNC110 - simulated
            await anyio.sleep(10)

    def now(self):
        return self.start + asyncio.get_running_loop().time()

    def wall(self):
        return WALL + self.now()

    def runs(self):
        """When the function ran, in whole seconds."""
        return [round(at) for at, *_ in self.calls]

    async def dispatch(self, invocation):
        assert len(self.calls) < 1000, "it does not end"
        event = b"".join(invocation.event.parts)
        self.calls.append((self.now(), invocation.id, event, invocation.attempt))
        return self.answer(event, invocation.attempt)

    def _source(self):
        return AsyncInvocations(
            NAME,
            BacklogOptions("f"),
            backlog=self.backlog,
            clock=asyncio.get_running_loop().time,
            emit=self.signals.append,
        )

    def _around(self, store):
        return Surroundings(
            dispatch=self.dispatch,
            clock=asyncio.get_running_loop().time,
            wall=self.wall,
            jitter=lambda: 0.0,
            request_id=RequestIds(),
            emit=self.signals.append,
            outbox=Outbox(store, emit=self.signals.append, wall_clock=self.wall),
        )


def _policy(folder, asked):
    """What the daemon makes of the configuration."""
    (folder / "code").mkdir(exist_ok=True)
    (folder / "code" / "app.py").write_text("def main(event, context): pass\n")
    config = valid(f"version: 1\n{FUNCTION}    asynchronous: {asked}\n", folder)
    plan = plan_of(config, folder / "streamfaas.yaml")
    return plan.asynchronous["f"].policy_maker(Destinations({}, None, [].append))


def invoked(invocations, event, request_id="r-1", *, seconds=0.0, **more):
    """Accepts an event, and runs until nothing waits, or for so long."""

    async def main():
        async with invocations.running():
            await invocations.backlog.accept("f", event, request_id, **more)
            if seconds:
                await anyio.sleep(seconds)
            else:
                await invocations.until_nothing_waits()

    simulate(main)
    return invocations
