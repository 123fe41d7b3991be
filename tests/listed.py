"""A source made of a list: what the engine's tests read from, and look into afterwards."""

import asyncio
from dataclasses import dataclass, field
from typing import ClassVar

import orjson

from streamfaas.flow.errors import CorruptBatch
from streamfaas.flow.event import Encoding, Event
from streamfaas.flow.invocation import Manner
from streamfaas.flow.ledger import Checkpoint, LogLedger, QueueLedger
from streamfaas.flow.partial import Style
from streamfaas.flow.record import Lane, Record, run_of_records
from streamfaas.flow.verdict import judge_log, judge_queue
from streamfaas.sources import SourceView

LANE = Lane("f/t", "topic-0")


def records(count, lane=LANE, start=0):
    return tuple(Record(lane, n, str(n).encode()) for n in range(start, start + count))


@dataclass
class Listed:
    """Hands over what is put into `arrivals`. `damaged` positions fail their checksum so many
    times more; `failing` errors are raised by what they name (`open`, `next`, `close`)."""

    kind: ClassVar[str] = "listed"
    manner: ClassVar[Manner] = Manner.STREAM
    style: Style = Style.LOWEST
    queue: bool = False
    arrivals: asyncio.Queue = field(default_factory=asyncio.Queue)
    settled: list = field(default_factory=list)
    rewound: list = field(default_factory=list)
    closed_lanes: list = field(default_factory=list)
    damaged: dict = field(default_factory=dict)
    failing: dict = field(default_factory=dict)
    on_rewind: object = None
    is_closed: bool = False
    reason: str = ""
    woken: int = 0
    ready: object = ()

    @property
    def judge(self):
        return judge_queue if self.queue else judge_log

    def ledger(self, lane):
        return QueueLedger(lane) if self.queue else LogLedger(lane)

    def records(self, batch):
        return tuple(r for run in batch.runs for r in run.payload.between(run.first, run.last))

    def event(self, batch):
        for record in self.records(batch):
            if self.damaged.get(record.position, 0):
                self.damaged[record.position] -= 1
                raise CorruptBatch(record.position, "bad checksum")
        return orjson.dumps([int(record.value) for record in self.records(batch)])

    def shape(self, batch):
        return Event(Encoding.JSON, (self.event(batch),))

    def face(self, record):
        return {"position": record.position}, record.value

    def locate(self, batch, identifier):
        known = isinstance(identifier, str) and identifier.isdigit()
        return int(identifier) if known and batch.holds(int(identifier)) else None

    def durable(self, lane):
        told = (one for one in self.settled if isinstance(one, Checkpoint))
        settled = [one.position for one in told if one.lane == lane]
        return settled[-1] if settled else None

    def batch_info(self, batch):
        return {"ListedBatchInfo": {"batchSize": batch.count}}

    async def open(self, spawn):
        self._maybe_fail("open")

    async def next(self, ready):
        self.ready = ready
        self._maybe_fail("next")
        arrival = await self.arrivals.get()
        if isinstance(arrival, Exception):
            raise arrival
        return arrival

    def wake(self):
        self.woken += 1

    async def rewind(self, lane, position):
        self.rewound.append(position)
        if self.on_rewind is not None:
            self.on_rewind(position)

    async def closed(self, lane):
        self.closed_lanes.append(lane)

    async def settle(self, settlement):
        self.settled.append(settlement)

    async def close(self):
        self._maybe_fail("close")
        self.is_closed = True

    def view(self):
        return SourceView("running", self.reason)

    def _maybe_fail(self, what):
        if self.failing.get(what):
            raise self.failing[what].pop(0)

    def put(self, count, start=0, lane=LANE):
        from streamfaas.sources import Arrived

        self.arrivals.put_nowait(Arrived(run_of_records(records(count, lane, start))))
