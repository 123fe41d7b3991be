"""One lane, start to finish: READ THIS FIRST. Take, shape, dispatch, judge, settle."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import anyio

from streamfaas.destinations import Destination
from streamfaas.flow.batch import Batch, Batcher, BatchPolicy
from streamfaas.flow.errors import CorruptBatch, WorldError
from streamfaas.flow.invocation import Invocation
from streamfaas.flow.letters import Letter
from streamfaas.flow.outcome import Failure, Fault, Outcome
from streamfaas.flow.record import Instant, Lane, Run
from streamfaas.flow.verdict import Again, Done, GiveUp, Moment, Release, Reread, RetryPolicy
from streamfaas.sources import Source
from streamfaas.telemetry import signals
from streamfaas.telemetry.signals import Emit
from streamfaas.wire.documents import StreamEnding, failure_letters

Dispatch = Callable[[Invocation], Awaitable[Outcome]]


@dataclass(frozen=True, slots=True)
class LanePolicy:
    """What a mapping asks of its lanes. `set_aside` takes what is given up."""

    function: str
    function_arn: str
    batch: BatchPolicy
    retry: RetryPolicy
    set_aside: Destination


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the lane is given of the world: the way to the workers, time, chance, and ears.

    `clock` is the event loop's, `wall` epoch seconds. `jitter` gives 0 ≤ x < 1. `request_id` gives
    a new one each time.
    """

    dispatch: Dispatch
    clock: Callable[[], Instant]
    wall: Callable[[], float]
    jitter: Callable[[], float]
    request_id: Callable[[], str]
    emit: Emit


@dataclass(slots=True)
class LaneStatus:
    """How the lane stands, for people to look at. `blocked` outlives `state`, which tells of the
    moment (a blocked batch that is being tried again runs)."""

    state: str = "idle"  # idle, running, retrying, blocked, closing
    blocked: bool = False
    position: int | None = None
    attempt: int = 0
    in_flight: int = 0
    reason: str = ""
    again_at: Instant | None = None
    records: int = 0
    batches: int = 0
    failures: int = 0
    set_aside: int = 0


