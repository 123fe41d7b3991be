"""An engine in small: reads a Kafka source, settles at once or when told, and remembers all."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from contextlib import asynccontextmanager, suppress

import anyio

from streamfaas.flow.batch import Batch
from streamfaas.flow.ledger import Checkpoint
from streamfaas.sources import Arrived, Closing, Opened
from streamfaas.sources.kafka import Kafka, KafkaOptions

WAIT_SECONDS = 60.0


class Reader:
    """`records` are what came, by lane; `values` their values. With `settling` false nothing is
    finished until `settle` is called; with `closing` false a lane that is told to close does not."""

    def __init__(self, name, options, *, settling=True, closing=True):
        self.signals = []
        self.source = Kafka(name, options, clock=time.monotonic, emit=self.signals.append)
        self.settling = settling
        self.closing = closing
        self.ready = set()
        self.open = set()
        self.opened = []
        self.told_to_close = []
        self.runs = []
        self.records = defaultdict(list)
        self.error = None
        self.expected = {}
        self.rewound = ()
        self._changed = asyncio.Event()

    @property
    def values(self):
        return [r.value for lane in sorted(self.records) for r in self.records[lane]]

    async def read(self):
        try:
            while True:
                match await self.source.next(self.ready):
                    case Opened(lane):
                        assert lane not in self.open
                        self.open.add(lane)
                        self.opened.append(lane)
                        self.expected.pop(lane, None)
                        self.ready.add(lane)
                    case Arrived(run):
                        await self._take(run)
                    case Closing(lane, grace):
                        self.told_to_close.append((lane, grace))
                        self.ready.discard(lane)
                        if self.closing:
                            await self.close_lane(lane)
                self._changed.set()
        except Exception as error:
            self.error = error
            self._changed.set()
            raise

    async def _take(self, run):
        lane = run.lane
        assert lane in self.ready
        assert run.first == self.expected.get(lane, run.first) or lane in self.rewound
        self.expected[lane] = run.last + 1
        self.runs.append(run)
        self.records[lane] += self.source.records(Batch((run,)))
        if self.settling:
            await self.settle(lane, run.last)

    async def settle(self, lane, position):
        await self.source.settle(Checkpoint(lane, position))

    async def close_lane(self, lane):
        self.open.discard(lane)
        self.ready.discard(lane)
        await self.source.closed(lane)

    async def until(self, condition, seconds=WAIT_SECONDS):
        """Looks whenever something has happened, and every 20 ms."""
        with anyio.move_on_after(seconds):
            while not condition():
                if self.error is not None:
                    raise self.error
                self._changed.clear()
                with anyio.move_on_after(0.02):
                    await self._changed.wait()
            return
        raise AssertionError(f"not within {seconds} s; view: {self.source.view()}")

    async def records_are(self, count, seconds=WAIT_SECONDS):
        await self.until(lambda: sum(map(len, self.records.values())) >= count, seconds)


def options(bootstrap, group, *topics, **other):
    chosen = {
        "start": "earliest",
        "session_timeout_seconds": 6.0,
        "rebalance_timeout_seconds": 6.0,
        "metadata_seconds": 1.0,
        "commit_seconds": 0.05,
        **other,
    }
    return KafkaOptions(brokers=(bootstrap,), group=group, topics=topics, **chosen)


@asynccontextmanager
async def reading(name, chosen, **how):
    """A source that is open and being read; closed at the end as an engine would close it."""
    reader = Reader(name, chosen, **how)
    try:
        async with anyio.create_task_group() as tasks:
            try:
                await reader.source.open(lambda work, name: tasks.start_soon(work, name=name))
                tasks.start_soon(reader.read)
                yield reader
            finally:
                tasks.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await reader.source.close()


def alone(group):
    """The one error of a task group of one."""
    with suppress(AttributeError):
        while len(group.exceptions) == 1:
            group = group.exceptions[0]
    return group
