"""A directory as a source: one event a change, at least once, in order for each key."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from streamfaas.flow.batch import Batch, looked_at
from streamfaas.flow.errors import CannotSend, StoreError, Unreachable, WorldError
from streamfaas.flow.event import Encoding, Event
from streamfaas.flow.invocation import Manner
from streamfaas.flow.ledger import Ledger, QueueLedger, Receipts, Settlement
from streamfaas.flow.partial import Style
from streamfaas.flow.record import Instant, Lane, Record, run_of_records
from streamfaas.flow.slots import Slots
from streamfaas.flow.verdict import BLOCKED_AFTER, Judge, judge_queue
from streamfaas.sources import (
    Arrival,
    Arrived,
    Held,
    LaneView,
    Opened,
    Sender,
    SourceView,
    Spawn,
)
from streamfaas.sources.directory import inventory, put
from streamfaas.sources.directory.inventory import SKIPPED_MAX, Findings, Inventory, Rules
from streamfaas.sources.directory.watch import Watch
from streamfaas.store import Store
from streamfaas.store.keyed import KEYS_MAX, Head, KeyedQueue
from streamfaas.store.objects import Objects
from streamfaas.store.rows import Pending
from streamfaas.telemetry.signals import Emit, SourceChanged
from streamfaas.wire.s3_event import S3Change, encoded_key, matches, own_notification, s3_event

HINTS_SECONDS = 0.05
"""Changes are looked at so long after the first of them, all at once."""

IDLE_SECONDS = 60.0
NAMED_MAX = 20


@dataclass(frozen=True, slots=True)
class DirectoryOptions:
    """What a trigger asks of its directory. `events` are patterns of S3 (`s3:ObjectCreated:*`,
    `ObjectRemoved:*`, `*`). `existing`: objects that are there when the trigger is born are
    events. `parallel`: how many events are in hand at a time."""

    path: Path
    bucket: str
    prefix: str = ""
    suffix: str = ""
    events: tuple[str, ...] = ("s3:ObjectCreated:*",)
    interval_seconds: float = 10.0
    settle_seconds: float = 1.0
    existing: bool = True
    parallel: int = 10
    region: str = "us-east-1"

    def __post_init__(self) -> None:
        assert self.interval_seconds > 0
        assert self.settle_seconds >= 0
        assert self.parallel >= 1


class Directory:
    """Files are objects, their paths below the directory are keys. Names that begin with a dot do
    not exist, symbolic links are not followed, and only regular files count.

    Delivery: at least once; each state of a file that was seen gives one event, those of one key
    in order and one at a time. What happened while nobody looked is found by comparing with what
    is remembered. A file that is replaced twice between two looks was replaced once. A file counts
    as written when it has not been modified for `settle_seconds`; one whose modification time is
    already that old (it was moved in) counts at once. That compares the clock of the file system
    with ours: where it is ahead, a file must be seen unchanged for so long instead.

    Entity tags are the MD5 of the content up to 16 MiB; beyond, a hash of size, modification time
    and inode, in the form that S3 gives to objects of several parts.

    Errors: `Gone`, `Refused` or `Unreachable` if the directory cannot be read at the start; later
    the source is degraded until it can be. `Unreachable` if the store fails.

    Permissions needed: read and search on the directory and all below it.
    """

    kind: ClassVar[str] = "directory"
    manner: ClassVar[Manner] = Manner.STREAM
    style: ClassVar[Style] = Style.LISTED

    def __init__(
        self,
        name: str,
        options: DirectoryOptions,
        *,
        store: Store,
        clock: Callable[[], Instant],
        emit: Emit,
        wall_clock: Callable[[], float] = time.time,  # noqa: TID251 - the time of an event
    ) -> None:
        self.name = name
        self.judge: Judge = judge_queue
        self._options = options
        self._clock = clock
        self._emit = emit
        objects = Objects(store, name)
        self._queue = KeyedQueue(objects)
        rules = Rules(
            path=options.path,
            settle_seconds=options.settle_seconds,
            # after a loss of memory, what was pending may be among what is there
            existing=options.existing or bool(store.lost),
            wanted=self._wanted,
        )
        self._watch = Watch(self._hint, self._look_now)
        self._inventory = Inventory(
            rules,
            objects,
            clock=clock,
            wall_clock=wall_clock,
            recorded=self._recorded,
            shown=self._watch.show,
        )
        self._slots = Slots[Pending](name, options.parallel)
        self._changed = asyncio.Event()
        self._hints: set[bytes] = set()
        self._hinted = asyncio.Event()
        self._sweep_at = Instant(0)
        self._troubled = False
        self._elsewhere = 0
        self._remarks: set[bytes] = set()
        self._closing = False
        self._state, self._reason = "connecting", ""

    # -- pure

    def ledger(self, lane: Lane) -> Ledger:
        return QueueLedger(lane)

    def shape(self, batch: Batch) -> Event:
        return Event(Encoding.JSON, (self.event(batch),))

    def event(self, batch: Batch) -> bytes:
        return s3_event(record.value or b"" for record in self.records(batch))

    def records(self, batch: Batch) -> tuple[Record, ...]:
        return looked_at(batch)

    def face(self, record: Record) -> tuple[Mapping[str, object], bytes | None]:
        """The notification is the data: patterns speak of its fields."""
        return {}, record.value

    def locate(self, batch: Batch, identifier: object) -> int | None:
        """S3 hands over one event at a time, and knows no items."""
        return None

    def batch_info(self, batch: Batch) -> Mapping[str, Any]:
        """S3 sends its events one by one and has no such thing; ours names the objects."""
        return {
            "S3BatchInfo": {
                "batchSize": batch.count,
                "bucketName": self._options.bucket,
                "objects": [
                    {"key": encoded_key(record.key or b""), "sequencer": f"{record.position:018X}"}
                    for record in self.records(batch)
                ],
            }
        }

    # -- life

    async def open(self, spawn: Spawn) -> None:
        try:
            await self._inventory.open()
            await self._queue.open()
        except StoreError as error:
            raise Unreachable(error.line) from error
        self._sweep_at = self._clock()
        self._tell("running", "")
        spawn(self._keep_up, "scan")

    async def next(self, ready: Collection[Lane]) -> Arrival:
        while True:
            if (lane := self._slots.unopened()) is not None:
                return Opened(lane)
            self._changed.clear()
            await self._refill()
            lane = self._slots.idle(ready)
            if lane is not None and (event := self._queue.take(self._clock())) is not None:
                self._slots.take(lane, event)
                return Arrived(run_of_records((self._record(lane, event),), event.failures))
            # without a lane it does not matter when an event that is held may go
            await _wait(self._changed, self._seconds_until(self._queue.due if lane else None))

    def wake(self) -> None:
        self._changed.set()

    async def rewind(self, lane: Lane, position: int) -> None:
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
            else:
                await self._queue.give_back(event, settlement.at, settlement.reason)
        except StoreError as error:
            raise Unreachable(error.line) from error
        self._slots.rest(settlement.lane)
        self.wake()

    def durable(self, lane: Lane) -> int | None:
        return None

    async def close(self) -> None:
        """Every settlement is durable already."""
        self._closing = True
        self._hinted.set()

    def view(self) -> SourceView:
        """`lag` of a lane is what it has in hand, and its share of what waits."""
        failing, in_hand = self._queue.failing(), self._slots.in_hand
        blocked = [head for head in failing if head.event.failures >= BLOCKED_AFTER]
        resting = [head for head in failing if head.event.number not in in_hand]
        return SourceView(
            self._state,
            self._reason,
            {
                lane: LaneView(event.number, lag, _text(event.key)) if event else LaneView(lag=lag)
                for lane, event, lag in self._slots.shares(self._queue.count)
            },
            {self._named(head): head.failure for head in blocked[:NAMED_MAX]},
            {
                "pending": self._queue.count,
                "blocked": len(blocked),
                "watch": self._watch.trouble or "on",
                "remembered_from_elsewhere": self._elsewhere,
            },
            {
                self._named(head): Held(head.event.failures, head.failure, head.at)
                for head in resting[:NAMED_MAX]
            },
        )

    def _named(self, head: Head[Pending]) -> Lane:
        """A key that fails, as what holds it."""
        return Lane(self.name, _text(head.event.key))

    @property
    def known_by(self) -> Callable[[Record], bytes | None]:
        return lambda record: record.key

    def sender(self, topic: str) -> AbstractAsyncContextManager[Sender]:
        options = self._options
        if topic:
            raise CannotSend("a directory has no topics")
        if not any(matches(pattern, "ObjectCreated:Put") for pattern in options.events):
            raise CannotSend("the trigger does not tell of files that are written")
        return put.sender(options.path, options.bucket, options.prefix, options.suffix)

    # -- events

    async def _refill(self) -> None:
        try:
            await self._queue.refill()
        except StoreError as error:
            raise Unreachable(error.line) from error

    def _recorded(self, events: int) -> None:
        self._queue.arrived(events)
        self.wake()

    def _record(self, lane: Lane, event: Pending) -> Record:
        change = S3Change(
            self._options.bucket,
            event.key,
            event.name,
            event.time_ms,
            sequencer=f"{event.sequencer:018X}",
            etag=event.etag,
            size=event.size,
            region=self._options.region,
            configuration=self.name.rpartition("/")[2],
        )
        value = own_notification(change).record
        return Record(lane, event.sequencer, value, event.key, event.time_ms)

    def _wanted(self, name: str, key: bytes) -> bool:
        options = self._options
        return (
            key.startswith(os.fsencode(options.prefix))
            and key.endswith(os.fsencode(options.suffix))
            and any(matches(pattern, name) for pattern in options.events)
        )

    # -- keeping up with the directory

    async def _keep_up(self) -> None:
        """The sweep is the truth. What the kernel tells of only says where to look sooner."""
        self._watch.open()
        try:
            while not self._closing:
                self._hinted.clear()
                await self._look()
                await _wait(self._hinted, self._seconds_until(self._look_at()))
        finally:
            self._watch.close()

    def _look_at(self) -> Instant:
        due = None if self._troubled else self._inventory.due
        return self._sweep_at if due is None else min(self._sweep_at, due)

    async def _look(self) -> None:
        hints, self._hints = self._hints, set()
        sweeping = self._clock() >= self._sweep_at or len(hints) > inventory.PAGE
        if sweeping:
            self._sweep_at = Instant(self._clock() + self._options.interval_seconds)
            if self._watch.trouble:
                self._watch.open()
        before = self._inventory.identity
        try:
            if sweeping:
                await self._swept(await self._inventory.sweep())
            elif keys := hints or self._inventory.due_keys():
                await self._inventory.examine(keys)
        except WorldError as error:
            self._trouble(str(error))
        except StoreError as error:
            self._trouble(error.line)
        if self._inventory.identity != before:
            self._watch.open()  # what is watched is another directory by now
            self._look_now()

    def _trouble(self, reason: str) -> None:
        """Nothing is lost: the next sweep finds what this look did not."""
        self._troubled = True
        self._tell("degraded", reason)
        self._sweep_at = Instant(self._clock() + self._options.interval_seconds)

    async def _swept(self, findings: Findings) -> None:
        self._troubled = False
        for skipped in findings.skipped:
            if skipped.key not in self._remarks and len(self._remarks) < SKIPPED_MAX:
                self._remarks.add(skipped.key)
                remark = f"{_text(skipped.key)} is left out: {skipped.reason}"
                self._emit(SourceChanged(self.name, self._state, remark))
        self._elsewhere = await self._inventory.elsewhere()
        if findings.hidden:
            self._tell("degraded", _described(findings))
        elif self._elsewhere:
            self._tell(
                "degraded",
                f"{self._options.path} is not the directory that it was: {self._elsewhere} "
                "objects of the other one are remembered, and not taken for removed "
                "(is a volume not mounted?)",
            )
        elif self._queue.full:
            self._tell("degraded", f"{KEYS_MAX} keys fail at the same time: others have to wait")
        elif trouble := self._watch.trouble:
            every = f"every {self._options.interval_seconds:g} s"
            self._tell("degraded", f"changes are found {every} and not at once: {trouble}")
        else:
            self._tell("running", "")

    def _hint(self, key: bytes) -> None:
        if not any(name.startswith(b".") for name in key.split(b"/")):
            if not self._hints:
                asyncio.get_running_loop().call_later(HINTS_SECONDS, self._hinted.set)
            if len(self._hints) <= inventory.PAGE:  # beyond that all is looked at
                self._hints.add(key)

    def _look_now(self) -> None:
        self._sweep_at = self._clock()
        self._hinted.set()

    # -- small

    def _tell(self, state: str, reason: str) -> None:
        if (state, reason) != (self._state, self._reason):
            self._state, self._reason = state, reason
            self._emit(SourceChanged(self.name, state, reason))

    def _seconds_until(self, at: Instant | None) -> float:
        return IDLE_SECONDS if at is None else max(0.0, min(at - self._clock(), IDLE_SECONDS))


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Until it is set, or so long."""
    timer = asyncio.get_running_loop().call_later(seconds, event.set)
    try:
        await event.wait()
    finally:
        timer.cancel()


def _described(findings: Findings) -> str:
    first = findings.hidden[0]
    more = f" and {len(findings.hidden) - 1} more" if len(findings.hidden) > 1 else ""
    place = _text(first.prefix) or "the directory"
    return f"{place}{more} cannot be looked into: {first.reason}"


def _text(key: bytes) -> str:
    return key.decode("utf-8", "backslashreplace")
