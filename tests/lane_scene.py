"""A lane for tests: over a listed source, in simulated time, with a function made of a callable."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import anyio
import orjson

from listed import LANE, Listed, records
from streamfaas.engine.lane import LanePolicy, LaneRunner, Surroundings
from streamfaas.engine.requests import RequestIds
from streamfaas.flow.batch import BatchPolicy
from streamfaas.flow.errors import Unreachable
from streamfaas.flow.outcome import Failure, Fault
from streamfaas.flow.record import Record, run_of_records
from streamfaas.flow.verdict import RetryPolicy
from streamfaas.store.intents import DELIVERED, INTENDED, SETTLED
from streamfaas.telemetry.recorder import Recorder, Sampling
from streamfaas.testing.simulation import simulate

WALL = 1_700_000_000.0

BAD = Failure(Fault.FUNCTION, "KeyError", "'total'")


class Kept:
    """A destination that keeps what it is sent, and is unreachable the first `down` times."""

    kind = "kept"
    per_record = False
    notes = False
    payload = "json"
    name = "kept"

    def __init__(self, down=0):
        self.documents, self.letters, self.down = [], [], down

    async def open(self): ...
    async def close(self): ...

    async def send(self, letters):
        if self.down:
            self.down -= 1
            raise Unreachable("no route")
        self.letters += letters
        self.documents += [orjson.loads(letter.document) for letter in letters]


class Scene:
    """A lane over a listed source, with a function given by `answer(values, attempt)`. `policy`
    are fields of the lane's policy, `retry` of its retries; `outbox` outlives lanes. `traces` are
    those that were kept, by `sampling`."""

    def __init__(
        self,
        answer,
        *,
        size=10,
        window=0.0,
        retries=None,
        queue=False,
        kept=None,
        retry=None,
        policy=None,
        outbox=None,
        source=None,
        sampling=None,
    ):
        self.source = source or Listed(queue=queue)
        self.kept = kept or Kept()
        self.calls, self.signals, self.answer = [], [], answer
        self.traces, self.contexts = [], []
        loop = asyncio.get_running_loop()
        self.recorder = Recorder(
            sampling or Sampling(),
            self.traces.append,
            now=lambda: round(loop.time() * 1e9),
            wall=lambda: round((WALL + loop.time()) * 1e9),
        )
        around = Surroundings(
            dispatch=self.dispatch,
            clock=loop.time,
            wall=lambda: WALL + loop.time(),
            jitter=lambda: 0.0,
            request_id=RequestIds(),
            emit=self.signals.append,
            outbox=outbox,
            recorder=self.recorder,
        )
        chosen = LanePolicy(
            "f",
            "arn:aws:lambda:us-east-1:000000000000:function:f",
            BatchPolicy(size, window_seconds=window),
            RetryPolicy(retries, **(retry or {})),
            self.kept,
            self.kept,
        )
        chosen = replace(chosen, **(policy or {}))
        self.lane = LaneRunner(LANE, self.source, chosen, around, lambda lane: None)

    async def dispatch(self, invocation):
        values = self.values(orjson.loads(b"".join(invocation.event.parts)))
        self.contexts.append(invocation.context)
        self.calls.append((asyncio.get_running_loop().time(), values, invocation.attempt))
        outcome = self.answer(values, invocation.attempt)
        return await outcome if asyncio.iscoroutine(outcome) else outcome

    @staticmethod
    def values(event):
        """What the function is told of an event: of a listed source it is the values."""
        return event

    def offer(self, count, start=0):
        self.lane.offer(run_of_records(records(count, start=start)))

    def put(self, *keys, start=0, age=0.0):
        """Offers records with these keys, as old as that."""
        moment = int((WALL + asyncio.get_running_loop().time() - age) * 1000)
        made = [
            Record(LANE, at, str(at).encode(), key, timestamp_ms=moment)
            for at, key in enumerate(keys, start)
        ]
        self.lane.offer(run_of_records(tuple(made)))

    async def run_until(self, condition):
        async with anyio.create_task_group() as tasks:
            await self.lane.open()
            tasks.start_soon(self.lane.run)
            while not condition():  # noqa: ASYNC110 - simulated time costs nothing
                await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()

    async def run_out(self):
        """Until nothing is unfinished."""
        await self.run_until(lambda: self.lane.unfinished == 0)

    @property
    def checkpoint(self):
        return self.source.settled[-1].position if self.source.settled else None

    def seen(self, kind):
        return [signal for signal in self.signals if isinstance(signal, kind)]


class MemoryOutbox:
    """Keeps intents as the store does, for as long as the test keeps it."""

    def __init__(self):
        self.intents = {}
        self.steps = []

    async def intend(self, intent):
        await anyio.sleep(0.001)
        self.steps.append(("intend", intent.ranges))
        self.intents.setdefault(intent.id, intent)

    async def delivered(self, id_, place):
        await anyio.sleep(0.001)
        self.steps.append(("delivered", self.intents[id_].ranges))
        self.intents[id_] = replace(self.intents[id_], state=DELIVERED, destination=place)

    async def guarding(self, mapping, lane):
        found = [
            one
            for one in self.intents.values()
            if (one.mapping, one.lane) == (mapping, lane) and one.state != SETTLED
        ]
        return tuple(sorted(found, key=lambda one: one.ranges))

    async def settled(self, mapping, lane, upto_position):
        for one in await self.guarding(mapping, lane):
            if one.state == DELIVERED and one.ranges[-1][1] <= upto_position:
                await self.settled_ids([one.id])

    async def settled_ids(self, ids):
        for id_ in ids:
            if self.intents[id_].state == DELIVERED:
                self.intents[id_] = replace(self.intents[id_], state=SETTLED)

    def open(self):
        return [one for one in self.intents.values() if one.state in {INTENDED, DELIVERED}]


def scene(body, *args, make=Scene, **kwargs):
    """Simulates `body(Scene(...))`; gives back the scene."""

    async def main():
        made = make(*args, **kwargs)
        await body(made)
        return made

    return simulate(main)[0]
