"""What was accepted, and what is known to have come, in a store."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from streamfaas.store import Store, inbox, notices
from streamfaas.store.inbox import InboxEvents
from streamfaas.store.notices import Incoming


class Scene:
    def __init__(self, store: Store) -> None:
        self.store = store
        self.now = 1_000_000.0

    async def events(self, mapping: str = "thumbs/uploads", **options: int) -> InboxEvents:
        made = InboxEvents(self.store, mapping, wall_clock=lambda: self.now, **options)
        await made.open()
        return made

    async def seen(self) -> int:
        query = "SELECT count(*) FROM inbox_seen"
        return await self.store.read(lambda to: int(to.execute(query).fetchone()[0]))


@asynccontextmanager
async def scene():
    with tempfile.TemporaryDirectory() as folder:
        store = await Store.open(Path(folder) / "state" / "streamfaas.db")
        try:
            yield Scene(store)
        finally:
            await store.close()


def event(name: str, rank: str = "", key: bytes = b"uploads/a") -> Incoming:
    return Incoming(key, rank, "ObjectCreated:Put", name.encode(), b"{}")


def test_what_is_known_is_bounded_by_count_and_by_time():
    async def main():
        async with scene() as at:
            few = await at.events(seen_max=5)
            assert await few.add([event(str(n)) for n in range(20)]) == 20
            assert await at.seen() == 5
            assert await few.add([event("19")]) == 0
            assert await few.add([event("3")]) == 1  # so many have come since that it is not known
            at.now += 25 * 3600
            assert await few.add([event("later")]) == 1
            assert await at.seen() == 1

    asyncio.run(main())


def test_the_same_twice_in_one_go_is_one():
    async def main():
        async with scene() as at:
            some = await at.events()
            assert await some.add([event("a"), event("b"), event("a")]) == 2
            assert await some.add([]) == 0

    asyncio.run(main())


def test_an_event_without_a_rank_goes_behind_those_that_wait():
    async def main():
        async with scene() as at:
            some = await at.events()
            await some.add(
                [event("a", "5"), event("b"), event("c", "3"), event("d", "", b"other/a")]
            )
            order = []
            while (first := await some.next_of(b"uploads/a")) is not None:
                order.append(first.number)
                await some.settle([first.number], [])
            assert order == [3, 1, 2]
            assert (await some.next_of(b"other/a")).rank == ""

    asyncio.run(main())


def test_numbers_go_on_over_a_restart_and_triggers_have_each_their_own():
    async def main():
        async with scene() as at:
            first, other = await at.events(), await at.events("thumbs/scans")
            await first.add([event("a"), event("b")])
            assert await other.add([event("a")]) == 1
            await first.settle([1, 2], [])
            again = await at.events()
            await again.add([event("c")])
            assert [each.number for each in await again.pending(0, 10)] == [3]
            assert await inbox.waiting(at.store) == {"thumbs/scans": 1, "thumbs/uploads": 1}
            await again.settle([], [(3, 2)])
            assert [each.failures for each in await again.pending(2, 10)] == [2]

    asyncio.run(main())


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE inboxes SET last = last + 1",
        "UPDATE inbox_events SET record = x'00'",
        "UPDATE inbox_events SET rank = '7'",
        "UPDATE inbox_seen SET at_ms = at_ms + 1",
    ],
)
def test_a_value_that_was_changed_by_somebody_else_is_found(change):
    async def main():
        async with scene() as at:
            some = await at.events()
            await some.add([event("a", "5")])
            assert await at.store.read(notices.damage) == ""

            def job(connection: sqlite3.Connection) -> None:
                connection.execute(change)

            await at.store.write(job)
            assert "is damaged" in await at.store.read(notices.damage)

    asyncio.run(main())
