"""What object stores tell of their objects as a source: one event a change, in order for a key."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import orjson

from streamfaas.flow.batch import Batch, looked_at
from streamfaas.flow.errors import CannotSend, CorruptBatch, StoreError, Unreachable
from streamfaas.flow.event import Encoding, Event
from streamfaas.flow.invocation import Manner
from streamfaas.flow.ledger import Ledger, QueueLedger, Receipts, Settlement
from streamfaas.flow.outcome import Failure, Fault, Outcome
from streamfaas.flow.partial import Partial, Style
from streamfaas.flow.record import Instant, Lane, Record, run_of_records
from streamfaas.flow.slots import Slots
from streamfaas.flow.verdict import (
    BLOCKED_AFTER,
    GiveUp,
    Judge,
    Moment,
    RetryPolicy,
    Verdict,
    judge_queue,
)
from streamfaas.sources import Arrival, Arrived, Held, LaneView, Opened, Sender, SourceView, Spawn
from streamfaas.sources.objects import send
from streamfaas.sources.objects.feed import Keeper, MakeFeed, Means
from streamfaas.sources.objects.inbox import PENDING_MAX, Inbox
from streamfaas.store import Store
from streamfaas.store.inbox import InboxEvents
from streamfaas.store.keyed import KEYS_MAX, Head, KeyedQueue
from streamfaas.store.listings import Listings
from streamfaas.store.notices import Waiting
from streamfaas.telemetry.signals import Emit, SourceChanged
from streamfaas.wire.inbound import Desks
from streamfaas.wire.s3_event import Notification, matches, s3_event

MALFORMED = "MalformedNotification"
"""The condition of a document that is no notification, where it is given up."""

IDLE_SECONDS = 60.0
NAMED_MAX = 20
STRANGERS_MAX = 20
"""Buckets that are not the trigger's, and are told of."""


@dataclass(frozen=True, slots=True)
class ObjectsOptions:
    """What a trigger asks for. `buckets` are the ones whose notifications it wants, `events`
    patterns of S3 (`s3:ObjectCreated:*`, `*`), `prefix` and `suffix` those of keys as they are.
    `parallel`: how many events are in hand at a time. `feeds` are the ways by which notifications
    come; `listed`: one of them lists the bucket, and what others tell is remembered for it."""

    buckets: tuple[str, ...]
    feeds: tuple[MakeFeed, ...]
    prefix: str = ""
    suffix: str = ""
    events: tuple[str, ...] = ("s3:ObjectCreated:*",)
    parallel: int = 10
    pending_max: int = PENDING_MAX
    listed: bool = False

    def __post_init__(self) -> None:
        assert self.buckets
        assert self.parallel >= 1
        assert self.pending_max >= 1


