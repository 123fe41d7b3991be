"""The rows of shards: how far each has been read for a trigger, each sealed."""

from __future__ import annotations

import sqlite3
from typing import Any, NamedTuple

from streamfaas.store.rows import seal

SCHEMA = (
    """CREATE TABLE shards (
      mapping TEXT NOT NULL,
      shard TEXT NOT NULL,
      stream TEXT NOT NULL,
      position INTEGER NOT NULL,
      kind TEXT NOT NULL,
      sequence TEXT NOT NULL,
      sub INTEGER NOT NULL,
      at_ms INTEGER NOT NULL,
      ended INTEGER NOT NULL,
      seal INTEGER NOT NULL,
      PRIMARY KEY (mapping, shard)
    ) WITHOUT ROWID""",
)

SEEN = ("ALTER TABLE shards ADD COLUMN seen_ms INTEGER NOT NULL DEFAULT 0",)
"""Sealed with the rest: a row without one has the seal that it had before there was this column."""

COLUMNS = "shard, stream, position, kind, sequence, sub, at_ms, ended, seen_ms"


class Mark(NamedTuple):
    """Where reading of a shard goes on. The record at or after `sequence` (`kind` says which, in
    the service's words) is number `position` of the lane; `at_ms` is when that sequence arrived,
    or, where nothing has been read yet, from when on (`AT_TIMESTAMP`). The first `sub` records that
    begin there are finished with (of an aggregate). `stream` says which life of the stream it is
    of. `ended`: all of the shard is finished with. `seen_ms` is when, by the service's clock, the
    mark was made, nothing was beyond it, or the shard was ended; 0: not known."""

    shard: str
    stream: str
    position: int
    kind: str
    sequence: str
    sub: int
    at_ms: int
    ended: bool
    seen_ms: int = 0


def sealed(mapping: str, mark: Mark) -> int:
    """The seal of a row."""
    values = (mapping, *mark[:-2], int(mark.ended))
    return seal(*values, mark.seen_ms) if mark.seen_ms else seal(*values)


def mark_of(row: tuple[Any, ...]) -> Mark:
    """Out of the columns."""
    mark = Mark._make(row)
    return mark._replace(ended=bool(mark.ended))


def damage(connection: sqlite3.Connection) -> str:
    """The first row whose seal is broken, or nothing."""
    for mapping, *row, given in connection.execute(f"SELECT mapping, {COLUMNS}, seal FROM shards"):  # noqa: S608 - as above
        if sealed(mapping, Mark._make(row)) != given:
            return "a row of shards is damaged"
    return ""
