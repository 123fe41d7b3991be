"""How far each shard of a stream has been read for a trigger, over restarts."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable

from streamfaas.store.database import Store
from streamfaas.store.shards import COLUMNS, Mark, mark_of, sealed


class Checkpoints:
    """The marks of one trigger. Each method is one transaction; errors are `StoreError`s."""

    def __init__(self, store: Store, mapping: str) -> None:
        self._store = store
        self._mapping = mapping

    async def load(self) -> dict[str, Mark]:
        """By shard."""
        query = f"SELECT {COLUMNS} FROM shards WHERE mapping = ?"  # noqa: S608 - no text of others

        def job(connection: sqlite3.Connection) -> dict[str, Mark]:
            rows = connection.execute(query, (self._mapping,)).fetchall()
            return {row[0]: mark_of(row) for row in rows}

        return await self._store.read(job)

    async def put(self, marks: Iterable[Mark]) -> None:
        """Durable when this returns."""
        rows = [(self._mapping, *mark, sealed(self._mapping, mark)) for mark in marks]

        def job(connection: sqlite3.Connection) -> None:
            connection.executemany(
                f"INSERT OR REPLACE INTO shards (mapping, {COLUMNS}, seal) "  # noqa: S608 - as above
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                rows,
            )

        await self._store.write(job)

    async def forget(self, shards: Collection[str]) -> None:
        """Shards that the stream itself has forgotten, or that are of an earlier life of it."""
        rows = [(self._mapping, shard) for shard in shards]

        def job(connection: sqlite3.Connection) -> None:
            connection.executemany("DELETE FROM shards WHERE mapping = ? AND shard = ?", rows)

        await self._store.write(job)
