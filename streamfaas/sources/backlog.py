"""Asynchronous invocations as a source: events that wait in the store for their function."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from streamfaas.flow.batch import Batch, looked_at
from streamfaas.flow.errors import StoreError, Unreachable
from streamfaas.flow.event import Encoding, Event
from streamfaas.flow.invocation import Manner
from streamfaas.flow.ledger import Ledger, QueueLedger, Receipts, Settlement
from streamfaas.flow.letters import HOPS_HEADER, REPLAYS_HEADER
from streamfaas.flow.partial import Style
from streamfaas.flow.record import Headers, Instant, Lane, Record, run_of_records
from streamfaas.flow.slots import Slots
from streamfaas.flow.trace import TRACEPARENT
from streamfaas.flow.verdict import BLOCKED_AFTER, Judge, judge_async
from streamfaas.sources import Arrival, Arrived, Held, LaneView, Opened, SourceView, Spawn
from streamfaas.store.backlog import Backlog
from streamfaas.store.invocations import Queue, Waiting
from streamfaas.telemetry.signals import Emit, SourceChanged
from streamfaas.wire import replay

IDLE_SECONDS = 10.0
"""How long it waits at most before it looks into the store: the wall clock may jump."""

CONTEXT_HEADER = "streamfaas-client-context"

FAILING_MAX = 20
"""Events that have failed, and are shown."""


@dataclass(frozen=True, slots=True)
class BacklogOptions:
    """Whose events, and how many of them are in hand at a time."""

    function: str
    parallel: int = 10

    def __post_init__(self) -> None:
        assert self.parallel >= 1


class AsyncInvocations:
    """The backlog of one function, one event a record: its value is the event as it was accepted,
    its key the request id, its timestamp when that was. Headers tell of hops, replays, the
    client context and the trace, where they are not nothing.

    Delivery: at least once, the longest due first; events of one order key one at a time, in
    order. What is put off stays so over a restart, by the wall clock. Errors: `Unreachable` if the
    store fails. Permissions needed: none.
    """

    kind: ClassVar[str] = "backlog"
    manner: ClassVar[Manner] = Manner.ASYNC
    style: ClassVar[Style] = Style.LISTED

    def __init__(
        self,
        name: str,
        options: BacklogOptions,
        *,
        backlog: Backlog,
        clock: Callable[[], Instant],
        emit: Emit,
    ) -> None:
        self.name = name
        self.judge: Judge = judge_async
        self._function = options.function
        self._backlog = backlog
        self._clock = clock
        self._emit = emit
        self._slots = Slots[Waiting](name, options.parallel)
        self._ready: deque[Waiting] = deque()
        self._unread = True  # there may be more in the store
        self._due_ms: int | None = None
        self._count = 0
        self._counted = 0  # how often a change has told it
        self._failing: dict[int, tuple[str, Held]] = {}  # by number: the request id, and how
        self._changed = asyncio.Event()
        self._state = "connecting"

    # -- pure

    def ledger(self, lane: Lane) -> Ledger:
        return QueueLedger(lane)

    def shape(self, batch: Batch) -> Event:
        return Event(Encoding.JSON, (self.event(batch),))

    def event(self, batch: Batch) -> bytes:
        (record,) = self.records(batch)
        return record.value or b""

    def records(self, batch: Batch) -> tuple[Record, ...]:
        return looked_at(batch)

    def face(self, record: Record) -> tuple[Mapping[str, object], bytes | None]:
        """The event is the data."""
        return {}, record.value

    def locate(self, batch: Batch, identifier: object) -> int | None:
        """The one record of an event that is replayed; others have no items."""
        return batch.first if replay.locates(self.event(batch), identifier) else None

    def reports(self, batch: Batch) -> bool:
        return replay.reports(self.client_context(batch))

    def request_id(self, batch: Batch) -> str:
        """One for all attempts."""
        (record,) = self.records(batch)
        return (record.key or b"").decode()

    def client_context(self, batch: Batch) -> bytes:
        (record,) = self.records(batch)
        return dict(record.headers).get(CONTEXT_HEADER, b"")

    def batch_info(self, batch: Batch) -> Mapping[str, Any]:
        """Lambda's documents of asynchronous invocations have nothing like it; ours tells when the
        event came, and how."""
        (record,) = self.records(batch)
        headers = dict(record.headers)
        return {
            "AsyncInvocation": {
                "requestId": self.request_id(batch),
                "acceptedTimestamp": record.timestamp_ms,
                "hops": int(headers.get(HOPS_HEADER, b"0")),
                "replays": int(headers.get(REPLAYS_HEADER, b"0")),
            }
        }

    # -- life

    async def open(self, spawn: Spawn) -> None:
        try:
            queue = await self._backlog.open(self._function)
        except StoreError as error:
            raise Unreachable(error.line) from error
        self._tally(queue)
        self._backlog.listen(self._function, self._heard)
        self._state = "running"
        self._emit(SourceChanged(self.name, self._state, ""))

    async def next(self, ready: Collection[Lane]) -> Arrival:
        while True:
            if (lane := self._slots.unopened()) is not None:
                return Opened(lane)
            self._changed.clear()
            await self._refill()
            lane = self._slots.idle(ready)
            if lane is not None and self._ready:
                event = self._ready.popleft()
                self._slots.take(lane, event)
                return Arrived(run_of_records((_record(lane, event),), event.failures))
            await self._wait(self._due_ms if lane else None)

    def wake(self) -> None:
        self._changed.set()

    async def rewind(self, lane: Lane, position: int) -> None:
        raise AssertionError("a queue is not read again from a position")

    async def closed(self, lane: Lane) -> None:
        """Never asked for; but what is in the lane's hands goes to another."""
        if (event := self._slots.rest(lane)) is not None:
            self._ready.appendleft(event)
        self.wake()

    async def settle(self, settlement: Settlement) -> None:
        """Durable when this returns."""
        assert isinstance(settlement, Receipts)
        if (event := self._slots.settled(settlement)) is None:
            return
        try:
            if settlement.finished:
                await self._finish(event)
            else:
                await self._give_back(event, settlement)
        except StoreError as error:
            raise Unreachable(error.line) from error
        self._slots.rest(settlement.lane)
        self.wake()

    def durable(self, lane: Lane) -> int | None:
        return None

    async def close(self) -> None:
        """Every settlement is durable already."""
        self._backlog.unlisten(self._function, self._heard)

    def view(self) -> SourceView:
        """`lag` of a lane is what it has in hand, and its share of what waits."""
        failing, in_hand = list(self._failing.values()), self._slots.in_hand
        return SourceView(
            self._state,
            lanes={
                lane: LaneView(event.number, lag, event.request_id) if event else LaneView(lag=lag)
                for lane, event, lag in self._slots.shares(self._count)
            },
            held={Lane(self.name, request_id): held for request_id, held in failing},
            blocked={
                Lane(self.name, request_id): held.reason or f"it has failed {held.attempt} times"
                for request_id, held in failing
                if held.attempt >= BLOCKED_AFTER
            },
            details={"function": self._function, "waiting": max(0, self._count - len(in_hand))},
        )

    # -- the store

    async def _refill(self) -> None:
        """Reads what may go, unless there is some of it already."""
        while self._unread and not self._ready:
            self._unread = False  # unless something comes or goes back while this waits
            # what is settled while this waits may be read as it was before
            without = self._slots.in_hand
            counted = self._counted
            try:
                page = await self._backlog.due(self._function, without)
            except BaseException as error:
                self._unread = True
                if isinstance(error, StoreError):
                    raise Unreachable(error.line) from error
                raise
            self._unread |= page.more
            self._ready.extend(page.events)
            self._due_ms = page.next_due_ms
            if counted == self._counted:  # else it may have been read before the change
                self._count = page.queue.events

    async def _finish(self, event: Waiting) -> None:
        queue = await self._backlog.finish(self._function, event.number)
        self._tally(queue)
        self._unread |= bool(event.order_key)  # the next of the key may go now
        self._failing.pop(event.number, None)

    async def _give_back(self, event: Waiting, settlement: Receipts) -> None:
        at, counted = settlement.at, settlement.counted
        if at is None and not counted:  # as if it had never been handed out
            self._ready.appendleft(event)
            return
        wait_ms = 0 if at is None else math.ceil(max(0.0, at - self._clock()) * 1000) + 1
        due_ms, failures = self._backlog.now_ms() + wait_ms, event.failures + counted
        await self._backlog.put_off(event.number, due_ms, failures)
        self._unread = True  # which also tells when the next is due
        if counted and (event.number in self._failing or len(self._failing) < FAILING_MAX):
            held = Held(failures, settlement.reason, at)
            self._failing[event.number] = (event.request_id, held)

    def _heard(self, queue: Queue | None = None) -> None:
        if queue is not None:
            self._tally(queue)
        self._unread = True
        self.wake()

    def _tally(self, queue: Queue) -> None:
        """Changes tell of themselves in the order in which they were made."""
        self._count = queue.events
        self._counted += 1

    async def _wait(self, due_ms: int | None) -> None:
        """Until something changes, or it is time to look into the store."""
        seconds = IDLE_SECONDS
        if due_ms is not None:
            seconds = min(max(0.001, (due_ms - self._backlog.now_ms()) / 1000), seconds)
        timer = asyncio.get_running_loop().call_later(seconds, self._heard)
        try:
            await self._changed.wait()
        finally:
            timer.cancel()


def _record(lane: Lane, event: Waiting) -> Record:
    headers: Headers = ()
    if event.hops:
        headers += ((HOPS_HEADER, b"%d" % event.hops),)
    if event.replays:
        headers += ((REPLAYS_HEADER, b"%d" % event.replays),)
    if event.client_context:
        headers += ((CONTEXT_HEADER, event.client_context),)
    if event.trace:
        headers += ((TRACEPARENT, event.trace.encode()),)
    key = event.request_id.encode()
    return Record(lane, event.number, event.event, key, event.accepted_ms, headers=headers)
