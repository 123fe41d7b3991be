"""Letters to destinations: intended before they are sent; and what was put aside, to look up."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping

from streamfaas.store import intents
from streamfaas.store.database import Store
from streamfaas.store.intents import DELIVERED, FAILURE, INTENDED, SETTLED, Intent, Row
from streamfaas.telemetry.signals import DaemonStepped, Emit

SETTLED_BYTES_MAX = 256 * 1024 * 1024
"""What the catalogue keeps at most of failures that are settled, the newest; …"""

SETTLED_DAYS_MAX = 14.0
"""… and for how long (as long as the longest of SQS's dead-letter queues). What guards records is
not counted, and never dropped."""

TRIM_BYTES = SETTLED_BYTES_MAX // 16
"""By so much the catalogue may grow beyond its bound before it is trimmed; …"""

TRIM_SECONDS = 3600.0
"""… or for so long, if it grows at all."""

LIST_MAX = 1000

_DAY_MS = 24 * 3600 * 1000


class Outbox:
    """What is to be sent for records that the function is done with, and what was.

    The order that loses nothing: `intend`, send, `delivered`, move the checkpoint (or finish the
    records), and `settled` once that is durable. As long as an intent is not settled it *guards*
    its records: when they come again after a crash, the send is resumed (`intended`) or nothing is
    left to do (`delivered`), and the function does not run again.

    A success is forgotten when it is settled; a failure stays in the catalogue, until it is purged
    or the catalogue's bounds push it out, which is told to `emit`. Each method is one transaction.
    """

    def __init__(
        self,
        store: Store,
        *,
        emit: Emit,
        wall_clock: Callable[[], float] = time.time,  # noqa: TID251 - the age of what is kept
    ) -> None:
        self._store = store
        self._emit = emit
        self._wall_clock = wall_clock
        self._grown_bytes = TRIM_BYTES  # what is there may be old
        self._trimmed_at = 0.0

    async def open(self, backlogs: Mapping[str, str]) -> None:
        """Before anything runs: settles what a crash has kept from being settled, of the queues
        that are in this store (directories, and the backlogs of functions, by their mappings), and
        trims the catalogue."""

        def job(connection: sqlite3.Connection) -> None:
            rows = intents.find(connection, "lane = '' AND state = 'delivered'")
            over = [row for row in rows if not _may_come(connection, row, backlogs)]
            _settle(connection, over)

        await self._store.write(job)
        await self.trim()

    # -- letters

    async def intend(self, intent: Intent) -> None:
        """Durable when this returns. One that is known already stays as it is. Records that failed
        anew after they were settled (a replay) are intended anew, in the place of what was kept of
        them; if they are others at the same place (a topic made anew), that is kept too, under
        another id."""
        assert intent.state == INTENDED

        def job(connection: sqlite3.Connection) -> None:
            for row in intents.find(connection, "id = ?", intent.id):
                if row.state != SETTLED:
                    return
                _make_place(connection, row, intent)
            intents.add(connection, intent)

        await self._store.write(job)

    async def delivered(self, id_: str, place: str = "") -> None:
        """A destination has all its letters for good: the one they were to go to, or `place`."""

        def job(connection: sqlite3.Connection) -> None:
            for row in intents.find(connection, "id = ? AND state = 'intended'", id_):
                to = place or row.destination
                intents.change(connection, row._replace(state=DELIVERED, destination=to))

        await self._store.write(job)

    async def guarding(self, mapping: str, lane: str) -> tuple[Intent, ...]:
        """What a lane has not settled, whole, by position: the records may come again."""

        def job(connection: sqlite3.Connection) -> tuple[Intent, ...]:
            where = "mapping = ? AND lane = ? AND state != 'settled' ORDER BY last, number"
            rows = intents.find(connection, where, mapping, lane)
            return tuple(intents.whole(connection, row) for row in rows)

        return await self._store.read(job)

    async def settled(self, mapping: str, lane: str, upto_position: int) -> None:
        """A log's checkpoint at `upto_position` is durable: records up to there never come again.
        What has not been delivered goes on guarding."""

        def job(connection: sqlite3.Connection) -> int:
            where = "mapping = ? AND lane = ? AND last <= ? AND state = 'delivered'"
            return _settle(
                connection, intents.find(connection, where, mapping, lane, upto_position)
            )

        await self._count(await self._store.write(job))

    async def settled_ids(self, ids: Iterable[str]) -> None:
        """A queue has finished the records of these for good. What has not been delivered goes on
        guarding."""
        wanted = tuple(ids)

        def job(connection: sqlite3.Connection) -> int:
            where = "id = ? AND state = 'delivered'"
            rows = [row for id_ in wanted for row in intents.find(connection, where, id_)]
            return _settle(connection, rows)

        await self._count(await self._store.write(job))

    # -- the catalogue

    async def list(
        self,
        mapping: str | None = None,
        *,
        limit: int = 100,
        before: tuple[int, str] | None = None,
    ) -> tuple[Intent, ...]:
        """Failures, the newest first, without letters and event. The next page is `before` the
        `made_ms` and `id` of the last one of this."""
        assert 1 <= limit <= LIST_MAX
        where, values = "kind = 'failure'", list[object]()
        if mapping is not None:
            where, values = f"{where} AND mapping = ?", [mapping]
        if before is not None:
            where, values = f"{where} AND (made_ms, id) < (?, ?)", [*values, *before]
        where += " ORDER BY made_ms DESC, id DESC LIMIT ?"

        def job(connection: sqlite3.Connection) -> tuple[Intent, ...]:
            return tuple(row.intent() for row in intents.find(connection, where, *values, limit))

        return await self._store.read(job)

    async def show(self, id_: str) -> Intent | None:
        """One, whole, of whatever kind."""

        def job(connection: sqlite3.Connection) -> Intent | None:
            rows = intents.find(connection, "id = ?", id_)
            return intents.whole(connection, rows[0]) if rows else None

        return await self._store.read(job)

    async def redriven(self, id_: str) -> bool:
        """It was run or sent again on somebody's wish; False if there is no such one (any more)."""

        def job(connection: sqlite3.Connection) -> bool:
            rows = intents.find(connection, "id = ?", id_)
            for row in rows:
                intents.change(connection, row._replace(replays=row.replays + 1))
            return bool(rows)

        return await self._store.write(job)

    async def purge(
        self,
        *,
        ids: Iterable[str] | None = None,
        mapping: str | None = None,
        older_than_ms: int | None = None,
        force: bool = False,
    ) -> int:
        """Forgets those for which all of this holds (one thing at least has to be said), and says
        how many. What guards records stays, unless `force`: their function may then run again, and
        a letter that has not been delivered never is."""
        assert not (ids is None and mapping is None and older_than_ms is None)
        wanted = None if ids is None else tuple(ids)
        where, values = "TRUE" if force else "state = 'settled'", list[object]()
        if mapping is not None:
            where, values = f"{where} AND mapping = ?", [*values, mapping]
        if older_than_ms is not None:
            where, values = f"{where} AND made_ms < ?", [*values, older_than_ms]

        def job(connection: sqlite3.Connection) -> int:
            if wanted is None:
                rows = intents.find(connection, where, *values)
            else:
                one = f"{where} AND id = ?"
                rows = [r for id_ in wanted for r in intents.find(connection, one, *values, id_)]
            intents.remove(connection, rows)
            return len(rows)

        return await self._store.write(job)

    async def trim(self) -> int:
        """Drops the oldest of what is settled until the catalogue keeps its bounds; how many. Done
        now and then by itself."""
        now = self._wall_clock()
        oldest_ms = int(now * 1000 - SETTLED_DAYS_MAX * _DAY_MS)
        self._grown_bytes, self._trimmed_at = 0, now
        dropped = await self._store.write(lambda connection: _trim(connection, oldest_ms))
        if dropped:
            self._emit(DaemonStepped("catalogue trimmed", _described(dropped)))
        return len(dropped)

    async def _count(self, settled_bytes: int) -> None:
        if settled_bytes:
            self._grown_bytes += settled_bytes
            late = self._wall_clock() - self._trimmed_at >= TRIM_SECONDS
            if late or self._grown_bytes >= TRIM_BYTES:
                await self.trim()


def _make_place(connection: sqlite3.Connection, row: Row, intent: Intent) -> None:
    """For an intent whose id belongs to one that is settled."""
    known = intents.whole(connection, row)
    if known.event is not None and known.event == intent.event:
        intents.remove(connection, [row])
    else:
        intents.change(connection, row._replace(id=f"{row.id}-{row.number}"))


def _may_come(connection: sqlite3.Connection, row: Row, backlogs: Mapping[str, str]) -> bool:
    """Whether a queue still has the records; yes, of a queue that is not in this store."""
    place, query = row.mapping, _EVENTS
    if row.mapping in backlogs:
        place, query = backlogs[row.mapping], _INVOCATIONS
    elif connection.execute(_BUCKET, (row.mapping,)).fetchone() is None:
        return True
    return any(
        connection.execute(query, (place, first, last)).fetchone()
        for first, last in row.intent().ranges
    )


_BUCKET = "SELECT 1 FROM buckets WHERE mapping = ?"
_EVENTS = (
    "SELECT 1 FROM buckets JOIN object_events ON bucket = id "
    "WHERE mapping = ? AND object_events.sequencer BETWEEN ? AND ? LIMIT 1"
)
_INVOCATIONS = (
    "SELECT 1 FROM backlogs JOIN invocations ON backlog = id "
    "WHERE function = ? AND number BETWEEN ? AND ? LIMIT 1"
)


def _settle(connection: sqlite3.Connection, rows: list[Row]) -> int:
    """How many bytes the catalogue has more now."""
    failures = [row for row in rows if row.kind == FAILURE]
    intents.remove(connection, [row for row in rows if row.kind != FAILURE])
    for row in failures:
        intents.change(connection, row._replace(state=SETTLED))
    return sum(row.size for row in failures)


def _trim(connection: sqlite3.Connection, oldest_ms: int) -> list[Row]:
    query = "SELECT coalesce(sum(size), 0) FROM intents WHERE state = 'settled'"
    excess = connection.execute(query).fetchone()[0] - SETTLED_BYTES_MAX
    if excess <= 0:
        dropped = intents.find(connection, "state = 'settled' AND made_ms < ?", oldest_ms)
    else:
        dropped = []
        for row in intents.find(connection, "state = 'settled' ORDER BY made_ms, number"):
            if excess <= 0 and row.made_ms >= oldest_ms:
                break
            excess -= row.size
            dropped.append(row)
    intents.remove(connection, dropped)
    return dropped


def _described(dropped: list[Row]) -> str:
    mappings = sorted({row.mapping for row in dropped})
    more = f" and {len(mappings) - 3} more" if len(mappings) > 3 else ""
    return (
        f"{len(dropped)} entries of {', '.join(mappings[:3])}{more} are forgotten: more than "
        f"{SETTLED_BYTES_MAX >> 20} MiB or {SETTLED_DAYS_MAX:g} days of them are not kept"
    )
