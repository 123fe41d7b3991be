"""What is known of the objects in a bucket: from its listings, and from notifications."""

from __future__ import annotations

import sqlite3

from streamfaas.store.database import Store
from streamfaas.store.known import COLUMNS, PERHAPS, UNKNOWN, Known, Listing, Step, Told
from streamfaas.store.rows import seal

LISTED_MS = 999
"""So much earlier than a listing's time it may have been made: stores tell whole seconds."""


class Listings:
    """The rows of one trigger."""

    def __init__(self, store: Store, mapping: str) -> None:
        self._store = store
        self._mapping = mapping

    async def open(self, bucket: str, now_ms: int) -> Listing:
        """A bucket that nobody knew begins now."""

        def job(connection: sqlite3.Connection) -> Listing:
            if (found := self._find(connection, bucket)) is not None:
                return found
            last = connection.execute("SELECT max(id) FROM listings").fetchone()[0] or 0
            made = Listing(last + 1, now_ms, whole=False, sequencer=0)
            self._put(connection, bucket, made)
            return made

        return await self._store.write(job)

    async def page(
        self, listing: int, since: bytes, until: bytes | None, limit: int
    ) -> list[Known]:
        """Objects with `since` ≤ key (< `until`), in the order of their bytes."""

        def job(connection: sqlite3.Connection) -> list[Known]:
            query = f"SELECT {COLUMNS} FROM listed WHERE listing = ? AND key >= ?"  # noqa: S608
            arguments: list[object] = [listing, since]
            if until is not None:
                query += " AND key < ?"
                arguments.append(until)
            rows = connection.execute(f"{query} ORDER BY key LIMIT ?", (*arguments, limit))
            return list(map(Known._make, rows))

        return await self._store.read(job)

    async def seen_whole(self, bucket: str) -> None:
        """All that was there at the birth of the trigger has been seen."""

        def job(connection: sqlite3.Connection) -> None:
            found = self._find(connection, bucket)
            assert found is not None
            self._put(connection, bucket, found._replace(whole=True))

        await self._store.write(job)

    # -- within a transaction that takes events

    def step(self, connection: sqlite3.Connection, listing: Listing, step: Step) -> bool:
        """Whether it was taken: not where something came in between, which is known by now."""
        known = step.before or step.after
        assert known is not None
        if _get(connection, listing.id, known.key) != step.before:
            return False
        if step.after is None:
            query = "DELETE FROM listed WHERE listing = ? AND key = ?"
            connection.execute(query, (listing.id, known.key))
        else:
            _put_known(connection, listing.id, step.after)
        return True

    def advance(self, connection: sqlite3.Connection, bucket: str, sequencer: int) -> Listing:
        """Later sequencers are given, up to this one."""
        found = self._find(connection, bucket)
        assert found is not None
        later = found._replace(sequencer=max(sequencer, found.sequencer))
        if later != found:
            self._put(connection, bucket, later)
        return later

    def hear(self, connection: sqlite3.Connection, told: Told, now_ms: int) -> bool:
        """Whether it is news; then it is remembered.

        It is none where a listing has shown the same state, and was made after it: of that there
        has been an event. What is older than what is known is news all the same, and changes
        nothing of that.
        """
        listing = self._find(connection, told.bucket)
        if listing is None:  # no listing has begun
            return True
        known = _get(connection, listing.id, told.key)
        time_ms = told.time_ms
        if known is not None and time_ms is not None:
            if time_ms <= known.listed_ms and _is_same(told, known):
                return False
            # what happened in the second of a listing may be older or newer than what that showed
            if time_ms < max(known.listed_ms - LISTED_MS, known.told_ms):
                return True
        if (after := _after(told, known, now_ms)) is not None:
            _put_known(connection, listing.id, after)
        return True

    # -- steps

    def _find(self, connection: sqlite3.Connection, bucket: str) -> Listing | None:
        query = (
            "SELECT id, born_ms, whole, sequencer FROM listings WHERE mapping = ? AND bucket = ?"
        )
        row = connection.execute(query, (self._mapping, bucket)).fetchone()
        return None if row is None else Listing(row[0], row[1], bool(row[2]), row[3])

    def _put(self, connection: sqlite3.Connection, bucket: str, listing: Listing) -> None:
        number, born_ms, whole, sequencer = listing
        values = (number, self._mapping, bucket, born_ms, int(whole), sequencer)
        connection.execute(
            "INSERT OR REPLACE INTO listings VALUES (?, ?, ?, ?, ?, ?, ?)", (*values, seal(*values))
        )


def _after(told: Told, known: Known | None, now_ms: int) -> Known | None:
    """What is known from now on."""
    told_ms = told.time_ms or 0
    if told.gone == PERHAPS:
        if known is None or known.gone:
            return known
        return known._replace(told_ms=told_ms, taken_ms=now_ms, gone=PERHAPS)
    size, etag = told.size, told.etag
    if told.gone and known is not None:
        size, etag = known.size, known.etag
    return Known(told.key, size, etag, told_ms=told_ms, taken_ms=now_ms, gone=told.gone)


def _is_same(told: Told, known: Known) -> bool:
    """A removal is one whatever it was of. What is gone was what it was before that."""
    if told.gone:
        return bool(known.gone)
    return told.etag == known.etag != "" and told.size in {known.size, UNKNOWN}


def _get(connection: sqlite3.Connection, listing: int, key: bytes) -> Known | None:
    query = f"SELECT {COLUMNS} FROM listed WHERE listing = ? AND key = ?"  # noqa: S608
    row = connection.execute(query, (listing, key)).fetchone()
    return None if row is None else Known(*row)


def _put_known(connection: sqlite3.Connection, listing: int, known: Known) -> None:
    row = (listing, *known)
    connection.execute(
        "INSERT OR REPLACE INTO listed VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, seal(*row))
    )
