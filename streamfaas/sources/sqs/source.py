"""A queue as a source: received where a worker is free, kept hidden while it is in hand, deleted
when it is done."""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from itertools import islice
from typing import Any, ClassVar

import anyio

from streamfaas.flow.batch import Batch, looked_at
from streamfaas.flow.errors import CannotSend, Unreachable, WorldError
from streamfaas.flow.event import Encoding, Event
from streamfaas.flow.invocation import Manner
from streamfaas.flow.ledger import Ledger, QueueLedger, Receipts, Settlement
from streamfaas.flow.outcome import Outcome
from streamfaas.flow.partial import Partial, Style
from streamfaas.flow.record import Instant, Lane, Record, run_of_records
from streamfaas.flow.verdict import (
    BLOCKED_AFTER,
    Judge,
    Moment,
    Release,
    RetryPolicy,
    Verdict,
    judge_group,
    judge_queue,
)
from streamfaas.sources import Arrival, Arrived, LaneView, Opened, Sender, SourceView, Spawn
from streamfaas.sources.sqs.errands import CARRIERS, Errands
from streamfaas.sources.sqs.gathering import Gathering
from streamfaas.sources.sqs.hand import Hand
from streamfaas.sources.sqs.message import Message, position_of, receives_of
from streamfaas.sources.sqs.options import SqsOptions
from streamfaas.sources.sqs.polling import POLLERS_MAX, Polling
from streamfaas.sources.sqs.returned import MARGIN_SECONDS, Returned
from streamfaas.sources.sqs.send import QueueSender
from streamfaas.telemetry.signals import DaemonStepped, Emit, SourceChanged
from streamfaas.wire.aws import AwsAccess
from streamfaas.wire.sqs import BATCH_MAX, Attributes, Queue
from streamfaas.wire.sqs_event import (
    Origin,
    message_id,
    record_of,
    sqs_batch_info,
    sqs_event,
    sqs_face,
)

CLOSE_SECONDS = 5.0
"""How long what is left in hand is tried to be given back for."""

LOOK_SECONDS = 30.0
"""How often the queue is asked how much waits in it."""

VISIBILITY_SECONDS_MIN = 10
"""What a queue's own visibility timeout is taken to be at least: with less, a moment without the
network would hand messages out twice."""

TICK_SECONDS = 0.5
IDLE_SECONDS = 60.0


