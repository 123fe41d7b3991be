"""What a directory bucket remembers: its objects, and the events that are not finished with."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from streamfaas.store.database import Store
from streamfaas.store.rows import Bucket, Pending, Remembered, Root, seal

_OBJECT = "key, size, mtime_ns, inode, etag, sequencer, root"
_EVENT = "sequencer, key, name, time_ms, size, etag, failures"


class Change(NamedTuple):
    """What becomes of one key, in one transaction with its event: nothing is remembered without
    what follows from it. `state` None: the key is forgotten."""

    key: bytes
    state: Remembered | None
    event: Pending | None


class Objects:
    """The rows of one trigger. All methods are one transaction each."""

    def __init__(self, store: Store, mapping: str) -> None:
        self._store = store
        self._mapping = mapping
        self._bucket = 0

    async def open(self, now_ns: int) -> Bucket:
        """What is remembered; a trigger that nobody knew is born now."""

        def job(connection: sqlite3.Connection) -> Bucket:
            query = "SELECT id, born_ns, scanned, sequencer FROM buckets WHERE mapping = ?"
            row = connection.execute(query, (self._mapping,)).fetchone()
            if row is not None:
                return Bucket(row[0], row[1], bool(row[2]), row[3])
            last = connection.execute("SELECT max(id) FROM buckets").fetchone()[0] or 0
            bucket = Bucket(last + 1, now_ns, scanned=False, sequencer=0)
            _put_bucket(connection, self._mapping, bucket)
            return bucket

        bucket = await self._store.write(job)
        self._bucket = bucket.id
        return bucket

    async def root(self, root: Root) -> int:
        """The number of a directory; a new one gets the next."""

        def job(connection: sqlite3.Connection) -> int:
            query = "SELECT id, device, inode, filesystem FROM roots WHERE bucket = ?"
            for number, *known in connection.execute(query, (self._bucket,)).fetchall():
                if root.same(Root(*known)):
                    values = (number, self._bucket, *root)
                    break
            else:
                last = connection.execute("SELECT max(id) FROM roots").fetchone()[0] or 0
                values = (last + 1, self._bucket, *root)
            connection.execute(
                "INSERT OR REPLACE INTO roots VALUES (?, ?, ?, ?, ?, ?)", (*values, seal(*values))
            )
            return int(values[0])

        return await self._store.write(job)

    # -- objects

    async def page(self, after: bytes, upto: bytes | None, limit: int) -> list[Remembered]:
        """Objects with `after` < key (≤ `upto`), in the order of their bytes."""

        def job(connection: sqlite3.Connection) -> list[Remembered]:
            query = f"SELECT {_OBJECT} FROM objects WHERE bucket = ? AND key > ?"  # noqa: S608
            arguments: list[object] = [self._bucket, after]
            if upto is not None:
                query += " AND key <= ?"
                arguments.append(upto)
            rows = connection.execute(f"{query} ORDER BY key LIMIT ?", (*arguments, limit))
            return list(map(Remembered._make, rows))

        return await self._store.read(job)

    async def some(self, keys: Sequence[bytes]) -> list[Remembered]:
        """Those of the keys that are remembered."""

        def job(connection: sqlite3.Connection) -> list[Remembered]:
            query = f"SELECT {_OBJECT} FROM objects WHERE bucket = ? AND key = ?"  # noqa: S608
            rows = (connection.execute(query, (self._bucket, key)).fetchone() for key in keys)
            return [Remembered(*row) for row in rows if row is not None]

        return await self._store.read(job)

    async def folders(self, keys: Sequence[bytes]) -> set[bytes]:
        """Those of the keys that objects are remembered below of."""

        def job(connection: sqlite3.Connection) -> set[bytes]:
            query = "SELECT 1 FROM objects WHERE bucket = ? AND key > ? AND key < ? LIMIT 1"
            return {
                key
                for key in keys
                # "0" is what comes after the slash
                if connection.execute(query, (self._bucket, key + b"/", key + b"0")).fetchone()
            }

        return await self._store.read(job)

    async def elsewhere(self, root: int) -> int:
        """How many objects were last seen in another directory."""

        def job(connection: sqlite3.Connection) -> int:
            query = "SELECT count(*) FROM objects WHERE bucket = ? AND root != ?"
            return int(connection.execute(query, (self._bucket, root)).fetchone()[0])

        return await self._store.read(job)

    async def record(self, changes: Sequence[Change]) -> None:
        """All of it or nothing."""
        bucket = self._bucket
        states = [(bucket, *c.state) for c in changes if c.state is not None]
        events = [(bucket, *c.event) for c in changes if c.event is not None]
        forgotten = [(bucket, c.key) for c in changes if c.state is None]
        newest = max((c.event.sequencer for c in changes if c.event is not None), default=0)

        def job(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                ((*row, seal(*row)) for row in states),
            )
            connection.executemany("DELETE FROM objects WHERE bucket = ? AND key = ?", forgotten)
            connection.executemany(
                "INSERT INTO object_events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                ((*row, seal(*row), failures) for *row, failures in events),
            )
            if newest:
                self._change_bucket(connection, sequencer=newest)

        await self._store.write(job)

    async def scanned(self) -> None:
        """Everything that was there at the birth of the trigger has been looked at."""
        await self._store.write(lambda connection: self._change_bucket(connection, scanned=True))

    # -- events

    async def count(self) -> int:
        def job(connection: sqlite3.Connection) -> int:
            query = "SELECT count(*) FROM object_events WHERE bucket = ?"
            return int(connection.execute(query, (self._bucket,)).fetchone()[0])

        return await self._store.read(job)

    async def pending(self, after: int, limit: int) -> list[Pending]:
        """Events in the order in which they happened."""

        def job(connection: sqlite3.Connection) -> list[Pending]:
            query = (
                f"SELECT {_EVENT} FROM object_events WHERE bucket = ? AND sequencer > ? "  # noqa: S608
                "ORDER BY sequencer LIMIT ?"
            )
            return list(map(Pending._make, connection.execute(query, (self._bucket, after, limit))))

        return await self._store.read(job)

    async def next_of(self, key: bytes) -> Pending | None:
        """The first event of one key."""

        def job(connection: sqlite3.Connection) -> Pending | None:
            query = (
                f"SELECT {_EVENT} FROM object_events WHERE bucket = ? AND key = ? "  # noqa: S608
                "ORDER BY sequencer LIMIT 1"
            )
            row = connection.execute(query, (self._bucket, key)).fetchone()
            return None if row is None else Pending(*row)

        return await self._store.read(job)

    async def settle(self, finished: Sequence[int], failed: Sequence[tuple[int, int]]) -> None:
        """Forgets events that are finished with, and keeps how often others have failed."""
        bucket = self._bucket

        def job(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "DELETE FROM object_events WHERE bucket = ? AND sequencer = ?",
                ((bucket, sequencer) for sequencer in finished),
            )
            connection.executemany(
                "UPDATE object_events SET failures = ? WHERE bucket = ? AND sequencer = ?",
                ((failures, bucket, sequencer) for sequencer, failures in failed),
            )

        await self._store.write(job)

    def _change_bucket(
        self, connection: sqlite3.Connection, *, sequencer: int = 0, scanned: bool = False
    ) -> None:
        query = "SELECT id, born_ns, scanned, sequencer FROM buckets WHERE id = ?"
        number, born_ns, was_scanned, last = connection.execute(query, (self._bucket,)).fetchone()
        bucket = Bucket(number, born_ns, bool(was_scanned) or scanned, max(last, sequencer))
        _put_bucket(connection, self._mapping, bucket)


def _put_bucket(connection: sqlite3.Connection, mapping: str, bucket: Bucket) -> None:
    values = (bucket.id, mapping, bucket.born_ns, int(bucket.scanned), bucket.sequencer)
    connection.execute(
        "INSERT OR REPLACE INTO buckets VALUES (?, ?, ?, ?, ?, ?)", (*values, seal(*values))
    )
