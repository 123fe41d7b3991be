"""The rows of asynchronous invocations: events that were accepted and are not over with, sealed."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Container, Iterator
from typing import NamedTuple

from streamfaas.store.rows import seal

SCHEMA = (
    """CREATE TABLE backlogs (
      id INTEGER PRIMARY KEY,
      function TEXT NOT NULL UNIQUE,
      last INTEGER NOT NULL,
      events INTEGER NOT NULL,
      size INTEGER NOT NULL,
      seal INTEGER NOT NULL
    )""",
    "CREATE INDEX backlogs_by_last ON backlogs (last)",
    """CREATE TABLE invocations (
      number INTEGER PRIMARY KEY,
      backlog INTEGER NOT NULL,
      request_id TEXT NOT NULL,
      accepted_ms INTEGER NOT NULL,
      hops INTEGER NOT NULL,
      replays INTEGER NOT NULL,
      order_key TEXT NOT NULL,
      size INTEGER NOT NULL,
      due_ms INTEGER,
      failures INTEGER NOT NULL,
      timing INTEGER NOT NULL,
      seal INTEGER NOT NULL,
      client_context BLOB NOT NULL,
      event BLOB NOT NULL
    )""",
    """CREATE INDEX invocations_due ON invocations (backlog, due_ms, number)
      WHERE due_ms IS NOT NULL""",
    """CREATE INDEX invocations_in_order ON invocations (backlog, order_key, number)
      WHERE order_key != ''""",
)
"""`due_ms` is NULL for what waits for another of its order key; `timing` is the seal of what
changes (`due_ms`, `failures`), `seal` that of all else. Numbers are never used twice: `last` of a
backlog outlives its events."""

TRACED = ("ALTER TABLE invocations ADD COLUMN trace TEXT NOT NULL DEFAULT ''",)
"""The `traceparent` that an event came with, sealed with what is large: a row without one has the
seal that it had before there was this column."""

ROW_BYTES = 256
"""What an invocation takes beside its event, about."""

_QUEUE = "id, function, last, events, size"
_REST = "number, backlog, request_id, accepted_ms, hops, replays, order_key, size"
_WAITING = (
    "number, request_id, event, accepted_ms, failures, hops, replays, order_key, client_context, "
    "trace"
)


class Queue(NamedTuple):
    """The backlog of one function: the number it gave last, and how much lies in it."""

    id: int
    function: str
    last: int
    events: int
    size: int


class Waiting(NamedTuple):
    """An event that is not over with. `failures` counts the calls that failed, `hops` and
    `replays` how it came here, `trace` is the context that it came with, if any. Events of one
    `order_key` go one at a time, in order."""

    number: int
    request_id: str
    event: bytes
    accepted_ms: int
    failures: int = 0
    hops: int = 0
    replays: int = 0
    order_key: str = ""
    client_context: bytes = b""
    trace: str = ""

    @property
    def size_bytes(self) -> int:
        """What it takes in the store, about."""
        return ROW_BYTES + len(self.event) + len(self.client_context) + len(self.order_key)


def queue_of(connection: sqlite3.Connection, function: str) -> Queue:
    """A function's backlog; a new one, not written down yet, where nobody knows it."""
    query = f"SELECT {_QUEUE} FROM backlogs WHERE function = ?"  # noqa: S608 - no text from outside
    row = connection.execute(query, (function,)).fetchone()
    if row is not None:
        return Queue._make(row)
    last = connection.execute("SELECT max(id) FROM backlogs").fetchone()[0] or 0
    return Queue(last + 1, function, 0, 0, 0)


def queues(connection: sqlite3.Connection) -> tuple[Queue, ...]:
    """All there are, by the names of their functions."""
    query = f"SELECT {_QUEUE} FROM backlogs ORDER BY function"  # noqa: S608 - no text from outside
    return tuple(map(Queue._make, connection.execute(query)))


def next_number(connection: sqlite3.Connection) -> int:
    """One that was never given, whatever has been forgotten meanwhile."""
    return int(connection.execute("SELECT max(last) FROM backlogs").fetchone()[0] or 0) + 1


def add(connection: sqlite3.Connection, queue: Queue, event: Waiting, digest: int) -> Queue:
    """Writes an event down. It is due at once, unless it has to wait for another of its key."""
    key, size = event.order_key, event.size_bytes
    behind = key and _first_of(connection, queue.id, key) is not None
    timing = (event.number, None if behind else event.accepted_ms, event.failures)
    rest = (
        *(event.number, queue.id, event.request_id, event.accepted_ms),
        *(event.hops, event.replays, key, size),
    )
    connection.execute(
        "INSERT INTO invocations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *rest,
            *timing[1:],
            seal(*timing),
            seal(*rest, digest),
            event.client_context,
            event.event,
            event.trace,
        ),
    )
    events = queue.events + 1
    return _put(
        connection, queue._replace(last=event.number, events=events, size=queue.size + size)
    )


