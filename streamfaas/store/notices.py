"""The rows of inboxes of object stores: what was accepted and what came lately, each sealed."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from streamfaas.store.known import Told
from streamfaas.store.rows import seal

SCHEMA = (
    """CREATE TABLE inboxes (
      id INTEGER PRIMARY KEY,
      mapping TEXT NOT NULL UNIQUE,
      last INTEGER NOT NULL,
      seal INTEGER NOT NULL
    )""",
    """CREATE TABLE inbox_events (
      inbox INTEGER NOT NULL,
      number INTEGER NOT NULL,
      key BLOB NOT NULL,
      rank TEXT NOT NULL,
      name TEXT NOT NULL,
      taken_ms INTEGER NOT NULL,
      record BLOB NOT NULL,
      seal INTEGER NOT NULL,
      failures INTEGER NOT NULL,
      PRIMARY KEY (inbox, number)
    ) WITHOUT ROWID""",
    "CREATE INDEX inbox_events_by_key ON inbox_events (inbox, key, rank, number)",
    """CREATE TABLE inbox_seen (
      inbox INTEGER NOT NULL,
      number INTEGER NOT NULL,
      digest BLOB NOT NULL,
      at_ms INTEGER NOT NULL,
      seal INTEGER NOT NULL,
      PRIMARY KEY (inbox, number)
    ) WITHOUT ROWID""",
    "CREATE UNIQUE INDEX inbox_seen_by_digest ON inbox_seen (inbox, digest)",
)
"""`failures` is not sealed: it changes alone, and a wrong one costs a retry at most."""

COLUMNS = "number, key, rank, name, taken_ms, failures"


class Incoming(NamedTuple):
    """An event on its way in. What has the same `identity` is the same event. `rank` orders the
    events of a key; without one it goes behind those that wait. `told` is what it tells of an
    object, where that is remembered."""

    key: bytes
    rank: str
    name: str
    identity: bytes
    record: bytes
    told: Told | None = None


class Waiting(NamedTuple):
    """An event that has been accepted, without its record, which may be long."""

    number: int
    key: bytes
    rank: str
    name: str
    taken_ms: int
    failures: int = 0

    def failed(self) -> Waiting:
        return self._replace(failures=self.failures + 1)


def damage(connection: sqlite3.Connection) -> str:
    """The first row whose seal is broken, or nothing."""
    for table, columns in (
        ("inboxes", "id, mapping, last"),
        ("inbox_events", "inbox, number, key, rank, name, taken_ms, record"),
        ("inbox_seen", "inbox, number, digest, at_ms"),
    ):
        for *values, given in connection.execute(f"SELECT {columns}, seal FROM {table}"):  # noqa: S608 - no text from outside
            if seal(*values) != given:
                return f"a row of {table} is damaged"
    return ""
