"""Which event goes next, whatever comes, ends or fails while the store is asked."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamfaas.flow.record import Instant
from streamfaas.store import keyed
from streamfaas.store.keyed import KeyedQueue
from streamfaas.store.notices import Waiting


class Shelf:
    """Events in memory, told after turns of the loop as chance has it."""

    def __init__(self, chance: random.Random) -> None:
        self.rows: dict[int, Waiting] = {}
        self.chance = chance
        self.last = 0

    def put(self, key: bytes, rank: str) -> None:
        self.last += 1
        self.rows[self.last] = Waiting(self.last, key, rank, "name", 0)

    async def turn(self) -> None:
        for _ in range(self.chance.randrange(3)):
            await asyncio.sleep(0)

    async def count(self) -> int:
        return len(self.rows)

    async def pending(self, after: int, limit: int) -> list[Waiting]:
        await self.turn()
        found = [self.rows[number] for number in sorted(self.rows) if number > after][:limit]
        await self.turn()
        return found

    async def next_of(self, key: bytes) -> Waiting | None:
        await self.turn()
        found = [each for each in self.rows.values() if each.key == key]
        await self.turn()
        return min(found, key=lambda each: (each.rank, each.number), default=None)

    async def settle(self, finished, failed) -> None:
        await self.turn()
        for number in finished:
            del self.rows[number]
        for number, failures in failed:
            self.rows[number] = self.rows[number]._replace(failures=failures)
        await self.turn()


class Hands:
    """Some that take events, run them for a while, and finish with them or give them back."""

    def __init__(self, shelf: Shelf, queue: KeyedQueue[Waiting], events: int) -> None:
        self.shelf = shelf
        self.queue = queue
        self.left = events
        self.busy: set[bytes] = set()
        self.begun: set[int] = set()
        self.done: list[Waiting] = []
        self.turn = asyncio.Lock()  # one at a time asks what comes next

    async def work(self) -> None:
        while len(self.done) < self.left:
            async with self.turn:
                await self.queue.refill()
                event = self.queue.take(Instant(0.0))
                if event is not None:
                    self.check(event)
            await (asyncio.sleep(0) if event is None else self.run(event))

    def check(self, event: Waiting) -> None:
        assert event.key not in self.busy, "two of a key at a time"
        assert event.number in self.shelf.rows, "it has been finished with"
        self.busy.add(event.key)
        if event.number not in self.begun:
            known = (
                each.rank
                for each in self.shelf.rows.values()
                if each.key == event.key and each.number <= self.queue._cursor
            )
            assert event.rank == min([event.rank, *known]), "an older one was known"
        self.begun.add(event.number)

    async def run(self, event: Waiting) -> None:
        await self.shelf.turn()
        how = self.shelf.chance.randrange(4)
        self.busy.discard(event.key)
        if how == 0:
            await self.queue.give_back(event, None)
        elif how == 1 and event.failures < 3:
            await self.queue.give_back(event, Instant(0.0), "it failed")
        else:
            self.busy.add(event.key)
            finishing = self.queue.finish(event)
            self.busy.discard(event.key)
            await finishing
            self.done.append(event)


@pytest.mark.slow
@settings(max_examples=150)
@given(
    seed=st.integers(0, 1 << 32),
    waves=st.lists(
        st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), max_size=6), max_size=8
    ),
    page=st.integers(1, 4),
)
def test_each_event_runs_to_its_end_once_and_none_before_an_older_one_that_is_known(
    seed, waves, page
):
    usual, keyed.PAGE = keyed.PAGE, page

    async def main():
        shelf = Shelf(random.Random(seed))
        queue = KeyedQueue(shelf)
        first, *later = waves or [[]]
        for key, rank in first:
            shelf.put(key.encode(), str(rank))
        await queue.open()
        hands = Hands(shelf, queue, sum(map(len, waves)))

        async def come() -> None:
            for wave in later:
                await shelf.turn()
                for key, rank in wave:
                    shelf.put(key.encode(), str(rank))
                queue.arrived(len(wave))

        async with asyncio.timeout(30):
            await asyncio.gather(come(), *(hands.work() for _ in range(3)))
        assert sorted(each.number for each in hands.done) == list(range(1, shelf.last + 1))
        assert queue.count == 0
        assert queue._heads == {}
        assert not queue._ready
        assert not queue._ahead

    try:
        asyncio.run(main())
    finally:
        keyed.PAGE = usual


def test_an_event_that_was_looked_at_ahead_does_not_come_again_when_it_is_read():
    async def main():
        shelf = Shelf(random.Random(0))
        queue = KeyedQueue(shelf)
        shelf.put(b"a", "5")
        await queue.open()
        await queue.refill()
        first = queue.take(Instant(0.0))
        shelf.put(b"a", "6")
        queue.arrived(1)
        await queue.finish(first)  # which looks at what is next of the key: it has not been read
        second = queue.take(Instant(0.0))
        assert second.rank == "6"
        await queue.refill()
        assert queue.take(Instant(0.0)) is None
        await queue.finish(second)
        assert (queue.count, queue._ahead) == (0, {})

    asyncio.run(main())
