"""Windows over a simulated stream for tests: a function that counts, and daemons that crash."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from datetime import datetime

import anyio
import orjson

from lane_scene import WALL, Kept, MemoryOutbox
from streamfaas.engine.lane import LanePolicy, Surroundings
from streamfaas.engine.mapping import Mapping
from streamfaas.engine.requests import RequestIds
from streamfaas.flow.batch import BatchPolicy
from streamfaas.flow.outcome import Failure, Success
from streamfaas.flow.verdict import RetryPolicy
from streamfaas.sources.memory import Memory, MemoryOptions, Stream
from streamfaas.store import windows
from streamfaas.testing.simulation import simulate


class Table:
    """A database with the table of windows; each job takes a moment, and is done whole if it is
    cut off halfway. It is `deaf` for a while, or the next jobs are `failing`."""

    def __init__(self):
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        for statement in windows.SCHEMA:
            self.connection.execute(statement)
        self.failing, self.deaf = [], False

    async def write(self, job):
        await anyio.sleep(100.0 if self.deaf else 0.001)
        if self.failing:
            raise self.failing.pop()
        found = job(self.connection)
        await anyio.sleep(0.001)
        return found

    async def read(self, job):
        await anyio.sleep(0.001)
        return job(self.connection)


class Slow(Memory):
    """A simulated stream whose checkpoints survive a crash a little later than they are told."""

    def __init__(self, *args, commit_seconds=0.5, **options):
        super().__init__(*args, **options)
        self.commit_seconds, self.crashed, self.told = commit_seconds, False, {}

    async def open(self, spawn):
        await super().open(spawn)
        spawn(self.commit_on_time, "commits")

    async def settle(self, settlement):
        name, position = settlement.lane.name, settlement.position
        assert position > self.told.get(name, -1), "a settlement went back"
        self.told[name] = position

    def commit(self):
        for name, position in self.told.items():
            self.stream.checkpoints[name] = max(position, self.stream.checkpoints.get(name, -1))

    async def commit_on_time(self):
        while True:
            await anyio.sleep(self.commit_seconds)
            self.commit()

    async def seek(self, positions):
        for lane in positions:
            self.told.pop(lane.name, None)
        await super().seek(positions)

    async def closed(self, lane):
        if not self.crashed:
            self.commit()
            self.told.pop(lane.name, None)
        await super().closed(lane)

    async def close(self):
        if not self.crashed:
            self.commit()
        await super().close()


class World:
    """What outlives daemons: the stream, the table, and what the function was told at last. The
    function keeps in its state which positions it has seen; `answer(event, outcome)` may think of
    something else."""

    def __init__(self, *, records, rate, partitions=1, seconds=4.0, answer=None, **policy):
        self.stream, self.kept, self.outbox = Stream(), Kept(), MemoryOutbox()
        self.table = Table()
        self.store = windows.Windows(self.table)
        self.options = MemoryOptions("orders", partitions, records, rate)
        self.answer = answer or (lambda event, outcome: outcome)
        self.signals, self.events, self.finals, self.states = [], [], [], []
        self.without = []  # what ran outside of any window
        self.policy, self.seconds = policy, seconds
        self.sources = []

    def make_source(self):
        clock = asyncio.get_running_loop().time
        source = Slow(
            "f/t",
            self.options,
            clock=clock,
            emit=self.signals.append,
            stream=self.stream,
            wall_clock=lambda: WALL + clock(),
        )
        self.sources.append(source)
        return source

    def make(self):
        loop = asyncio.get_running_loop()
        around = Surroundings(
            dispatch=self.dispatch,
            clock=loop.time,
            wall=lambda: WALL + loop.time(),
            jitter=lambda: 0.0,
            request_id=RequestIds(),
            emit=self.signals.append,
            outbox=self.outbox,
            windows=self.store,
        )
        asked = {"batch": BatchPolicy(10), "retry": RetryPolicy()} | self.policy
        policy = LanePolicy(
            "f", "arn:f", set_aside=self.kept, last_resort=self.kept,
            window_seconds=self.seconds, **asked,
        )  # fmt: skip
        return Mapping("f/t", self.make_source, policy, around)

    async def dispatch(self, invocation):
        await anyio.sleep(0.01)
        event = orjson.loads(b"".join(invocation.event.parts))
        self.events.append(event)
        if "window" not in event:
            self.without.append(positions(event))
            return self.answer(event, Success(b"null"))
        seen = event["state"].get("seen", []) + [r["offset"] for r in records_of(event)]
        start = datetime.fromisoformat(event["window"]["start"])
        self.states.append((event["shardId"], int(start.timestamp() * 1000), seen))
        outcome = self.answer(event, Success(orjson.dumps({"state": {"seen": seen}})))
        await anyio.sleep(0.01)
        if event["isFinalInvokeForWindow"] and not isinstance(outcome, Failure):
            self.finals.append(event)
        return outcome

    @contextlib.asynccontextmanager
    async def daemon(self):
        """One life, which ends with a crash."""
        mapping = self.make()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(mapping.run)
            await mapping.connected.wait()
            yield mapping
            self.sources[-1].crashed = True
            tasks.cancel_scope.cancel()

    def seen(self, kind):
        return [signal for signal in self.signals if isinstance(signal, kind)]

    async def until_all_is_counted(self):
        """All records are settled, and no window is open any more."""
        await until(lambda: self.settled == self.options.records and not self.open)

    @property
    def settled(self):
        return sum(position + 1 for position in self.stream.checkpoints.values())

    @property
    def open(self):
        query = "SELECT count(*) FROM windows WHERE start_ms IS NOT NULL"
        return self.table.connection.execute(query).fetchone()[0]


async def until(condition):
    while not condition():  # noqa: ASYNC110 - simulated time costs nothing
        await anyio.sleep(0.05)


def records_of(event):
    return [record for records in event["records"].values() for record in records]


def counted(world):
    """By lane and window, what its last invocations were told: the same each time."""
    found = {}
    for event in world.finals:
        key = event["shardId"], event["window"]["start"]
        found.setdefault(key, []).append(event["state"].get("seen", []))
    for told in found.values():
        assert all(each == told[0] for each in told)
    return {key: told[0] for key, told in found.items()}


def positions(event):
    return [record["offset"] for records in event["records"].values() for record in records]


def lived(world, body=None, seconds=3600):
    """One daemon, until all is counted, or to the end of `body(world, mapping)`."""

    async def main():
        async with world.daemon() as mapping:
            with anyio.fail_after(seconds):
                await (body(world, mapping) if body else world.until_all_is_counted())
        return world

    return simulate(main)[0]


def states(world):
    return [(e["isFinalInvokeForWindow"], len(e["state"].get("seen", []))) for e in world.events]


def partial(event, records, at):
    failed = {"partition": event["shardId"], "offset": records[at]["offset"]}
    seen = event["state"].get("seen", []) + [r["offset"] for r in records[:at]]
    told = {"batchItemFailures": [{"itemIdentifier": failed}], "state": {"seen": seen}}
    return Success(orjson.dumps(told))