def due(
    connection: sqlite3.Connection, queue: Queue, now_ms: int, without: Container[int]
) -> Iterator[Waiting]:
    """Those that may go, the longest due first."""
    query = (
        f"SELECT {_WAITING} FROM invocations WHERE backlog = ? AND due_ms <= ? "  # noqa: S608
        "ORDER BY due_ms, number"
    )
    rows = connection.execute(query, (queue.id, now_ms))
    return (Waiting._make(row) for row in rows if row[0] not in without)


def next_due(connection: sqlite3.Connection, queue: Queue, now_ms: int) -> int | None:
    """When the first of those that may not go yet may."""
    query = "SELECT min(due_ms) FROM invocations WHERE backlog = ? AND due_ms > ?"
    found: int | None = connection.execute(query, (queue.id, now_ms)).fetchone()[0]
    return found


def recall(connection: sqlite3.Connection, queue: Queue, later_ms: int, now_ms: int) -> None:
    """What is due later than that is due now."""
    query = "SELECT number FROM invocations WHERE backlog = ? AND due_ms > ?"
    for (number,) in connection.execute(query, (queue.id, later_ms)).fetchall():
        put_off(connection, number, now_ms, None)


def put_off(connection: sqlite3.Connection, number: int, due_ms: int, failures: int | None) -> None:
    """It is due at another time; `failures` None: it has failed as often as before."""
    query = "SELECT failures FROM invocations WHERE number = ?"
    for (before,) in connection.execute(query, (number,)).fetchall():
        timing = (number, due_ms, before if failures is None else failures)
        connection.execute(
            "UPDATE invocations SET due_ms = ?, failures = ?, timing = ? WHERE number = ?",
            (*timing[1:], seal(*timing), number),
        )


def remove(connection: sqlite3.Connection, queue: Queue, number: int) -> Queue:
    """Forgets an event, and lets the next of its key go."""
    query = (
        "DELETE FROM invocations WHERE number = ? AND backlog = ? RETURNING order_key, size, due_ms"
    )
    for key, size, due_ms in connection.execute(query, (number, queue.id)).fetchall():
        events = queue.events - 1
        queue = _put(connection, queue._replace(events=events, size=queue.size - size))
        if key and due_ms is not None:
            follower = _first_of(connection, queue.id, key)
            if follower is not None:
                put_off(connection, *follower, None)
    return queue


def damage(connection: sqlite3.Connection) -> str:
    """The first row whose seal is broken, or nothing."""
    for *values, given in connection.execute(f"SELECT {_QUEUE}, seal FROM backlogs"):  # noqa: S608
        if seal(*values) != given:
            return "a row of backlogs is damaged"
    query = (
        f"SELECT {_REST}, due_ms, failures, timing, seal, client_context, event, trace "  # noqa: S608
        "FROM invocations"
    )
    for *rest, due_ms, failures, timing, given, context, event, trace in connection.execute(query):
        if not isinstance(context, bytes) or not isinstance(event, bytes):
            return "a row of invocations is damaged"
        digest = digest_of(event, context, trace)
        sealed = (seal(rest[0], due_ms, failures), seal(*rest, digest))
        if sealed != (timing, given):
            return "a row of invocations is damaged"
    return ""


def digest_of(event: bytes, client_context: bytes, trace: str = "") -> int:
    """A checksum of what is large, made where it costs the writer no time."""
    return zlib.crc32(trace.encode(), zlib.crc32(event, zlib.crc32(client_context)))


def _put(connection: sqlite3.Connection, queue: Queue) -> Queue:
    connection.execute(
        "INSERT OR REPLACE INTO backlogs VALUES (?, ?, ?, ?, ?, ?)", (*queue, seal(*queue))
    )
    return queue


def _first_of(connection: sqlite3.Connection, queue: int, key: str) -> tuple[int, int] | None:
    """The number of the first event of a key, and when it was accepted."""
    query = (
        "SELECT number, accepted_ms FROM invocations WHERE backlog = ? AND order_key = ? "
        "AND order_key != '' ORDER BY number LIMIT 1"
    )
    found: tuple[int, int] | None = connection.execute(query, (queue, key)).fetchone()
    return found
