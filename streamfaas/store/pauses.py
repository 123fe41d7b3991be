"""Which triggers are paused: it must survive a restart, or that would resume them."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, NamedTuple

from streamfaas.store.rows import seal

if TYPE_CHECKING:
    from streamfaas.store.database import Store

SCHEMA = (
    """CREATE TABLE pauses (
      mapping TEXT PRIMARY KEY,
      since_ms INTEGER NOT NULL,
      who TEXT NOT NULL,
      seal INTEGER NOT NULL
    )""",
)


class Paused(NamedTuple):
    """A mapping (`function/trigger`) that is paused, since when and by whom."""

    mapping: str
    since_ms: int
    by: str


class Pauses:
    """The rows of all mappings, those too that are not configured now. Each method is one
    transaction."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def all(self) -> list[Paused]:
        query = "SELECT mapping, since_ms, who FROM pauses ORDER BY mapping"
        return await self._store.read(
            lambda connection: list(map(Paused._make, connection.execute(query)))
        )

    async def put(self, pauses: list[Paused]) -> None:
        """One that is there already stays as it is."""

        def job(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "INSERT OR IGNORE INTO pauses VALUES (?, ?, ?, ?)",
                ((*each, seal(*each)) for each in pauses),
            )

        await self._store.write(job)

    async def remove(self, mappings: list[str]) -> None:
        def job(connection: sqlite3.Connection) -> None:
            query = "DELETE FROM pauses WHERE mapping = ?"
            connection.executemany(query, ((each,) for each in mappings))

        await self._store.write(job)


def damage(connection: sqlite3.Connection) -> str:
    """The first row whose seal is broken, or nothing."""
    for *values, given in connection.execute("SELECT mapping, since_ms, who, seal FROM pauses"):
        if seal(*values) != given:
            return "a row of pauses is damaged"
    return ""
