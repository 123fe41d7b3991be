"""Lambda's asynchronous invocations: accepted durably, kept until they are over with."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Container
from typing import NamedTuple, TypeAlias

from streamfaas.flow.errors import Busy
from streamfaas.flow.event import EVENT_BYTES_MAX
from streamfaas.store import invocations
from streamfaas.store.database import Store
from streamfaas.store.invocations import Queue, Waiting

EVENTS_MAX = 1_000_000
"""Events of one function that lie in its backlog at most, …"""

BYTES_MAX = 1024 * 1024 * 1024
"""… and how many bytes of them. What comes beyond is refused."""

PAGE_EVENTS = 200
"""Events that are read at a time; …"""

PAGE_BYTES = 4 * 1024 * 1024
"""… as soon as they are as large as this together, no more than those."""


PUT_OFF_SECONDS_MAX = 6 * 3600.0
"""As long as Lambda keeps an event at all."""

Heard: TypeAlias = Callable[[Queue | None], None]
"""Who is told of a backlog to which something came."""


class Page(NamedTuple):
    """Events that may go. `more`: there may be others; `next_due_ms`: when the first of those that
    may not go yet may (None: there is none). `queue` is the function's backlog as a whole."""

    events: tuple[Waiting, ...]
    more: bool
    next_due_ms: int | None
    queue: Queue


class Backlog:
    """The events of all functions that were accepted and are not over with. Each method is one
    transaction. Times are milliseconds of the wall clock, so that what is put off stays so over a
    restart."""

    def __init__(
        self,
        store: Store,
        *,
        events_max: int = EVENTS_MAX,
        bytes_max: int = BYTES_MAX,
        wall_clock: Callable[[], float] = time.time,  # noqa: TID251 - outlives the process
    ) -> None:
        self._store = store
        self._events_max = events_max
        self._bytes_max = bytes_max
        self._wall_clock = wall_clock
        self._listeners: dict[str, Heard] = {}

    def now_ms(self) -> int:
        return int(self._wall_clock() * 1000)

    async def accept(
        self,
        function: str,
        event: bytes,
        request_id: str,
        *,
        hops: int = 0,
        replays: int = 0,
        client_context: bytes = b"",
        order_key: str = "",
        trace: str = "",
    ) -> int:
        """Durable when this returns: the event's number. Events of one order key go one at a time,
        in order. `Busy` where the function's backlog is full."""
        assert len(event) <= EVENT_BYTES_MAX
        digest = invocations.digest_of(event, client_context, trace)
        waiting = Waiting(
            *(0, request_id, event, self.now_ms(), 0),
            *(hops, replays, order_key, client_context, trace),
        )

        def job(connection: sqlite3.Connection) -> Queue | None:
            queue = invocations.queue_of(connection, function)
            if self._is_full(queue, waiting.size_bytes):
                return None  # an error would cost whoever shares the commit a commit of its own
            number = invocations.next_number(connection)
            return invocations.add(connection, queue, waiting._replace(number=number), digest)

        queue: Queue | None = None
        try:
            queue = await self._store.write(job)
        finally:  # a caller that is cancelled may have been served
            self._tell(function, queue)
        if queue is None:
            raise Busy(f"the backlog of {function} is full: its events come faster than they go")
        return queue.last

    def listen(self, function: str, heard: Heard) -> None:
        """Whom to tell of events that were accepted, and of the backlog with them (None: it is not
        known): one at a time, the last who asked."""
        self._listeners[function] = heard

    def unlisten(self, function: str, heard: Heard) -> None:
        """No more, if it is still the one who listens."""
        if self._listeners.get(function) == heard:
            del self._listeners[function]

    async def open(self, function: str) -> Queue:
        """A function's backlog as a whole. What is due so late that the clock must have been wrong
        is due now."""
        now_ms = self.now_ms()

        def job(connection: sqlite3.Connection) -> Queue:
            queue = invocations.queue_of(connection, function)
            invocations.recall(connection, queue, self._latest(now_ms), now_ms)
            return queue

        return await self._store.write(job)

    async def due(self, function: str, without: Container[int]) -> Page:
        """Events that may go now, those that are due the longest first; none of `without`."""
        now_ms = self.now_ms()

        def job(connection: sqlite3.Connection) -> Page:
            queue = invocations.queue_of(connection, function)
            events, room, more = [], PAGE_BYTES, False
            for event in invocations.due(connection, queue, now_ms, without):
                events.append(event)
                room -= event.size_bytes
                if more := room <= 0 or len(events) == PAGE_EVENTS:
                    break
            next_due_ms = invocations.next_due(connection, queue, now_ms)
            return Page(tuple(events), more, next_due_ms, queue)

        return await self._store.read(job)

    async def finish(self, function: str, number: int) -> Queue:
        """Forgets an event for good; the next of its order key may go."""

        def job(connection: sqlite3.Connection) -> Queue:
            queue = invocations.queue_of(connection, function)
            return invocations.remove(connection, queue, number)

        return await self._store.write(job)

    async def put_off(self, number: int, due_ms: int, failures: int) -> None:
        """An event may go again from `due_ms` on, and has failed so often by now."""
        due_ms = min(due_ms, self._latest(self.now_ms()))
        await self._store.write(
            lambda connection: invocations.put_off(connection, number, due_ms, failures)
        )

    async def queues(self) -> tuple[Queue, ...]:
        """How much lies in the backlog of every function that ever had an event."""
        return await self._store.read(invocations.queues)

    def _latest(self, now_ms: int) -> int:
        return now_ms + int(PUT_OFF_SECONDS_MAX * 1000)

    def _is_full(self, queue: Queue, size: int) -> bool:
        return queue.events >= self._events_max or queue.size + size > self._bytes_max

    def _tell(self, function: str, queue: Queue | None) -> None:
        if (heard := self._listeners.get(function)) is not None:
            heard(queue)