class Sqs:
    """Messages of one queue.

    Delivery: at least once. A message is received where a worker is free for it, kept hidden for
    as long as it is in hand, and deleted when the function is done with it; one that failed is
    hidden until it may be tried again, and the queue counts. What was received and never begun is
    given back at once at a stop. A message that was in hand at a crash comes again when its
    visibility timeout has passed.

    Order: none, of a standard queue. Batches of a FIFO queue are of one message group, and nothing
    of a group is run, or deleted, before all that was sent to it earlier is finished with.

    Errors: `Unreachable`, `Refused`, `Gone` and `Busy` at the start; later the source is degraded,
    and asks again with growing pauses.

    Permissions needed: sqs:GetQueueUrl (where the queue is given by name or ARN),
    GetQueueAttributes, ReceiveMessage, DeleteMessage, ChangeMessageVisibility.
    """

    kind: ClassVar[str] = "sqs"
    manner: ClassVar[Manner] = Manner.STREAM

    def __init__(
        self,
        name: str,
        options: SqsOptions,
        *,
        room: Callable[[], int],
        clock: Callable[[], Instant],
        emit: Emit,
        make_queue: Callable[[AwsAccess, str], Queue] = Queue,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`room`: how many invocations of the function could begin now."""
        self.name = name
        self._options = options
        self._room = room
        self._clock = clock
        self._emit = emit
        self._queue = make_queue(options.access, options.queue)
        self._fifo = self._queue.fifo
        self.judge: Judge = self._judge
        self._errands = Errands(self._queue)
        self._gathering = Gathering(options.batch, fifo=self._fifo, apart=options.apart)
        self._polling = Polling(
            self._queue,
            options.wait_seconds,
            self._asked_visibility,
            room=self._wanted,
            took=self._took,
            told=self._heard,
            jitter=jitter,
        )
        self._returned = Returned(fifo=self._fifo)
        self._origin = Origin("", options.access.region)
        self._about: Attributes | None = None
        self._waiting = 0
        self._look_at = Instant(0)
        self._lanes = [Lane(name, f"slot-{number}") for number in range(options.parallel)]
        self._unopened = deque(self._lanes)
        self._idle = dict.fromkeys(self._lanes)  # a set that keeps its order
        self._in_hand: dict[Lane, dict[int, Message]] = {}
        self._hand = Hand(
            self._errands,
            lambda: self._visibility,
            clock=clock,
            warn=self._warn,
            late=self._deletes,
            jitter=jitter,
        )
        self._group_of: dict[Lane, str] = {}
        self._groups: set[str | int] = set()  # those
        self._handing: deque[Message] = deque()
        self._unbegun: set[Lane] = set()  # handed over, and not run yet
        self._named: tuple[Batch | None, dict[str, int]] = (None, {})  # of the last report
        self._ready: Collection[Lane] = ()
        self._reading = False
        self._left_at: Instant | None = None
        self._changed = asyncio.Event()
        self._state, self._reason = "connecting", ""
        self._trouble = {"receive": "", "delete": ""}

    @property
    def style(self) -> Style:
        """What a FIFO queue's function stopped at holds back what follows."""
        return Style.LOWEST if self._fifo else Style.LISTED

    # -- pure

    def ledger(self, lane: Lane) -> Ledger:
        return QueueLedger(lane)

    def shape(self, batch: Batch) -> Event:
        self._unbegun.discard(batch.lane)  # it takes its worker now
        return Event(Encoding.JSON, (self.event(batch),))

    def event(self, batch: Batch) -> bytes:
        return sqs_event(looked_at(batch))

    def records(self, batch: Batch) -> tuple[Record, ...]:
        return looked_at(batch)

    def face(self, record: Record) -> tuple[Mapping[str, object], bytes | None]:
        return sqs_face(record)

    def locate(self, batch: Batch, identifier: object) -> int | None:
        """A message id."""
        if self._named[0] is not batch:  # a report may name all of ten thousand
            ids = {message_id(each).decode(): each.position for each in looked_at(batch)}
            self._named = batch, ids
        known = self._named[1]
        return known.get(identifier) if isinstance(identifier, str) else None

    def batch_info(self, batch: Batch) -> Mapping[str, Any]:
        return sqs_batch_info(self._origin, looked_at(batch))

    def _judge(
        self, batch: Batch, outcome: Outcome | Partial, policy: RetryPolicy, moment: Moment
    ) -> Verdict:
        """What the queue moves by itself, sooner or later, blocks nothing."""
        judge = judge_group if self._fifo else judge_queue
        verdict = judge(batch, outcome, policy, moment)
        if isinstance(verdict, Release) and self._receives_max is not None:
            return replace(verdict, blocked=False)
        return verdict

    # -- test events

    @property
    def known_by(self) -> Callable[[Record], bytes | None]:
        return message_id

    @asynccontextmanager
    async def sender(self, topic: str) -> AsyncIterator[Sender]:
        if topic:
            raise CannotSend(f"the queue is {self._queue.short_name}: there are no topics")
        if not self._queue.is_open:
            raise Unreachable(f"{self._queue.name} is not open: streamfaas status says why")
        yield QueueSender(self._queue)

    # -- life

    async def open(self, spawn: Spawn) -> None:
        await self._queue.open()
        await self._look()
        for number in range(CARRIERS):
            spawn(self._errands.carry, f"carrier {number}")
        spawn(self._polling.watch, "poller 0")
        for number in range(1, min(POLLERS_MAX, self._options.parallel)):
            spawn(self._polling.help, f"poller {number}")
        spawn(self._keep, "keeper")
        spawn(self._look_on, "looker")
        self._tell("running", "")

    async def next(self, ready: Collection[Lane]) -> Arrival:
        """Neither waits nor lets anybody else in while a batch is handed over: its strand takes
        it as one."""
        self._begin_reading(ready)
        try:
            while True:
                if self._unopened:
                    return Opened(self._unopened.popleft())
                if message := next((each for each in self._handing if each.lane in ready), None):
                    self._handing.remove(message)
                    return Arrived(run_of_records((message.record,), message.deliveries))
                await asyncio.sleep(0)  # the strands take what they were given
                self._changed.clear()
                lane = next((lane for lane in self._idle if lane in ready), None)
                if lane is None or not self._deal(lane):
                    due = self._gathering.due(self._groups) if lane else None
                    await _wait(self._changed, self._seconds_until(due))
        except BaseException:
            self._polling.leave()
            raise
        finally:
            self._reading, self._left_at = False, self._clock()

    def wake(self) -> None:
        self._changed.set()
        if self._paused:  # what is asked for by now would go back, and the queue counts
            self._polling.leave()
        else:
            self._polling.stay()
            self._polling.stir()

    async def rewind(self, lane: Lane, position: int) -> None:
        raise AssertionError("a queue is not read again from a position")

    async def closed(self, lane: Lane) -> None:
        """Never asked for; but what is in the lane's hands goes back."""
        await self._hand.hide(list(self._in_hand.get(lane, {}).values()), 0)
        self._rest(lane)

    async def settle(self, settlement: Settlement) -> None:
        """Durable when this returns: what is finished is deleted."""
        assert isinstance(settlement, Receipts)
        held = self._in_hand.get(settlement.lane, {})
        self._unbegun.discard(settlement.lane)
        done = [held[first] for first, _ in settlement.finished if first in held]
        back = [held[first] for first, _ in settlement.released if first in held]
        if done:
            await self._hand.delete(done)
            self._returned.finished(done)
        if back:
            await self._give_back(back, settlement.at, settlement.reason)
        for each in (*done, *back):
            del held[each.position]
        if not held:
            self._rest(settlement.lane)

    def durable(self, lane: Lane) -> int | None:
        return None

    async def close(self) -> None:
        """What is left in hand is given back, as far as there is time: the rest comes again when
        its visibility timeout has passed."""
        try:
            with suppress(WorldError), anyio.move_on_after(CLOSE_SECONDS):
                if len(self._hand):
                    await self._queue.change_visibility_batch(
                        [(receipt, 0) for receipt in self._hand.clear()]
                    )
        finally:
            await self._queue.close()

    def view(self) -> SourceView:
        """`lag` of a lane is what it has in hand, and its share of what waits in the queue."""
        lanes = {}
        waiting = self._waiting + len(self._gathering)
        for number, lane in enumerate(self._lanes):
            held = self._in_hand.get(lane, {})
            share = waiting // len(self._lanes) + (number < waiting % len(self._lanes))
            lanes[lane] = LaneView(
                position=min(held, default=None),
                lag=share + len(held),
                note=next((message.group or "" for message in held.values()), ""),
            )
        failed = self._returned.held(self._clock())
        about = self._about
        return SourceView(
            self._state,
            self._reason,
            lanes,
            {
                Lane(self.name, key): f"failed {each.attempt} times: {each.reason}"
                for key, each in failed.items()
                if each.attempt >= BLOCKED_AFTER and self._receives_max is None
            },
            {
                "queue": self._queue.short_name,
                "arn": self._origin.arn,
                "waiting": self._waiting,
                "gathered": len(self._gathering),
                "visibility_seconds": self._visibility,
                "delayed": about.delayed if about else 0,
                "in_flight": about.in_flight if about else 0,
                "dead_letter_arn": about.dead_letter_arn if about else None,
                "receives_max": about.receives_max if about else None,
            },
            {Lane(self.name, key): each for key, each in failed.items()},
        )

    # -- receiving

    def _wanted(self) -> int:
        """How many messages may be asked for: what workers that are free now could begin with."""
        if not self._reading:
            return 0
        able = max(0, self._room() - len(self._unbegun))
        able = sum(1 for _ in islice((each for each in self._idle if each in self._ready), able))
        if not able:
            return 0
        free = able - self._gathering.batches
        size = self._options.batch.records_max
        if self._fifo:  # what comes may be of as many groups as there are messages
            one_by_one = self._counts and self._returned.suspects(self._clock())
            return (1 if one_by_one else min(size, BATCH_MAX)) * (free > self._polling.asking)
        room = max(0, free) * size + self._gathering.shortfall - self._polling.asked
        return min(max(0, room), BATCH_MAX)

    @property
    def _paused(self) -> bool:
        """Whether lanes have nothing in hand, and none of them is to get anything."""
        return bool(self._idle) and not any(lane in self._ready for lane in self._idle)

    @property
    def _counts(self) -> bool:
        """Whether it matters how often a message is received."""
        return self._options.retries_max is not None or self._receives_max is not None

    @property
    def _receives_max(self) -> int | None:
        """After so many the queue moves a message to its dead-letter queue."""
        return self._about.receives_max if self._about else None

    def _alone(self, deliveries: int, receives: int) -> bool:
        """Whether a message that is not new has one try left, before it is given up here or the
        queue moves it. Of a FIFO queue nobody knows which of those it was that failed."""
        most, moved = self._options.retries_max, self._receives_max
        if self._fifo and deliveries:
            return self._counts
        given_up = most is not None and deliveries >= max(1, most)
        return given_up or (moved is not None and receives >= max(2, moved))

    def _took(self, found: Sequence[Mapping[str, Any]]) -> None:
        if not found:
            return
        self._waiting = max(0, self._waiting - len(found))
        for told in found:
            if not self._hand.known(told["MessageId"], told["ReceiptHandle"], receives_of(told)):
                self._take(told)
        self._changed.set()

    def _take(self, told: Mapping[str, Any]) -> None:
        now = self._clock()
        record = record_of(self._origin, self._lanes[0], position_of(told), told)
        wanted, receives = self._options.filter, receives_of(told)
        deliveries = self._returned.deliveries(told["MessageId"], receives)
        message = Message(
            id=told["MessageId"],
            receipt=told["ReceiptHandle"],
            record=record,
            group=None if record.key is None else record.key.decode(),
            deliveries=deliveries,
            receives=receives,
            alone=self._alone(deliveries, receives),
            wanted=wanted is None or wanted.wants(*sqs_face(record)),
            since=now,
            until=Instant(now + self._visibility),
        )
        self._hand.take(message)
        self._gathering.add(message, now)

    def _deal(self, lane: Lane) -> bool:
        """Hands the next batch to a lane, if there is one by now."""
        batch = self._gathering.take(self._clock(), self._groups)
        if not batch:
            return False
        held: dict[int, Message] = {}
        for message in batch:
            if message.position in held:  # there is no such queue; it goes with the next batch
                self._gathering.add(message, self._clock())
                continue
            held[message.position] = message
            message.lane = lane
            message.record = message.record.of(lane)
            self._handing.append(message)
        if self._fifo:
            self._group_of[lane] = batch[0].group or ""
            self._groups.add(batch[0].group or "")
        del self._idle[lane]
        self._in_hand[lane] = held
        self._unbegun.add(lane)
        return True

    def _begin_reading(self, ready: Collection[Lane]) -> None:
        self._ready, self._reading = ready, True
        if self._left_at is not None:
            self._left_at = None
            self._polling.stay()

    def _heard(self, error: WorldError | None) -> None:
        """What has become of a receive."""
        if error is None and self._trouble["receive"]:
            self._look_at = self._clock()  # it may be another queue by the same name
        self._ill("receive", None if error is None else str(error))

    def _deletes(self, reason: str | None) -> None:
        """Why they take long, if they do."""
        self._ill("delete", reason)

    def _ill(self, what: str, reason: str | None) -> None:
        self._trouble[what] = reason or ""
        reasons = [each for each in self._trouble.values() if each]
        self._tell("degraded" if reasons else "running", "; ".join(reasons))

    # -- keeping

    @property
    def _visibility(self) -> int:
        """For how long a message is hidden at a time."""
        asked = self._options.visibility_seconds
        own = self._about.visibility_seconds if self._about else VISIBILITY_SECONDS_MIN
        return asked or max(own, VISIBILITY_SECONDS_MIN)

    def _asked_visibility(self) -> int | None:
        own = self._about.visibility_seconds if self._about else None
        return None if own == self._visibility else self._visibility

    async def _keep(self) -> None:
        """Keeps messages hidden, and gives back what will not be run. A request that hangs is not
        waited for while others' time runs out: it is asked for all the same."""
        while True:
            a_while = self._visibility / 6
            await anyio.sleep(min(TICK_SECONDS, a_while))
            with anyio.move_on_after(a_while):
                await self._hand.extend()
            with anyio.move_on_after(a_while):
                await self._let_go()

    async def _look_on(self) -> None:
        while True:
            await anyio.sleep(TICK_SECONDS)
            if self._clock() >= self._look_at:
                with suppress(WorldError):  # whoever polls will tell of it
                    await self._look()

    async def _let_go(self) -> None:
        """Where nothing more is read, or nothing is to be run for now, others may have it."""
        left = self._left_at is not None and self._clock() - self._left_at >= TICK_SECONDS / 2
        if (left or self._paused) and len(self._gathering):
            await self._give_back(self._gathering.clear(), None)

    async def _look(self) -> None:
        self._look_at = Instant(self._clock() + LOOK_SECONDS)  # also where it does not answer
        self._about = await self._queue.attributes()
        self._waiting = self._about.waiting
        self._origin = Origin(
            self._about.arn,
            self._about.arn.split(":")[3] or self._options.access.region,
            spelled_out=self._options.batch.window_seconds > 0,
        )

    # -- settling

    async def _give_back(
        self, messages: Sequence[Message], at: Instant | None, reason: str = ""
    ) -> None:
        """They may be had again from `at` on, having failed; None: at once, not having run. What
        came behind them in their group goes back with them, unrun."""
        if self._fifo and (rest := self._gathering.drop(messages[0].group or "")):
            self._returned.unrun(rest)
            await self._hand.hide(rest, 0)
        if at is None:
            self._returned.unrun(messages)
            await self._hand.hide(messages, 0)
        else:
            now = self._clock()
            until = Instant(max(at, now) + self._visibility + MARGIN_SECONDS)
            self._returned.failed(messages, at, reason, until, self._moved(messages))
            await self._hand.hide(messages, math.ceil(max(0.0, at - now)))

    def _moved(self, messages: Sequence[Message]) -> set[str]:
        """Those that the queue hands out no more, and tells of them: it moves them when their time
        has come. They are not ours any more then, and nothing says that they went."""
        about = self._about
        if about is None or about.receives_max is None:
            return set()
        moved = [each.id for each in messages if each.receives >= about.receives_max]
        if moved:
            dead = (about.dead_letter_arn or "").rpartition(":")[2]
            more = f" and {len(moved) - 1} more" if len(moved) > 1 else ""
            self._warn(
                f"{moved[0]}{more} failed, and came {about.receives_max} times: the queue moves "
                f"what comes more often to {dead}"
            )
        return set(moved)

    def _rest(self, lane: Lane) -> None:
        """The lane has nothing in hand any more."""
        held = self._in_hand.pop(lane, None)
        if held is None:
            return
        self._unbegun.discard(lane)
        self._idle[lane] = None
        self._groups.discard(self._group_of.pop(lane, ""))
        self.wake()

    # -- telling

    def _tell(self, state: str, reason: str) -> None:
        changed = (state, reason) != (self._state, self._reason)
        self._state, self._reason = state, reason
        if changed:
            self._emit(SourceChanged(self.name, state, reason))

    def _warn(self, text: str) -> None:
        self._emit(DaemonStepped("warning:", f"{self.name}: {text}"))

    def _seconds_until(self, at: Instant | None) -> float:
        return IDLE_SECONDS if at is None else max(0.0, at - self._clock())


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with anyio.move_on_after(min(seconds, IDLE_SECONDS)):
        await event.wait()
