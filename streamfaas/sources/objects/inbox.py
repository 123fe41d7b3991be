"""The one door into a trigger on an object store: what it has taken survives a crash."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

from streamfaas.flow.errors import Busy, StoreError, Unreachable
from streamfaas.store.inbox import InboxEvents
from streamfaas.store.keyed import KeyedQueue
from streamfaas.store.known import GONE, PERHAPS, THERE, UNKNOWN, Step, Told
from streamfaas.store.notices import Incoming, Waiting
from streamfaas.wire.s3_event import Notification, order_of
from streamfaas.wire.s3_fields import Malformed
from streamfaas.wire.s3_notifications import notifications

PENDING_MAX = 100_000
"""Events that wait at most: feeds acknowledge nothing beyond, and their carriers keep it."""

REASON_MAX = 500


class Inbox:
    """What all feeds of a trigger put their notifications into. Once `take` or `deliver` has
    returned, the carrier may forget what it has handed over. Errors: `Busy` where too many events
    wait, `Unreachable` where the store fails; nothing has been taken then, or it is no harm to
    give it again."""

    def __init__(
        self,
        events: InboxEvents,
        queue: KeyedQueue[Waiting],
        *,
        wanted: Callable[[Notification], bool],
        changed: Callable[[], None],
        pending_max: int = PENDING_MAX,
    ) -> None:
        """`changed` is called when something has come, and when there is no room any more, or some
        again."""
        self._events = events
        self._queue = queue
        self._wanted = wanted
        self._changed = changed
        self._pending_max = pending_max
        self._room = asyncio.Event()
        self._room.set()
        self.duplicates = 0
        """Events that had come before, since the source was made."""

    @property
    def full(self) -> bool:
        return self._queue.count >= self._pending_max

    @property
    def turns_away(self) -> bool:
        """Something that came had to stay where it was."""
        return not self._room.is_set()

    def wants(self, told: Notification) -> bool:
        """Whether the trigger does."""
        return self._wanted(told)

    async def take(self, some: Sequence[Notification]) -> int:
        """How many of them are new. What the trigger does not want counts as taken."""
        return await self._add([_incoming(each) for each in some if self._wanted(each)])

    async def deliver(self, documents: Iterable[bytes]) -> None:
        """Takes documents as they come, and waits for room. One that cannot be read is kept: it
        goes where events go that are given up."""
        incoming = [each for document in documents for each in self._read(document)]
        while True:
            try:
                await self._add(incoming)
            except Busy:
                await self.wait_for_room()
            else:
                return

    async def note(
        self, bucket: str, steps: Sequence[tuple[Step, Notification | None]], sequencer: int
    ) -> int:
        """What a listing has shown, and what it makes of that: events of sequencers of its own, up
        to this one, which say nothing beside those of the store. How many are new."""
        incoming = [
            (step, None if told is None or not self._wanted(told) else _noted(told))
            for step, told in steps
        ]
        new = await self._written(self._events.note(bucket, incoming, sequencer))
        self._arrived(new)
        return new

    def _read(self, document: bytes) -> list[Incoming]:
        try:
            found = notifications(document)
        except Malformed as malformed:
            reason = str(malformed)[:REASON_MAX]
            return [Incoming(b"", "", reason, b"malformed\0" + document, document)]
        return [_incoming(each) for each in found if self._wanted(each)]

    async def wait_for_room(self) -> None:
        """Until it is not full."""
        while self.full:
            self._turn_away()
            await self._room.wait()

    def freed(self) -> None:
        """An event is finished with."""
        if not self._room.is_set() and not self.full:
            self._room.set()
            self._changed()

    def _turn_away(self) -> None:
        if self._room.is_set():
            self._room.clear()
            self._changed()

    async def _add(self, incoming: Sequence[Incoming]) -> int:
        if not incoming:
            return 0
        if self.full:
            self._turn_away()
            raise Busy(f"{self._queue.count:,} events wait already")
        new = await self._written(self._events.add(incoming))
        self.duplicates += len(incoming) - new
        self._arrived(new)
        return new

    async def _written(self, writing: Awaitable[int]) -> int:
        try:
            return await writing
        except StoreError as error:
            raise Unreachable(error.line) from error

    def _arrived(self, new: int) -> None:
        if new:
            self._queue.arrived(new)
            self._changed()


def _incoming(told: Notification) -> Incoming:
    """With a sequencer it is known by that. Without one it is known by all that is told of it: two
    changes of one second, of a store that tells no finer time, must not be taken for one."""
    key = b"%s/%s" % (told.bucket.encode(), told.key)
    if told.sequencer:
        parts = (key, (told.version_id or "").encode(), told.sequencer.encode(), told.name.encode())
        rank, identity = order_of(told.sequencer), b"\0\0".join(parts)
    else:
        rank, identity = "", b"%s\0\0\0%s" % (key, told.record)
    return Incoming(key, rank, told.name, identity, told.record, _remembered(told))


def _noted(told: Notification) -> Incoming:
    return _incoming(told)._replace(rank="", told=None)


def _remembered(told: Notification) -> Told | None:
    """What it tells of whether an object is there; of its tags, say, nothing does."""
    if not told.name.startswith((*_REMOVED, _CREATED)):
        return None
    size = UNKNOWN if told.size is None else told.size
    gone = _gone(told) if told.name.startswith(_REMOVED) else THERE
    return Told(told.bucket, told.key, gone, size, told.etag or "", told.time_ms)


def _gone(told: Notification) -> int:
    """A removal of one version may leave others, or be that of a marker."""
    return PERHAPS if told.version_id and told.name.endswith(":Delete") else GONE


_CREATED = "ObjectCreated:"
_REMOVED = ("ObjectRemoved:", "LifecycleExpiration:")
