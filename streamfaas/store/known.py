"""The rows of what is known of the objects in a bucket, each sealed."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from streamfaas.store.rows import seal

SCHEMA = (
    """CREATE TABLE listings (
      id INTEGER PRIMARY KEY,
      mapping TEXT NOT NULL,
      bucket TEXT NOT NULL,
      born_ms INTEGER NOT NULL,
      whole INTEGER NOT NULL,
      sequencer INTEGER NOT NULL,
      seal INTEGER NOT NULL,
      UNIQUE (mapping, bucket)
    )""",
    """CREATE TABLE listed (
      listing INTEGER NOT NULL,
      key BLOB NOT NULL,
      size INTEGER NOT NULL,
      etag TEXT NOT NULL,
      modified_ms INTEGER NOT NULL,
      listed_ms INTEGER NOT NULL,
      told_ms INTEGER NOT NULL,
      taken_ms INTEGER NOT NULL,
      gone INTEGER NOT NULL,
      seal INTEGER NOT NULL,
      PRIMARY KEY (listing, key)
    ) WITHOUT ROWID""",
)

COLUMNS = "key, size, etag, modified_ms, listed_ms, told_ms, taken_ms, gone"


THERE, GONE, PERHAPS = 0, 1, 2
"""Whether an object is. Of a version that was removed it is not known whether it was the last one
that there was: the next listing shows it."""

UNKNOWN = -1
"""The size of an object that a notification does not tell; an entity tag is empty then."""


class Known(NamedTuple):
    """An object as it was when we knew last. All times but one are the store's own.

    `modified_ms` is what a listing shows, 0 if none has since a notification came. `listed_ms` is
    when a listing showed this state as news: whatever brought it about happened before. `told_ms`
    is the time of the last notification, `taken_ms` when it came, by our clock. What is `gone`,
    or perhaps, was so before.
    """

    key: bytes
    size: int
    etag: str
    modified_ms: int = 0
    listed_ms: int = 0
    told_ms: int = 0
    taken_ms: int = 0
    gone: int = THERE


class Listing(NamedTuple):
    """A bucket of one trigger. `born_ms`: when the trigger was, by our clock. `whole`: all that was
    there then has been seen. `sequencer` is the last one that was given."""

    id: int
    born_ms: int
    whole: bool
    sequencer: int


class Told(NamedTuple):
    """What a notification says of an object. `time_ms` None: it does not say when."""

    bucket: str
    key: bytes
    gone: int
    size: int
    etag: str
    time_ms: int | None


class Step(NamedTuple):
    """What becomes of what is known of one key, if that is still what it was. `after` None: it is
    forgotten."""

    before: Known | None
    after: Known | None


def damage(connection: sqlite3.Connection) -> str:
    """The first row whose seal is broken, or nothing."""
    for table, columns in (
        ("listings", "id, mapping, bucket, born_ms, whole, sequencer"),
        ("listed", f"listing, {COLUMNS}"),
    ):
        for *values, given in connection.execute(f"SELECT {columns}, seal FROM {table}"):  # noqa: S608 - no text from outside
            if seal(*values) != given:
                return f"a row of {table} is damaged"
    return ""
