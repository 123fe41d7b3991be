"""Which event goes next: in order for each key, and nobody waits for another key."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any, Generic, Protocol, Self, TypeVar

from streamfaas.flow.record import Instant

PAGE = 500
"""Events that are read from the store at a time; while so many lie ready, no more are read."""

KEYS_MAX = 100_000
"""Keys whose first event lies ready, is in hand or is held. While there are as many (almost all of
them failing, then), events of other keys wait for one of them."""


class Event(Protocol):
    """One that is not finished with. Numbers rise in the order of arrival, ranks of one key in the
    order in which its events happened, as far as that is known."""

    @property
    def number(self) -> int: ...
    @property
    def key(self) -> bytes: ...
    @property
    def name(self) -> str: ...
    @property
    def rank(self) -> Any: ...
    @property
    def failures(self) -> int: ...
    def failed(self) -> Self:
        """It, after one failure more."""


E = TypeVar("E", bound=Event)


class Events(Protocol[E]):
    """Where they lie. Each method is one transaction."""

    async def count(self) -> int: ...
    async def pending(self, after: int, limit: int) -> list[E]:
        """Events with a number above that, in the order of their numbers."""

    async def next_of(self, key: bytes) -> E | None:
        """The first event of one key, by rank and number."""

    async def settle(self, finished: Sequence[int], failed: Sequence[tuple[int, int]]) -> None:
        """Forgets events that are finished with, and keeps how often others have failed."""


@dataclass(slots=True)
class Head(Generic[E]):
    """The first event of a key that is not finished with; `followed`: more may lie behind it;
    `begun`: it has been handed out. After a failure: why it failed, and when it may go again."""

    event: E
    followed: bool = False
    begun: bool = False
    reason: str = ""
    at: Instant | None = None

    @property
    def failure(self) -> str:
        """How often it has failed, and why, for people."""
        failures = self.event.failures
        times = "once" if failures == 1 else f"{failures} times"
        return f"{self.event.name} has failed {times}" + (f": {self.reason}" if self.reason else "")


class KeyedQueue(Generic[E]):
    """The events of a trigger that are not finished with. They lie in the store; here are at most
    the first ones of some keys, since no other may be handed out.

    What comes late goes before what has not begun, if it happened before; what has begun ends
    first. `refill` waits for the store; everything else is done at once.
    """

    def __init__(self, events: Events[E]) -> None:
        self._events = events
        self._heads: dict[bytes, Head[E]] = {}
        self._ready: deque[bytes] = deque()
        self._held: list[tuple[Instant, int, bytes]] = []  # a heap
        self._cursor = 0  # everything up to here has been read once, …
        self._ahead: dict[int, bytes] = {}  # … and these beyond it, which are first of their keys
        self._reading = False
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

    def failing(self) -> list[Head[E]]:
        """Those that have failed, the worst first."""
        found = (head for head in self._heads.values() if head.event.failures)
        return sorted(found, key=lambda head: -head.event.failures)

    async def open(self) -> None:
        self.count = await self._events.count()
        self._unread = self.count > 0

    def arrived(self, count: int) -> None:
        """So many have been written to the store."""
        self.count += count
        self._unread = True

    async def refill(self) -> None:
        """Reads a page at least, and on until something is ready, or nothing left to read."""
        while self._unread and len(self._ready) < PAGE and not self.full:
            self._unread = False  # unless something arrives while this waits
            self._reading = True
            try:
                page = await self._events.pending(self._cursor, PAGE)
            except BaseException:
                self._unread = True
                raise
            finally:
                self._reading = False
            self._unread |= len(page) == PAGE
            for event in page:
                self._cursor = event.number
                self._meet(event)
            # what has been finished with meanwhile may have been in the page, or not
            self._ahead = {at: key for at, key in self._ahead.items() if self._is_ahead(at, key)}
            if self._ready:
                return

    def _meet(self, event: E) -> None:
        if event.number in self._ahead:
            return
        head = self._heads.get(event.key)
        if head is None:
            self._heads[event.key] = Head(event)
            self._ready.append(event.key)
            return
        head.followed = True
        if not head.begun and event.rank < head.event.rank:
            head.event = event

    def _is_ahead(self, number: int, key: bytes) -> bool:
        head = self._heads.get(key)
        return number > self._cursor and head is not None and head.event.number == number

    def take(self, now: Instant) -> E | None:
        """The next event that may be handed out; the caller owes `finish` or `give_back`."""
        if self._held and self._held[0][0] <= now:
            key = heappop(self._held)[2]
        elif self._ready:
            key = self._ready.popleft()
        else:
            return None
        head = self._heads[key]
        head.begun = True
        return head.event

    async def finish(self, event: E) -> None:
        """Forgets it for good; the next of its key may go."""
        await self._events.settle([event.number], [])
        self.count -= 1
        head = self._heads[event.key]
        head.followed |= self._unread
        await self._follow(head)
        if not self._reading:  # else it may be in the page that comes
            self._ahead.pop(event.number, None)

    async def _follow(self, head: Head[E]) -> None:
        """Puts the next event of the key in the place of one that is finished with."""
        key = head.event.key
        while head.followed:
            head.followed = False  # unless one more is met while this waits
            after = await self._events.next_of(key)
            if after is not None and not head.followed:
                self._heads[key] = Head(after, followed=True)
                if after.number > self._cursor:
                    self._ahead[after.number] = key
                self._ready.append(key)
                return
        del self._heads[key]

    async def give_back(self, event: E, at: Instant | None, reason: str = "") -> None:
        """It may go again from `at` on, as one that failed for a `reason`; None: at once, and as
        if it had never been handed out."""
        head = self._heads[event.key]
        if at is None:
            self._ready.appendleft(event.key)
            return
        event = event.failed()
        await self._events.settle([], [(event.number, event.failures)])
        head.event, head.reason, head.at = event, reason, at
        heappush(self._held, (at, event.number, event.key))
