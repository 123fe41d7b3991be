"""One strand of a lane, batch by batch in order: take, shape, dispatch, judge, settle."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from streamfaas.flow import age, partial
from streamfaas.flow.batch import Batch, Batcher
from streamfaas.flow.errors import CorruptBatch
from streamfaas.flow.event import EVENT_BYTES_MAX, Encoding, Event
from streamfaas.flow.invocation import Invocation
from streamfaas.flow.outcome import Failure, Fault, Outcome, Success
from streamfaas.flow.partial import Partial, Style
from streamfaas.flow.record import Instant, Run
from streamfaas.flow.trace import Context
from streamfaas.flow.verdict import (
    Again,
    Condition,
    Done,
    GiveUp,
    Moment,
    Release,
    Reread,
    Verdict,
    deliveries,
)
from streamfaas.sources import Asynchronous
from streamfaas.telemetry import signals
from streamfaas.telemetry.recording import Recording
from streamfaas.telemetry.signals import Signal

if TYPE_CHECKING:
    from streamfaas.engine.lane import LaneRunner


@dataclass(slots=True)
class StrandStatus:
    """How the strand stands, for people to look at. `blocked` outlives `state`, which tells of the
    moment (a blocked batch that is being tried again runs)."""

    state: str = "idle"  # idle, running, retrying, blocked, closing
    blocked: bool = False
    attempt: int = 0
    in_flight: int = 0
    reason: str = ""
    held_up_by: str = ""  # the destination that does not take what is to be sent
    again_at: Instant | None = None


class Strand:
    """Runs the batches of its lane one at a time and in order. A lane has one strand, or, with
    key-ordered parallelism, several, each with keys of its own."""

    def __init__(self, lane: LaneRunner, number: int) -> None:
        self.number = number
        self.status = StrandStatus()
        self.batcher = Batcher(lane.policy.batch)
        self.request_id = ""
        self.trace: Recording
        """Of the batch in hand."""
        self.waiting: Batch | None = None
        """What failed and waits to be tried again, or for its destination."""
        self.diverted = False
        """Its letters are not to wait for their destination any more."""
        self._lane = lane
        self._policy = lane.policy
        self._around = lane.around
        self._source = source = lane.source
        self._calls = source if isinstance(source, Asynchronous) else None
        self._panes = lane.panes if lane.policy.window_seconds else None
        self._pending: deque[Batch] = deque()  # what of the batch in hand has yet to run
        self._busy = False
        self._streak = 0  # failures in a row of parts of the batch in hand
        self._in_hand: Batch | None = None
        self._held_up = False
        self._skipping: Batch | None = None  # what a person wants to be given up
        self._wakened: asyncio.Future[None] | None = None

    @property
    def idle(self) -> bool:
        return not self._busy and not self.batcher

    @property
    def at_rest(self) -> bool:
        """Nothing of it runs or is on its way to a destination: it waits for what comes next."""
        waits = self._wakened is not None and not self._wakened.done()
        return self.status.state == "closing" or (waits and not self._held_up)

    @property
    def full(self) -> bool:
        """A whole batch is waiting."""
        policy, batcher = self._policy.batch, self.batcher
        return (
            batcher.held_records >= policy.records_max
            or batcher.held_event_bytes >= policy.event_bytes_max
        )

    @property
    def oldest(self) -> float:
        """Epoch seconds of the oldest record that it has; 0 where none has a time."""
        batches = self._pending if self._in_hand is None else (self._in_hand, *self._pending)
        times = (self.batcher.oldest, *(batch.oldest for batch in batches))
        return min((each for each in times if each), default=0.0)

    def offer(self, run: Run) -> None:
        self.batcher.offer(run, self._around.clock())
        self.wake()

    def drop(self) -> None:
        """Forgets what waits: it will be read again."""
        self._pending.clear()
        self.batcher.drop()

    @property
    def skips_to(self) -> str:
        """Where what waits goes if it is skipped."""
        return (self._policy.last_resort if self._held_up else self._policy.set_aside).name

    def skip(self) -> None:
        """Gives up the batch that waits."""
        if self._held_up:
            self.diverted = True
        else:
            self._skipping = self.waiting
        self.wake()

    async def run(self) -> None:
        while (batch := await self._next_batch()) is not None:
            await self.carry(batch)

    async def carry(self, batch: Batch) -> None:
        """From its turn until it is finished with, or the lane is closed."""
        self._busy, self._streak = True, 0
        self._pending.append(batch)
        with self._recording(batch) as self.trace:
            await self._finish_pending()
        self._busy, self._in_hand = False, None
        self._lane.rested()

    async def _finish_pending(self) -> None:
        while self._pending and not self._lane.closing:
            if self._lane.paused and self._pending[0] is not self._skipping:
                await self._wait(None)
            else:
                await self._step(self._pending.popleft())

    async def _step(self, batch: Batch) -> None:
        self._in_hand = batch
        if batch.count == 0 and not batch.final:  # nothing to run, but the checkpoint moves
            await self._settle(batch)
            return None
        if batch is self._skipping:
            return await self._give_up(GiveUp(batch, Condition.SKIPPED, None))
        if (young := await self._without_overdue(batch)) is not batch:
            if young is not None:
                self._pending.appendleft(young)
            return None
        if self._panes is not None and not batch.final:
            batch, *later = self._panes.divide(batch)
            self._pending.extendleft(reversed(later))
            self._in_hand = batch
        if batch.final and self._lane.panes is not None:
            await self._lane.panes.ends()
        outcome, said = self._heard(batch, await self._invoke(batch))
        batch = self._ran(batch, outcome)
        told = self._read(batch, said)
        self._streak = self._streak + 1 if batch.origin and not isinstance(told, Success) else 0
        around = self._around
        moment = Moment(around.clock(), around.jitter(), around.wall(), self._streak)
        verdict = self._source.judge(batch, told, self._policy.retry, moment)
        if isinstance(verdict, Done):
            await self._succeed(verdict.batch, outcome)
        else:
            await self._carry_out(verdict, told, outcome)
        return None

    async def _carry_out(self, verdict: Verdict, told: Outcome | Partial, outcome: Outcome) -> None:
        """A verdict on a batch that has not, or not all, succeeded."""
        done = None if isinstance(verdict, Done | Reread) else verdict.done
        if done is not None and not await self._succeed(done, outcome):
            return
        match verdict:
            case Again(rest, at, blocked):
                self._pending.extendleft(reversed(rest))
                self.waiting = rest[0]
                await self._pause(rest, told, at, blocked=blocked)
                self.waiting = None
            case Release():
                await self._give_back(verdict, told)
            case Reread(damaged, at, blocked):
                await self._pause((damaged,), told, at, blocked=blocked)
                if not self._lane.closing:
                    await self._lane.read_again(damaged)
            case GiveUp():
                await self._give_up(verdict)

    # -- the steps

    async def _next_batch(self) -> Batch | None:
        while not self._lane.closing:
            paused = self._lane.paused
            batch = None if paused else self.batcher.take(self._around.clock())
            if batch is None and self._panes is not None:
                batch = self._panes.due(holding=bool(self.batcher), paused=paused)
            if batch is not None:
                self._lane.on_room(self._lane.lane)
                return batch
            if self.status.state != "idle":
                self.status.state = "idle"
            await self._wait(None if paused else self._deadline)
        self.status.state = "closing"
        return None

    @property
    def _deadline(self) -> Instant | None:
        """When there may be a batch though nobody wakes the strand."""
        deadline = self.batcher.deadline
        if deadline is None and self._panes is not None:
            return self._panes.deadline(holding=False)
        return deadline

    def _recording(self, batch: Batch) -> Recording:
        waited = 0.0 if batch.final else self._around.clock() - self.batcher.arrived
        return self._around.recorder.batch(self._policy.origin, batch, waited)

    async def _without_overdue(self, batch: Batch) -> Batch | None:
        """The batch, if none of its records has grown too old; else what of it is left to run once
        those are given up."""
        limit, wall = self._policy.retry.age_seconds_max, self._around.wall()
        if limit is None or not age.has_overdue(batch, limit, wall):
            return batch
        try:
            old, young = age.overdue(batch, self._source.records(batch), limit, wall)
        except CorruptBatch:  # its run will find that too, and what to do
            return batch
        if old is None:
            return batch
        condition = Condition.TOO_OLD if self._calls is None else Condition.ASYNC_TOO_OLD
        await self._give_up(GiveUp(old, condition, None))
        return young

    async def _invoke(self, batch: Batch) -> Outcome:
        around, status = self._around, self.status
        calls = self._calls
        self.request_id = around.request_id() if calls is None else calls.request_id(batch)
        context = self.trace.attempt(self.request_id)
        status.in_flight, status.again_at = batch.count, None
        if not status.blocked:
            status.state = "retrying" if batch.attempt else "running"
        outcome: Outcome
        try:
            event = self._lane.shape(batch)
        except CorruptBatch as damage:
            outcome = Failure(Fault.CORRUPT, "CorruptBatch", str(damage))
        else:
            if event.encoding is Encoding.JSON and event.size_bytes > EVENT_BYTES_MAX:
                said = f"an event of {event.size_bytes} bytes, {EVENT_BYTES_MAX} are the most"
                outcome = Failure(Fault.OVERSIZE, "Event.TooLarge", said)
            else:
                outcome = await around.dispatch(self._invocation(batch, event, context))
        status.in_flight = 0
        return outcome

    def _heard(self, batch: Batch, outcome: Outcome) -> tuple[Outcome, Outcome]:
        """How the attempt has ended, and what the answer says beside the state of a window: one
        without a state has failed."""
        said = outcome
        if isinstance(outcome, Success) and self._panes is not None:
            said = self._panes.read(batch, outcome)
            outcome = said if isinstance(said, Failure) else outcome
        self._lane.status.batches += 1
        self._lane.status.failures += isinstance(outcome, Failure)
        return outcome, said

    def _invocation(self, batch: Batch, event: Event, context: Context) -> Invocation:
        return Invocation(
            self.request_id,
            self._policy.function,
            event,
            self._source.manner,
            self._lane.lane,
            batch.attempt,
            b"" if self._calls is None else self._calls.client_context(batch),
            context,
        )

    def _ran(self, batch: Batch, outcome: Outcome) -> Batch:
        """The part of the batch that took part, which is told; the rest has not run and goes
        next."""
        until = outcome.until
        if until is not None and batch.first < until <= batch.last:
            head, tail = batch.cut(until)
            assert head is not None
            assert tail is not None
            self._pending.appendleft(replace(tail, attempt=0, splits=0, origin=0))
            batch = head
        ended = signals.InvocationEnded(
            self.request_id,
            self._policy.function,
            self._lane.lane,
            batch.count,
            batch.first,
            batch.last,
            batch.attempt or deliveries(batch),
            outcome,
            self.trace.tried(batch, outcome),
        )
        if self._around.witness:
            self._around.witness.saw(ended, self._source, batch)
        self._around.emit(ended)
        if isinstance(outcome, Failure) and outcome.fault is Fault.CORRUPT:
            batch = replace(batch, attempt=self._lane.damaged(batch))
        return batch

    def _read(self, batch: Batch, outcome: Outcome) -> Outcome | Partial:
        # a state covers what it has come past: a list of failures would leave holes in it
        style = self._source.style if self._panes is None else Style.LOWEST
        if not self._policy.partial or batch.final or isinstance(outcome, Failure):
            return outcome
        if self._calls is not None and not self._calls.reports(batch):
            return outcome
        return partial.read(outcome, batch, style, self._source.locate)

    async def _succeed(self, batch: Batch, outcome: Outcome) -> bool:
        """The function is done with the batch. False: the lane was closed first."""
        lane, told = self._lane, batch.count or batch.final
        if told and self._policy.on_success is not None and isinstance(outcome, Success):
            sent = await lane.aside.succeeded(batch, outcome, self)
        else:
            sent = True
        if sent and self._panes is not None:
            self._panes.succeeded(batch)
        lane.status.records += batch.count if sent else 0
        return sent and await self._settle(batch)

    async def _settle(self, batch: Batch) -> bool:
        if not await self._lane.settle(batch, self):
            return False
        status = self.status
        status.attempt = 0
        if status.blocked:
            status.blocked = False
            self._around.emit(signals.LaneHealed(self._lane.lane))
        if not self._lane.closing:
            status.state, status.reason = "running", ""
        return True

    async def _give_up(self, verdict: GiveUp) -> None:
        self._skipping = None
        self._pending.extendleft(reversed(verdict.rest))
        lost, condition, status = verdict.lost, verdict.condition, self._lane.status
        if await self._lane.aside.give_up(lost, condition, verdict.failure, self):
            status.set_aside += lost.count
            status.expired += lost.count if condition in _TOO_OLD else 0
            await self._settle(lost)

    async def _give_back(self, verdict: Release, told: Outcome | Partial) -> None:
        back, at = verdict.back, verdict.at
        if at is not None:
            tried = replace(back, attempt=deliveries(back) + verdict.counted)
            self._say(tried, told, at, blocked=verdict.blocked)
        reason = self.status.reason if at is not None else ""
        await self._lane.release(back, at, counted=verdict.counted, reason=reason)
        while verdict.in_order and self._pending:
            await self._lane.release(self._pending.popleft(), None, counted=False, reason="")
        # the lane goes on with others, and is never blocked: the source holds what failed
        self.status.state, self.status.reason, self.status.attempt = "running", "", 0
        if at is None:  # aborted or throttled: the queue may hand it out at once, we need not
            await self._wait(Instant(self._around.clock() + self._policy.retry.backoff_seconds))

    async def _pause(
        self,
        rest: tuple[Batch, ...],
        outcome: Outcome | Partial,
        at: Instant,
        *,
        blocked: bool,
    ) -> None:
        """Before what failed runs again."""
        if len(rest) > 1:
            sizes = tuple(part.count for part in rest)
            self.tell(signals.BatchSplit(self._lane.lane, rest[0].first, rest[-1].last, sizes))
        if len(rest) == 1 or at > self._around.clock():
            self._tell(rest[0], outcome, at, blocked=blocked)
            self.status.again_at = at
            while not self._skipping and not self._lane.closing:
                paused = self._lane.paused
                if not paused and self._around.clock() >= at:
                    break
                await self._wait(None if paused else at)
            self.status.again_at = None

    def _tell(
        self, batch: Batch, outcome: Outcome | Partial, at: Instant, *, blocked: bool
    ) -> None:
        if not self._lane.closing:
            self.status.state = "blocked" if blocked else "retrying"
        self.status.blocked = blocked
        self._say(batch, outcome, at, blocked=blocked)

    def _say(self, batch: Batch, outcome: Outcome | Partial, at: Instant, *, blocked: bool) -> None:
        failure = outcome.failure if isinstance(outcome, Partial) else outcome
        assert isinstance(failure, Failure)
        reason = f"{failure.type}: {failure.message}"
        self.status.attempt, self.status.reason = batch.attempt, reason
        wait = max(0.0, at - self._around.clock())
        self.tell(
            signals.LaneRetrying(
                self._lane.lane, batch.first, batch.last, batch.attempt, wait, blocked, reason
            )
        )

    def tell(self, signal: Signal) -> None:
        """Of the lane, what concerns the batch in hand."""
        self.trace.hear(signal)
        self._around.emit(signal)

    async def hold_up(self, name: str, reason: str, until: Instant) -> None:
        """A destination of that name does not take what is to be sent: until it is tried again."""
        self.status.held_up_by = name
        self.status.state, self.status.reason, self.status.blocked = "blocked", reason, True
        self._held_up, self.waiting = True, self._in_hand
        while not (self._lane.closing or self.diverted) and self._around.clock() < until:
            await self._wait(until)
        self._held_up, self.waiting, self.status.held_up_by = False, None, ""

    # -- waiting

    async def _wait(self, until: Instant | None) -> None:
        """Until somebody wakes the strand, or the time has come."""
        loop = asyncio.get_running_loop()
        self._wakened = loop.create_future()
        timer = None if until is None else loop.call_at(until, self.wake)
        try:
            await self._wakened
        finally:
            self._wakened = None
            if timer is not None:
                timer.cancel()

    def wake(self) -> None:
        if self._wakened is not None and not self._wakened.done():
            self._wakened.set_result(None)


_TOO_OLD = frozenset({Condition.TOO_OLD, Condition.ASYNC_TOO_OLD})
