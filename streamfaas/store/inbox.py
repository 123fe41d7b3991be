"""Events of object stores that were accepted, and are not finished with; and what came lately."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b

from streamfaas.store.database import Store
from streamfaas.store.known import Step
from streamfaas.store.listings import Listings
from streamfaas.store.notices import COLUMNS, Incoming, Waiting
from streamfaas.store.rows import seal

WINDOW_MS = 24 * 3_600_000
"""For so long what came once does not count when it comes again, …"""

SEEN_MAX = 100_000
"""… if not more than so many have come since."""

_PURGED_MAX = 100
"""What is too old is forgotten in steps: so many, and two for each event that comes."""


class InboxEvents:
    """The rows of one trigger. Each method is one transaction."""

    def __init__(
        self,
        store: Store,
        mapping: str,
        *,
        window_ms: int = WINDOW_MS,
        seen_max: int = SEEN_MAX,
        listings: Listings | None = None,
        wall_clock: Callable[[], float] = time.time,  # noqa: TID251 - outlives the process
    ) -> None:
        """With `listings`, what comes is remembered for them, and is not new where one has shown
        it already."""
        self._store = store
        self._mapping = mapping
        self._window_ms = window_ms
        self._seen_max = seen_max
        self._listings = listings
        self._wall_clock = wall_clock
        self._inbox = 0

    async def open(self) -> None:
        """A trigger that nobody knew gets an inbox."""

        def job(connection: sqlite3.Connection) -> int:
            query = "SELECT id FROM inboxes WHERE mapping = ?"
            row = connection.execute(query, (self._mapping,)).fetchone()
            if row is not None:
                return int(row[0])
            last = connection.execute("SELECT max(id) FROM inboxes").fetchone()[0] or 0
            _put_inbox(connection, last + 1, self._mapping, 0)
            return int(last + 1)

        self._inbox = await self._store.write(job)

    async def add(self, incoming: Sequence[Incoming]) -> int:
        """How many of them are new; all are durable when this returns."""
        now_ms = int(self._wall_clock() * 1000)
        known = [(each, _digest(each)) for each in incoming]

        def job(connection: sqlite3.Connection) -> int:
            new = (
                (event, digest)
                for event, digest in known
                if not self._seen(connection, digest, now_ms)
                and self._heard(connection, event, now_ms)
            )
            return self._append(connection, new, now_ms)

        return await self._store.write(job)

    async def note(
        self, bucket: str, steps: Sequence[tuple[Step, Incoming | None]], sequencer: int
    ) -> int:
        """What a listing has shown, with its events, and the last sequencer that those have; how
        many events that were. What a notification was faster with is left out."""
        listings = self._listings
        assert listings is not None
        now_ms = int(self._wall_clock() * 1000)

        def job(connection: sqlite3.Connection) -> int:
            listing = listings.advance(connection, bucket, sequencer)
            new = (
                (event, _digest(event))
                for step, event in steps
                if listings.step(connection, listing, step) and event is not None
            )
            return self._append(connection, new, now_ms)

        return await self._store.write(job)

    # -- for the queue

    async def count(self) -> int:
        def job(connection: sqlite3.Connection) -> int:
            query = "SELECT count(*) FROM inbox_events WHERE inbox = ?"
            return int(connection.execute(query, (self._inbox,)).fetchone()[0])

        return await self._store.read(job)

    async def pending(self, after: int, limit: int) -> list[Waiting]:
        """In the order in which they came."""

        def job(connection: sqlite3.Connection) -> list[Waiting]:
            query = (
                f"SELECT {COLUMNS} FROM inbox_events WHERE inbox = ? AND number > ? "  # noqa: S608
                "ORDER BY number LIMIT ?"
            )
            return list(map(Waiting._make, connection.execute(query, (self._inbox, after, limit))))

        return await self._store.read(job)

    async def next_of(self, key: bytes) -> Waiting | None:
        """The first event of one key, by rank."""

        def job(connection: sqlite3.Connection) -> Waiting | None:
            query = (
                f"SELECT {COLUMNS} FROM inbox_events WHERE inbox = ? AND key = ? "  # noqa: S608
                "ORDER BY rank, number LIMIT 1"
            )
            row = connection.execute(query, (self._inbox, key)).fetchone()
            return None if row is None else Waiting(*row)

        return await self._store.read(job)

    async def record(self, number: int) -> bytes:
        """What was accepted under a number, and is not finished with."""

        def job(connection: sqlite3.Connection) -> bytes:
            query = "SELECT record FROM inbox_events WHERE inbox = ? AND number = ?"
            return bytes(connection.execute(query, (self._inbox, number)).fetchone()[0])

        return await self._store.read(job)

    async def settle(self, finished: Sequence[int], failed: Sequence[tuple[int, int]]) -> None:
        """Forgets events that are finished with, and keeps how often others have failed."""
        inbox = self._inbox

        def job(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "DELETE FROM inbox_events WHERE inbox = ? AND number = ?",
                ((inbox, number) for number in finished),
            )
            connection.executemany(
                "UPDATE inbox_events SET failures = ? WHERE inbox = ? AND number = ?",
                ((failures, inbox, number) for number, failures in failed),
            )

        await self._store.write(job)

    # -- steps

    def _append(
        self, connection: sqlite3.Connection, new: Iterable[tuple[Incoming, bytes]], now_ms: int
    ) -> int:
        query = "SELECT last FROM inboxes WHERE id = ?"
        before = last = int(connection.execute(query, (self._inbox,)).fetchone()[0])
        for event, digest in new:
            last += 1
            self._put(connection, last, event, digest, now_ms)
        if last > before:
            _put_inbox(connection, self._inbox, self._mapping, last)
            self._purge(connection, last, last - before, now_ms)
        return last - before

    def _heard(self, connection: sqlite3.Connection, event: Incoming, now_ms: int) -> bool:
        """Whether it is news beside what listings have shown."""
        if self._listings is None or event.told is None:
            return True
        return self._listings.hear(connection, event.told, now_ms)

    def _seen(self, connection: sqlite3.Connection, digest: bytes, now_ms: int) -> bool:
        query = "SELECT at_ms FROM inbox_seen WHERE inbox = ? AND digest = ?"
        row = connection.execute(query, (self._inbox, digest)).fetchone()
        return row is not None and row[0] > now_ms - self._window_ms

    def _put(
        self,
        connection: sqlite3.Connection,
        number: int,
        event: Incoming,
        digest: bytes,
        now_ms: int,
    ) -> None:
        rank = event.rank or self._last_rank(connection, event.key)
        row = (self._inbox, number, event.key, rank, event.name, now_ms, event.record)
        connection.execute(
            "INSERT INTO inbox_events VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0)", (*row, seal(*row))
        )
        seen = (self._inbox, number, digest, now_ms)
        connection.execute(
            "INSERT OR REPLACE INTO inbox_seen VALUES (?, ?, ?, ?, ?)", (*seen, seal(*seen))
        )

    def _last_rank(self, connection: sqlite3.Connection, key: bytes) -> str:
        query = "SELECT max(rank) FROM inbox_events WHERE inbox = ? AND key = ?"
        return connection.execute(query, (self._inbox, key)).fetchone()[0] or ""

    def _purge(self, connection: sqlite3.Connection, last: int, came: int, now_ms: int) -> None:
        connection.execute(
            "DELETE FROM inbox_seen WHERE inbox = ? AND number <= ?",
            (self._inbox, last - self._seen_max),
        )
        connection.execute(
            "DELETE FROM inbox_seen WHERE inbox = ? AND at_ms <= ? AND number IN "
            "(SELECT number FROM inbox_seen WHERE inbox = ? ORDER BY number LIMIT ?)",
            (self._inbox, now_ms - self._window_ms, self._inbox, _PURGED_MAX + 2 * came),
        )


def _digest(event: Incoming) -> bytes:
    return blake2b(event.identity, digest_size=16).digest()


async def waiting(store: Store) -> dict[str, int]:
    """How many events each trigger has that are not done with."""

    def job(connection: sqlite3.Connection) -> dict[str, int]:
        query = (
            "SELECT mapping, count(*) FROM inboxes JOIN inbox_events ON inbox = id GROUP BY mapping"
        )
        return dict(connection.execute(query).fetchall())

    return await store.read(job)


def _put_inbox(connection: sqlite3.Connection, inbox: int, mapping: str, last: int) -> None:
    values = (inbox, mapping, last)
    connection.execute(
        "INSERT OR REPLACE INTO inboxes VALUES (?, ?, ?, ?)", (*values, seal(*values))
    )