class LaneRunner:
    """Carries the batches of one lane, one at a time and in order, until it is closed.

    `offer` hands it what arrived; `full` says that it wants no more for now, and `on_room` is
    called when that ends. Nothing that is unfinished when it closes is settled: it comes again.
    """

    def __init__(
        self,
        lane: Lane,
        source: Source,
        policy: LanePolicy,
        surroundings: Surroundings,
        on_room: Callable[[Lane], None],
    ) -> None:
        self.lane = lane
        self.status = LaneStatus()
        self.scope = anyio.CancelScope()
        """Cancelled when the grace has ended: what is in flight is cut off, its worker killed."""
        self.ended = anyio.Event()
        self._source = source
        self._policy = policy
        self._around = surroundings
        self._on_room = on_room
        self._batcher = Batcher(policy.batch)
        self._ledger = source.ledger(lane)
        self._pending: deque[Batch] = deque()  # what of the batch in hand has yet to run
        self._closing = False
        self._wakened: asyncio.Future[None] | None = None
        self._damaged_at = -1  # the position last found corrupt, and how often in a row
        self._damaged_times = 0
        self._request_id = ""

    @property
    def held_bytes(self) -> int:
        return self._batcher.held_bytes

    @property
    def held_records(self) -> int:
        return self._batcher.held_records

    @property
    def unfinished(self) -> int:
        return self._ledger.unfinished

    @property
    def full(self) -> bool:
        """A whole batch is waiting: nothing more is to be read for now."""
        policy = self._policy.batch
        return self._closing or (
            self._batcher.held_records >= policy.records_max
            or self._batcher.held_event_bytes >= policy.event_bytes_max
        )

    def offer(self, run: Run) -> None:
        if self._closing:
            return
        self._ledger.take(run)
        self._batcher.offer(run, self._around.clock())
        self._wake()

    def close(self) -> None:
        """No new invocation from here on; `run` ends once what is in flight has ended."""
        self._closing = True
        self.status.state = "closing"
        self._wake()

    async def run(self) -> None:
        while (batch := await self._next_batch()) is not None:
            self._pending.append(batch)
            while self._pending and not self._closing:
                await self._step(self._pending.popleft())

    async def _step(self, batch: Batch) -> None:
        if batch.count == 0:  # markers and gaps only: nothing to run, but the checkpoint moves
            return await self._settle(batch)
        outcome = await self._invoke(batch)
        batch = self._ran(batch, outcome)
        moment = Moment(self._around.clock(), self._around.jitter())
        match self._source.judge(batch, outcome, self._policy.retry, moment):
            case Done(done):
                await self._settle(done)
            case Again(again, at, blocked):
                self._pending.appendleft(again)
                await self._pause(again, outcome, at, blocked=blocked)
            case Release(back, at, blocked):
                await self._give_back(back, at, outcome, blocked=blocked)
            case Reread(damaged, at, blocked):
                await self._pause(damaged, outcome, at, blocked=blocked)
                await self._read_again(damaged)
            case GiveUp(lost, condition, failure):
                if await self._put_aside(lost, condition, failure):
                    await self._settle(lost)
        return None

    # -- the steps

    async def _next_batch(self) -> Batch | None:
        while not self._closing:
            batch = self._batcher.take(self._around.clock())
            if batch is not None:
                self._on_room(self.lane)
                return batch
            if self.status.state != "idle":
                self.status.state = "idle"
            await self._wait(self._batcher.deadline)
        return None

    async def _invoke(self, batch: Batch) -> Outcome:
        around, status = self._around, self.status
        self._request_id = around.request_id()
        status.in_flight, status.again_at = batch.count, None
        if not status.blocked:
            status.state = "retrying" if batch.attempt else "running"
        try:
            event = self._source.shape(batch)
        except CorruptBatch as damage:
            outcome: Outcome = Failure(Fault.CORRUPT, "CorruptBatch", str(damage))
        else:
            outcome = await around.dispatch(
                Invocation(
                    self._request_id,
                    self._policy.function,
                    event,
                    lane=self.lane,
                    attempt=batch.attempt,
                )
            )
        status.in_flight = 0
        status.batches += 1
        status.failures += isinstance(outcome, Failure)
        around.emit(
            signals.InvocationEnded(
                self._request_id,
                self._policy.function,
                self.lane,
                batch.count,
                batch.first,
                batch.last,
                batch.attempt,
                outcome,
            )
        )
        return outcome

    def _ran(self, batch: Batch, outcome: Outcome) -> Batch:
        """The part of the batch that took part; the rest has not run and goes next."""
        until = outcome.until
        if until is not None and batch.first < until <= batch.last:
            head, tail = batch.cut(until)
            assert head is not None
            assert tail is not None
            self._pending.appendleft(replace(tail, attempt=0))
            batch = head
        if isinstance(outcome, Failure) and outcome.fault is Fault.CORRUPT:
            known = batch.first == self._damaged_at
            self._damaged_times = self._damaged_times + 1 if known else 0
            self._damaged_at = batch.first
            batch = replace(batch, attempt=self._damaged_times)
        return batch

    async def _settle(self, batch: Batch) -> None:
        settlement = self._ledger.finish(batch)
        if settlement is not None:
            await self._source.settle(settlement)
        status = self.status
        status.position, status.attempt = batch.last, 0
        status.records += batch.count
        if status.blocked:
            status.blocked = False
            self._around.emit(signals.LaneHealed(self.lane))
        if not self._closing:
            status.state, status.reason = "running", ""

    async def _give_back(
        self, batch: Batch, at: Instant | None, outcome: Outcome, *, blocked: bool
    ) -> None:
        if at is not None:
            failures = max(run.deliveries for run in batch.runs) + 1
            self._tell(replace(batch, attempt=failures), outcome, at, blocked=blocked)
        settlement = self._ledger.release(batch, at)
        if settlement is not None:
            await self._source.settle(settlement)
        # the lane goes on with others: it is the source that holds what failed
        self.status.blocked = False
        self.status.state, self.status.reason, self.status.attempt = "running", "", 0
        if at is None:  # aborted or throttled: the queue may hand it out at once, we need not
            await self._wait(Instant(self._around.clock() + self._policy.retry.backoff_seconds))

    async def _read_again(self, batch: Batch) -> None:
        """Lets go of everything from the damage on; the source hands it over anew."""
        if self._closing:
            return
        self._pending.clear()
        self._batcher.drop()
        self._ledger.rewind(batch.first)
        await self._source.rewind(self.lane, batch.first)
        self._on_room(self.lane)

    async def _put_aside(self, batch: Batch, condition: str, failure: Failure) -> bool:
        """Until the destination has it. False: the lane was closed first, and it comes again."""
        policy = self._policy
        letters = self._letters(batch, condition, failure)
        failures = 0
        while not self._closing:
            try:
                await policy.set_aside.send(letters)
            except WorldError as error:
                failures += 1
                pause = policy.retry.delay(failures, self._around.jitter())
                self._around.emit(
                    signals.DestinationFailed(self.lane, policy.set_aside.name, str(error), pause)
                )
                self.status.state, self.status.reason = "blocked", f"destination: {error}"
                self.status.blocked = True
                await self._wait_until(Instant(self._around.clock() + pause))
            else:
                self.status.set_aside += batch.count
                self._around.emit(
                    signals.BatchSetAside(
                        self.lane,
                        batch.first,
                        batch.last,
                        batch.count,
                        condition,
                        policy.set_aside.name,
                    )
                )
                return True
        return False

    def _letters(self, batch: Batch, condition: str, failure: Failure) -> tuple[Letter, ...]:
        try:
            payload: bytes | None = self._source.event(batch)
            records = self._source.records(batch)
        except CorruptBatch:  # it cannot be shown, but its positions are in the document
            payload, records = None, ()
        ending = StreamEnding(
            batch=batch,
            condition=condition,
            invokes=max(batch.attempt, *(run.deliveries for run in batch.runs)) + 1,
            outcome=failure,
            request_id=self._request_id,
            function_arn=self._policy.function_arn,
            batch_info=self._source.batch_info(batch),
            payload=payload,
            at=self._around.wall(),
            records=records,
        )
        return failure_letters(ending, per_record=self._policy.set_aside.per_record)

    async def _pause(self, batch: Batch, outcome: Outcome, at: Instant, *, blocked: bool) -> None:
        self._tell(batch, outcome, at, blocked=blocked)
        self.status.again_at = at
        await self._wait_until(at)
        self.status.again_at = None

    def _tell(self, batch: Batch, outcome: Outcome, at: Instant, *, blocked: bool) -> None:
        assert isinstance(outcome, Failure)
        reason = f"{outcome.type}: {outcome.message}"
        if not self._closing:
            self.status.state = "blocked" if blocked else "retrying"
        self.status.blocked = blocked
        self.status.attempt, self.status.reason = batch.attempt, reason
        wait = max(0.0, at - self._around.clock())
        self._around.emit(
            signals.LaneRetrying(
                self.lane, batch.first, batch.last, batch.attempt, wait, blocked, reason
            )
        )

    # -- waiting

    async def _wait_until(self, at: Instant) -> None:
        while not self._closing and self._around.clock() < at:
            await self._wait(at)

    async def _wait(self, until: Instant | None) -> None:
        """Until somebody wakes the lane, or the time has come."""
        loop = asyncio.get_running_loop()
        self._wakened = loop.create_future()
        timer = None if until is None else loop.call_at(until, self._wake)
        try:
            await self._wakened
        finally:
            self._wakened = None
            if timer is not None:
                timer.cancel()

    def _wake(self) -> None:
        if self._wakened is not None and not self._wakened.done():
            self._wakened.set_result(None)