class Objects:
    """Notifications of object stores, out of a durable inbox that any number of feeds put them
    into: queues, topics, webhooks, listings.

    Delivery: at least once; what comes again within a day runs once, known by bucket, key, version
    and sequencer (without one: by all that is told of it). Order: for each key by sequencer, where
    there is one, else as they came, and one at a time; an event that comes after a later one of its
    key has begun runs after it, with its own sequencer to tell by. A document that is no
    notification goes where events go that are given up, with its text, but where its feed can
    refuse it, or find what it was about in another way (webhooks, streams).

    Errors: `Unreachable` if the store fails. A feed that fails makes the source degraded; what has
    come, and what comes by other feeds, goes on. Permissions needed: those of the feeds.
    """

    kind: ClassVar[str] = "object-store"
    manner: ClassVar[Manner] = Manner.STREAM
    style: ClassVar[Style] = Style.LISTED

    def __init__(
        self,
        name: str,
        options: ObjectsOptions,
        *,
        store: Store,
        clock: Callable[[], Instant],
        emit: Emit,
        desks: Desks | None = None,
    ) -> None:
        """`desks` are there where anything is posted."""
        self.name = name
        self.judge: Judge = judge
        self._options = options
        self._clock = clock
        self._emit = emit
        listings = Listings(store, name) if options.listed else None
        self._events = InboxEvents(store, name, listings=listings)
        self._queue = KeyedQueue(self._events)
        self.inbox = Inbox(
            self._events,
            self._queue,
            wanted=self._wanted,
            changed=self._told,
            pending_max=options.pending_max,
        )
        means = Means(name, store, clock, emit, self._told, desks)
        self._keepers = [
            Keeper(make(means), self.inbox, clock, self._told) for make in options.feeds
        ]
        self._slots = Slots[Waiting](name, options.parallel)
        self._changed = asyncio.Event()
        self._strangers: dict[str, int] = {}
        self._state, self._reason = "connecting", ""

    # -- pure

    def ledger(self, lane: Lane) -> Ledger:
        return QueueLedger(lane)

    def shape(self, batch: Batch) -> Event:
        """`CorruptBatch` where it is no notification."""
        return Event(Encoding.JSON, (s3_event(r.value or b"" for r in self.records(batch)),))

    def event(self, batch: Batch) -> bytes:
        """A document that is none is told as it came: as JSON, or as a text."""
        (record,) = looked_at(batch)
        return s3_event([record.value or b""]) if record.key else _told_as_json(record.value or b"")

    def records(self, batch: Batch) -> tuple[Record, ...]:
        records = looked_at(batch)
        for record in records:
            if not record.key:
                reason = dict(record.headers)[_REASON].decode()
                raise CorruptBatch(record.position, f"the notification is malformed: {reason}")
        return records

    def face(self, record: Record) -> tuple[Mapping[str, object], bytes | None]:
        """The notification is the data: patterns speak of its fields."""
        return {}, record.value

    def locate(self, batch: Batch, identifier: object) -> int | None:
        """S3 hands over one event at a time, and knows no items."""
        return None

    def batch_info(self, batch: Batch) -> Mapping[str, Any]:
        """S3 sends its events one by one and has no such thing; ours names the objects."""
        told = [orjson.loads(r.value or b"{}")["s3"] for r in looked_at(batch) if r.key]
        return {
            "S3BatchInfo": {
                "batchSize": batch.count,
                "bucketName": next((s3["bucket"]["name"] for s3 in told), ""),
                "objects": [
                    {name: s3["object"].get(name) for name in ("key", "sequencer")} for s3 in told
                ],
            }
        }

    # -- life

    async def open(self, spawn: Spawn) -> None:
        try:
            await self._events.open()
            await self._queue.open()
        except StoreError as error:
            raise Unreachable(error.line) from error
        for keeper in self._keepers:
            spawn(keeper.keep, keeper.feed.name)
        self._told()

    async def next(self, ready: Collection[Lane]) -> Arrival:
        while True:
            if (lane := self._slots.unopened()) is not None:
                return Opened(lane)
            self._changed.clear()
            await self._refill()
            lane = self._slots.idle(ready)
            if lane is not None and (event := self._queue.take(self._clock())) is not None:
                record = await self._record_of(event)
                self._slots.take(lane, event)
                return Arrived(run_of_records((_record(lane, event, record),), event.failures))
            # without a lane it does not matter when an event that is held may go
            await self._wait(self._queue.due if lane else None)

    def wake(self) -> None:
        self._changed.set()

    async def rewind(self, lane: Lane, position: int) -> None:
        """Nothing is read again: what is malformed stays so, and is given up."""
        raise AssertionError("a queue is not read again from a position")

    async def closed(self, lane: Lane) -> None:
        """Never asked for; but what is in the lane's hands goes to another."""
        if (event := self._slots.rest(lane)) is not None:
            await self._queue.give_back(event, None)
        self.wake()

    async def settle(self, settlement: Settlement) -> None:
        """Durable when this returns."""
        assert isinstance(settlement, Receipts)
        if (event := self._slots.settled(settlement)) is None:
            return
        try:
            if settlement.finished:
                await self._queue.finish(event)
                self.inbox.freed()
            else:
                await self._queue.give_back(event, settlement.at, settlement.reason)
        except StoreError as error:
            raise Unreachable(error.line) from error
        self._slots.rest(settlement.lane)
        self.wake()

    def durable(self, lane: Lane) -> int | None:
        return None

    async def close(self) -> None:
        """Every settlement is durable already; each feed was closed by whoever kept it."""

    def view(self) -> SourceView:
        """`lag` of a lane is what it has in hand, and its share of what waits."""
        failing, in_hand = self._queue.failing(), self._slots.in_hand
        blocked = [head for head in failing if head.event.failures >= BLOCKED_AFTER]
        resting = [head for head in failing if head.event.number not in in_hand]
        return SourceView(
            self._state,
            self._reason,
            {
                lane: LaneView(event.number, lag, _text(event)) if event else LaneView(lag=lag)
                for lane, event, lag in self._slots.shares(self._queue.count)
            },
            {self._named(head): head.failure for head in blocked[:NAMED_MAX]},
            {
                "pending": self._queue.count,
                "blocked": len(blocked),
                "duplicates": self.inbox.duplicates,
                "of_other_buckets": dict(self._strangers),
                "feeds": {each.feed.name: _standing(each) for each in self._keepers},
            },
            {
                self._named(head): Held(head.event.failures, head.failure, head.at)
                for head in resting[:NAMED_MAX]
            },
        )

    def _named(self, head: Head[Waiting]) -> Lane:
        """A key that fails, as what holds it."""
        return Lane(self.name, _text(head.event))

    @property
    def known_by(self) -> Callable[[Record], bytes | None]:
        return lambda record: record.key

    def sender(self, topic: str) -> AbstractAsyncContextManager[Sender]:
        options = self._options
        if topic and topic not in options.buckets:
            raise CannotSend(f"the trigger is on the buckets {', '.join(options.buckets)}")
        bucket = topic or options.buckets[0]
        return send.sender(self.inbox, bucket, options.prefix, options.suffix)

    # -- events

    async def _refill(self) -> None:
        try:
            await self._queue.refill()
        except StoreError as error:
            raise Unreachable(error.line) from error

    async def _record_of(self, event: Waiting) -> bytes:
        try:
            return await self._events.record(event.number)
        except BaseException as error:
            await self._queue.give_back(event, None)  # at once: nothing waits in it
            if isinstance(error, StoreError):
                raise Unreachable(error.line) from error
            raise

    def _wanted(self, told: Notification) -> bool:
        options = self._options
        if told.bucket not in options.buckets:
            self._strange(told.bucket)
            return False
        return (
            told.key.startswith(options.prefix.encode())
            and told.key.endswith(options.suffix.encode())
            and any(matches(pattern, told.name) for pattern in options.events)
        )

    def _strange(self, bucket: str) -> None:
        """Told once of each bucket."""
        if bucket in self._strangers:
            self._strangers[bucket] += 1
        elif len(self._strangers) < STRANGERS_MAX:
            self._strangers[bucket] = 1
            ours = ", ".join(self._options.buckets)
            remark = f"notifications of the bucket {bucket} are left out: the trigger is on {ours}"
            self._emit(SourceChanged(self.name, self._state, remark))

    # -- small

    def _told(self) -> None:
        """Something has come, or a feed or the inbox stands otherwise."""
        troubles = [f"{each.feed.name}: {each.trouble}" for each in self._keepers if each.trouble]
        if self.inbox.turns_away:
            troubles.append(
                f"{self._queue.count:,} events wait: no more are taken until some are done"
            )
        if self._queue.full:
            troubles.append(f"{KEYS_MAX:,} keys fail at the same time: others have to wait")
        begun = all(each.trouble is not None for each in self._keepers)
        state = "degraded" if troubles else "running" if begun else "connecting"
        self._tell(state, "; ".join(troubles))
        self.wake()

    def _tell(self, state: str, reason: str) -> None:
        if (state, reason) != (self._state, self._reason):
            self._state, self._reason = state, reason
            self._emit(SourceChanged(self.name, state, reason))

    async def _wait(self, due: Instant | None) -> None:
        """Until something changes, or an event that is held may go."""
        seconds = IDLE_SECONDS
        if due is not None:
            seconds = max(0.0, min(due - self._clock(), IDLE_SECONDS))
        timer = asyncio.get_running_loop().call_later(seconds, self._changed.set)
        try:
            await self._changed.wait()
        finally:
            timer.cancel()


def judge(batch: Batch, outcome: Outcome | Partial, policy: RetryPolicy, moment: Moment) -> Verdict:
    """As any queue; but what is malformed stays so, however often it is tried."""
    if isinstance(outcome, Failure) and outcome.fault is Fault.CORRUPT:
        return GiveUp(batch, MALFORMED, outcome)
    return judge_queue(batch, outcome, policy, moment)


_REASON = "streamfaas-malformed"


def _record(lane: Lane, event: Waiting, record: bytes) -> Record:
    """Without a key it is a document that could not be read."""
    headers = () if event.key else ((_REASON, event.name.encode()),)
    key = event.key.partition(b"/")[2]
    return Record(lane, event.number, record, key, event.taken_ms, headers=headers)


def _told_as_json(body: bytes) -> bytes:
    try:
        return orjson.dumps(orjson.loads(body))
    except (ValueError, TypeError):
        return orjson.dumps(body.decode("utf-8", "backslashreplace"))


def _standing(keeper: Keeper) -> str:
    return "connecting" if keeper.trouble is None else keeper.trouble or "on"


def _text(event: Waiting) -> str:
    return event.key.decode("utf-8", "backslashreplace") or "a malformed document"
