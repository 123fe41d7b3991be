"""How the tumbling windows of each lane stand, over restarts, each row sealed."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from streamfaas.flow.pane import Window
from streamfaas.flow.record import Lane
from streamfaas.flow.window import Kept, Standing
from streamfaas.store.rows import seal

if TYPE_CHECKING:
    from streamfaas.store.database import Store

SCHEMA = (
    """CREATE TABLE windows (
      mapping TEXT NOT NULL,
      lane TEXT NOT NULL,
      life TEXT NOT NULL,
      durable INTEGER NOT NULL,
      position INTEGER NOT NULL,
      floor_ms INTEGER NOT NULL,
      start_ms INTEGER,
      end_ms INTEGER,
      early INTEGER NOT NULL,
      state BLOB NOT NULL,
      seal INTEGER NOT NULL,
      PRIMARY KEY (mapping, lane)
    )""",
)

COLUMNS = "mapping, lane, life, durable, position, floor_ms, start_ms, end_ms, early, state"


class Windows:
    """The rows of all mappings. Each method is one transaction; errors are `StoreError`s."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def load(self, lane: Lane) -> Kept | None:
        query = f"SELECT {COLUMNS} FROM windows WHERE mapping = ? AND lane = ?"  # noqa: S608 - no text of others

        def job(connection: sqlite3.Connection) -> Kept | None:
            row = connection.execute(query, (lane.source, lane.name)).fetchone()
            return None if row is None else _kept(*row[2:])

        return await self._store.read(job)

    async def put(self, lane: Lane, kept: Kept) -> None:
        """Durable when this returns."""
        standing = kept.standing
        window = standing.window
        row = (
            lane.source,
            lane.name,
            kept.life,
            kept.durable,
            standing.position,
            standing.floor_ms,
            None if window is None else window.start_ms,
            None if window is None else window.end_ms,
            standing.early + 2 * standing.ending,
            standing.state,
        )

        def job(connection: sqlite3.Connection) -> None:
            query = "INSERT OR REPLACE INTO windows VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            connection.execute(query, (*row, seal(*row)))

        await self._store.write(job)

    async def open(self) -> dict[str, int]:
        """How many windows of each mapping are open."""
        query = "SELECT mapping, count(*) FROM windows WHERE start_ms IS NOT NULL GROUP BY mapping"

        def job(connection: sqlite3.Connection) -> dict[str, int]:
            return dict(connection.execute(query).fetchall())

        return await self._store.read(job)

    async def forget(self, lanes: Collection[Lane]) -> None:
        rows = [(lane.source, lane.name) for lane in lanes]

        def job(connection: sqlite3.Connection) -> None:
            connection.executemany("DELETE FROM windows WHERE mapping = ? AND lane = ?", rows)

        await self._store.write(job)


def _kept(life: str, durable: int, *row: Any) -> Kept:
    position, floor_ms, start_ms, end_ms, early, state = row
    open_ = None if start_ms is None else Window(start_ms, end_ms)
    ending = bool(early & 2)  # two words in one column: there were no others when it was made
    standing = Standing(position, floor_ms, open_, bool(early & 1), state, ending=ending)
    return Kept(standing, life, durable)


def damage(connection: sqlite3.Connection) -> str:
    """The first row whose seal is broken, or nothing."""
    for *values, given in connection.execute(f"SELECT {COLUMNS}, seal FROM windows"):  # noqa: S608 - as above
        if seal(*values) != given:
            return "a row of windows is damaged"
    return ""
