"""The rows of directory buckets, each sealed: a bit that turns is found, whatever it is in."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable
from typing import Any, NamedTuple

SCHEMA = (
    """CREATE TABLE buckets (
      id INTEGER PRIMARY KEY,
      mapping TEXT NOT NULL UNIQUE,
      born_ns INTEGER NOT NULL,
      scanned INTEGER NOT NULL,
      sequencer INTEGER NOT NULL,
      seal INTEGER NOT NULL
    )""",
    """CREATE TABLE roots (
      id INTEGER PRIMARY KEY,
      bucket INTEGER NOT NULL,
      device TEXT NOT NULL,
      inode TEXT NOT NULL,
      filesystem TEXT NOT NULL,
      seal INTEGER NOT NULL
    )""",
    """CREATE TABLE objects (
      bucket INTEGER NOT NULL,
      key BLOB NOT NULL,
      size INTEGER NOT NULL,
      mtime_ns INTEGER NOT NULL,
      inode INTEGER NOT NULL,
      etag TEXT NOT NULL,
      sequencer INTEGER NOT NULL,
      root INTEGER NOT NULL,
      seal INTEGER NOT NULL,
      PRIMARY KEY (bucket, key)
    ) WITHOUT ROWID""",
    """CREATE TABLE object_events (
      bucket INTEGER NOT NULL,
      sequencer INTEGER NOT NULL,
      key BLOB NOT NULL,
      name TEXT NOT NULL,
      time_ms INTEGER NOT NULL,
      size INTEGER,
      etag TEXT,
      seal INTEGER NOT NULL,
      failures INTEGER NOT NULL,
      PRIMARY KEY (bucket, sequencer)
    ) WITHOUT ROWID""",
    "CREATE INDEX object_events_by_key ON object_events (bucket, key, sequencer)",
)
"""`failures` is not sealed: it changes alone, and a wrong one costs a retry at most."""


class Root(NamedTuple):
    """Which directory it was. The numbers are text: they may have all 64 bits."""

    device: str
    inode: str
    filesystem: str

    def same(self, other: Root) -> bool:
        """The number of a device may change when the machine starts anew, the file system's own
        identity does not; some file systems have none ("0")."""
        known = self.filesystem != "0" and self.filesystem == other.filesystem
        return self.inode == other.inode and (self.device == other.device or known)


class Remembered(NamedTuple):
    """An object as it was when it was last seen. `root` numbers the directory it was seen in."""

    key: bytes
    size: int
    mtime_ns: int
    inode: int
    etag: str
    sequencer: int
    root: int


class Pending(NamedTuple):
    """An event that has not been finished with. A removal has neither size nor etag."""

    sequencer: int
    key: bytes
    name: str
    time_ms: int
    size: int | None
    etag: str | None
    failures: int = 0

    @property
    def number(self) -> int:
        return self.sequencer

    @property
    def rank(self) -> int:
        """Changes are seen in the order in which they happen."""
        return self.sequencer

    def failed(self) -> Pending:
        return self._replace(failures=self.failures + 1)


class Bucket(NamedTuple):
    """What is remembered of a trigger as a whole. `scanned`: all that was there when it was born
    has been looked at."""

    id: int
    born_ns: int
    scanned: bool
    sequencer: int


def seal(*values: Any) -> int:
    """A checksum over the values, with their places and types."""
    return zlib.crc32(repr(values).encode())


def damage(connection: sqlite3.Connection) -> str:
    """The first row whose seal is broken, or nothing."""
    tables: Iterable[tuple[str, str]] = (
        ("buckets", "id, mapping, born_ns, scanned, sequencer"),
        ("roots", "id, bucket, device, inode, filesystem"),
        ("objects", "bucket, key, size, mtime_ns, inode, etag, sequencer, root"),
        ("object_events", "bucket, sequencer, key, name, time_ms, size, etag"),
    )
    for table, columns in tables:
        for *values, given in connection.execute(f"SELECT {columns}, seal FROM {table}"):  # noqa: S608 - no text from outside
            if seal(*values) != given:
                return f"a row of {table} is damaged"
    return ""
