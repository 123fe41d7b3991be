"""Which event goes next: in order for each key, and nobody waits for another key."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from heapq import heappop, heappush

from streamfaas.flow.record import Instant
from streamfaas.store.objects import Objects
from streamfaas.store.rows import Pending

PAGE = 500
"""Events that are read from the store at a time, and lie ready at most."""

KEYS_MAX = 100_000
"""Keys whose first event lies ready, is in hand or is held. While there are as many (almost all of
them failing, then), events of other keys wait for one of them."""


@dataclass(slots=True)
class Head:
    """The first event of a key that is not finished with; `followed`: more may lie behind it.
    After a failure: why it failed, and when it may go again."""

    event: Pending
    followed: bool = False
    reason: str = ""
    at: Instant | None = None


class EventQueue:
    """The events of a bucket that are not finished with. They lie in the store; here are at most
    the first ones of some keys, since no other may be handed out.

    `refill` waits for the store; everything else is done at once.
    """

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._heads: dict[bytes, Head] = {}
        self._ready: deque[Pending] = deque()
        self._held: list[tuple[Instant, int, Pending]] = []  # a heap
        self._cursor = 0  # everything up to here has been read once
        self._unread = False
        self.count = 0
        """Events that are not finished with."""

    @property
    def due(self) -> Instant | None:
        """When the first of the events that are held may go."""
        return self._held[0][0] if self._held else None

    @property
    def full(self) -> bool:
        return len(self._heads) >= KEYS_MAX

    def failing(self, failures_min: int) -> list[Head]:
        """Those that have failed so often, the worst first."""
        found = (head for head in self._heads.values() if head.event.failures >= failures_min)
        return sorted(found, key=lambda head: -head.event.failures)

    async def open(self) -> None:
        self.count = await self._objects.count()
        self._unread = self.count > 0

    def arrived(self, count: int) -> None:
        """So many have been written to the store."""
        self.count += count
        self._unread = True

    async def refill(self) -> None:
        """Reads on until there is something ready, or nothing left to read."""
        while not self._ready and self._unread and not self.full:
            self._unread = False  # unless something arrives while this waits
            try:
                page = await self._objects.pending(self._cursor, PAGE)
            except BaseException:
                self._unread = True
                raise
            self._unread |= len(page) == PAGE
            for event in page:
                self._cursor = event.sequencer
                head = self._heads.get(event.key)
                if head is None:
                    self._heads[event.key] = Head(event)
                    self._ready.append(event)
                else:
                    head.followed = True

    def take(self, now: Instant) -> Pending | None:
        """The next event that may be handed out; the caller owes `finish` or `give_back`."""
        if self._held and self._held[0][0] <= now:
            return heappop(self._held)[2]
        return self._ready.popleft() if self._ready else None

    async def finish(self, event: Pending) -> None:
        """Forgets it for good; the next of its key may go."""
        await self._objects.settle([event.sequencer], [])
        self.count -= 1
        head = self._heads[event.key]
        while head.followed:
            head.followed = False  # unless one more is met while this waits
            after = await self._objects.next_of(event.key, event.sequencer, self._cursor)
            if after is not None:
                self._heads[event.key] = Head(after, followed=True)
                self._ready.append(after)
                return
        del self._heads[event.key]

    async def give_back(self, event: Pending, at: Instant | None, reason: str = "") -> None:
        """It may go again from `at` on, as one that failed for a `reason`; None: at once, and as
        if it had never been handed out."""
        if at is None:
            self._ready.appendleft(event)
            return
        event = event._replace(failures=event.failures + 1)
        await self._objects.settle([], [(event.sequencer, event.failures)])
        head = self._heads[event.key]
        head.event, head.reason, head.at = event, reason, at
        heappush(self._held, (at, event.sequencer, event))
