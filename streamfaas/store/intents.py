"""The rows of intents: what is to be sent for records, and how far that has come, each sealed."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, NamedTuple, TypeAlias

import orjson

from streamfaas.flow.letters import Attribute, Letter
from streamfaas.store.rows import seal

SCHEMA = (
    """CREATE TABLE intents (
      number INTEGER PRIMARY KEY,
      id TEXT NOT NULL UNIQUE,
      mapping TEXT NOT NULL,
      lane TEXT NOT NULL,
      ranges TEXT NOT NULL,
      last INTEGER NOT NULL,
      destination TEXT NOT NULL,
      kind TEXT NOT NULL,
      condition TEXT NOT NULL,
      records INTEGER NOT NULL,
      made_ms INTEGER NOT NULL,
      hops INTEGER NOT NULL,
      replays INTEGER NOT NULL,
      state TEXT NOT NULL,
      size INTEGER NOT NULL,
      seal INTEGER NOT NULL
    )""",
    """CREATE INDEX intents_guarding ON intents (mapping, lane, last)
      WHERE state != 'settled'""",
    "CREATE INDEX intents_settled ON intents (made_ms, size) WHERE state = 'settled'",
    "CREATE INDEX intents_by_time ON intents (made_ms, id)",
    """CREATE TABLE letters (
      intent INTEGER NOT NULL,
      place INTEGER NOT NULL,
      id TEXT NOT NULL,
      key BLOB,
      document BLOB NOT NULL,
      attributes TEXT NOT NULL,
      seal INTEGER NOT NULL
    )""",
    "CREATE INDEX letters_of_intent ON letters (intent, place)",
)
"""The letter at place 0 is none: it is the event, where there is one."""

INTENDED: State = "intended"
DELIVERED: State = "delivered"
SETTLED: State = "settled"

FAILURE: Kind = "failure"
SUCCESS: Kind = "success"
WINDOWED: Kind = "windowed"
"""A success whose answer is the state of a window. That is durable after the letter, if at all."""

ROW_BYTES = 512
"""What an intent takes beside its letters and its event, about."""

State: TypeAlias = Literal["intended", "delivered", "settled"]
Kind: TypeAlias = Literal["failure", "success", "windowed"]

_COLUMNS = (
    "number, id, mapping, lane, ranges, last, destination, kind, condition, records, made_ms, "
    "hops, replays, state, size"
)
_CARRIED = "intent, place, id, key, document, attributes"
_EVENT = 0  # its place among the letters


@dataclass(frozen=True, slots=True)
class Intent:
    """What is to become of records whose function is done with them: `letters` go to a
    destination. `id` is the same for the same records however often they are judged.

    `mapping` is `function/trigger`, `lane` a lane's name ("" for queues: their positions are those
    of the mapping), `ranges` the first and last positions of the records, rising. `count` counts
    them. `event` is what the function was given, for running it again (None: it is damaged, or not
    kept). `hops` and `replays` count how the records came here. `stored_bytes` is the store's.
    """

    id: str
    mapping: str
    lane: str
    ranges: tuple[tuple[int, int], ...]
    destination: str
    kind: Kind
    condition: str
    count: int
    letters: tuple[Letter, ...]
    event: bytes | None
    made_ms: int
    hops: int = 1
    replays: int = 0
    state: State = INTENDED
    stored_bytes: int = field(default=0, compare=False)

    def __post_init__(self) -> None:
        assert self.ranges
        assert all(first <= last for first, last in self.ranges)
        assert all(last < first for (_, last), (first, _) in pairwise(self.ranges))
        assert self.count >= 0

    @property
    def size_bytes(self) -> int:
        """What it takes in the store, about."""
        letters = sum(
            len(each.id) + len(each.key or b"") + len(each.document) for each in self.letters
        )
        return ROW_BYTES + letters + len(self.event or b"")


class Row(NamedTuple):
    """An intent without what it carries, as it stands in the table."""

    number: int
    id: str
    mapping: str
    lane: str
    ranges: str
    last: int
    destination: str
    kind: Kind
    condition: str
    records: int
    made_ms: int
    hops: int
    replays: int
    state: State
    size: int

    def intent(self, letters: tuple[Letter, ...] = (), event: bytes | None = None) -> Intent:
        return Intent(
            id=self.id,
            mapping=self.mapping,
            lane=self.lane,
            ranges=tuple((first, last) for first, last in orjson.loads(self.ranges)),
            destination=self.destination,
            kind=self.kind,
            condition=self.condition,
            count=self.records,
            letters=letters,
            event=event,
            made_ms=self.made_ms,
            hops=self.hops,
            replays=self.replays,
            state=self.state,
            stored_bytes=self.size,
        )


def find(connection: sqlite3.Connection, where: str, *values: Any) -> list[Row]:
    """Rows for which a condition of ours holds; it may go on with an order and a limit."""
    query = f"SELECT {_COLUMNS} FROM intents WHERE {where}"  # noqa: S608 - no text from outside
    return list(map(Row._make, connection.execute(query, values)))


def whole(connection: sqlite3.Connection, row: Row) -> Intent:
    """With all that it carries."""
    query = f"SELECT {_CARRIED} FROM letters WHERE intent = ? ORDER BY place"  # noqa: S608
    carried = connection.execute(query, (row.number,)).fetchall()
    event = carried.pop(0)[4] if carried and carried[0][1] == _EVENT else None
    letters = (
        Letter(id_, document, key, row.hops, tuple(Attribute(*a) for a in orjson.loads(beside)))
        for _, _, id_, key, document, beside in carried
    )
    return row.intent(tuple(letters), event)


def add(connection: sqlite3.Connection, intent: Intent) -> None:
    """Writes a new one down, with all that it carries."""
    last = connection.execute("SELECT max(number) FROM intents").fetchone()[0] or 0
    row = _row(last + 1, intent)
    places = ", ".join("?" * (len(row) + 1))
    query = f"INSERT INTO intents VALUES ({places})"  # noqa: S608 - only marks
    connection.execute(query, (*row, seal(*row)))
    carried: list[tuple[Any, ...]] = [
        (
            row.number,
            place,
            each.id,
            each.key,
            each.document,
            _written(each.attributes),
        )
        for place, each in enumerate(intent.letters, _EVENT + 1)
    ]
    if intent.event is not None:
        carried.insert(0, (row.number, _EVENT, "", None, intent.event, "[]"))
    connection.executemany(
        "INSERT INTO letters VALUES (?, ?, ?, ?, ?, ?, ?)",
        ((*values, _letter_seal(values)) for values in carried),
    )


def change(connection: sqlite3.Connection, row: Row) -> None:
    """Writes down what may change of a row: its id, where it is, its state, how often it was run
    again."""
    connection.execute(
        "UPDATE intents SET id = ?, destination = ?, state = ?, replays = ?, seal = ? "
        "WHERE number = ?",
        (row.id, row.destination, row.state, row.replays, seal(*row), row.number),
    )


def remove(connection: sqlite3.Connection, rows: list[Row]) -> None:
    """Forgets them, with all that they carry."""
    numbers = [(row.number,) for row in rows]
    connection.executemany("DELETE FROM letters WHERE intent = ?", numbers)
    connection.executemany("DELETE FROM intents WHERE number = ?", numbers)


def damage(connection: sqlite3.Connection) -> str:
    """The first row whose seal is broken, or nothing."""
    for *values, given in connection.execute(f"SELECT {_COLUMNS}, seal FROM intents"):  # noqa: S608
        if seal(*values) != given:
            return "a row of intents is damaged"
    query = f"SELECT {_CARRIED}, seal FROM letters"  # noqa: S608 - no text from outside
    for *values, given in connection.execute(query):
        if _letter_seal(values) != given:
            return "a row of letters is damaged"
    return ""


def _row(number: int, intent: Intent) -> Row:
    return Row(
        number=number,
        id=intent.id,
        mapping=intent.mapping,
        lane=intent.lane,
        ranges=orjson.dumps(intent.ranges).decode(),
        last=intent.ranges[-1][1],
        destination=intent.destination,
        kind=intent.kind,
        condition=intent.condition,
        records=intent.count,
        made_ms=intent.made_ms,
        hops=intent.hops,
        replays=intent.replays,
        state=intent.state,
        size=intent.size_bytes,
    )


def _written(attributes: tuple[Attribute, ...]) -> str:
    return orjson.dumps([[*each] for each in attributes]).decode()


def _letter_seal(values: Sequence[Any]) -> int:
    """Over a document's own checksum, since documents are large; one that is not bytes any more
    has its own. `values` are those of a letter's columns."""
    intent, place, id_, key, document, attributes = values
    digest = zlib.crc32(document) if isinstance(document, bytes) else document
    return seal(intent, place, id_, key, digest, attributes)
