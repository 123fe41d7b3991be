"""The rows of shards: how far each has been read for a trigger, each sealed."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

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

COLUMNS = "shard, stream, position, kind, sequence, sub, at_ms, ended"


class Mark(NamedTuple):
    """Where reading of a shard goes on. The record at or after `sequence` (`kind` says which, in
    the service's words) is number `position` of the lane; `at_ms` is when that sequence arrived,
    or, where nothing has been read yet, from when on (`AT_TIMESTAMP`). The first `sub` records that
    begin there are finished with (of an aggregate). `stream` says which life of the stream it is
    of. `ended`: all of the shard is finished with."""

    shard: str
    stream: str
    position: int
    kind: str
    sequence: str
    sub: int
    at_ms: int
    ended: bool


def damage(connection: sqlite3.Connection) -> str:
    """The first row whose seal is broken, or nothing."""
    for *values, given in connection.execute(f"SELECT mapping, {COLUMNS}, seal FROM shards"):  # noqa: S608 - as above
        if seal(*values) != given:
            return "a row of shards is damaged"
    return ""
