"""A part of a sharded log read once more, beside its reading: a position is a sequence number."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

import anyio

from streamfaas.flow.errors import Busy, Gone, Refused, Unreachable
from streamfaas.flow.record import Lane, Record
from streamfaas.sources import Reread, Stretch
from streamfaas.sources.sharded.dialect import Dialect, Told
from streamfaas.sources.sharded.polling import BACKOFF, EMPTIES_MAX
from streamfaas.sources.sharded.reading import AFTER, AT, FIRST, SINCE
from streamfaas.wire.shards import IteratorExpired, Page, Start, Stream, Trimmed

READ_SECONDS = 30.0
"""How long one rereading may take. What was found by then is given."""

ITERATOR_SECONDS = 3.0
"""Where to begin at a time may take so long to say: some who speak like the service never do where
nothing is of then or later."""

AHEAD_MS = 5_000
"""Records may be dated so much later than the service's clock, which it shows by the second: what
is there when a stretch is asked for belongs to it."""

SHARE = 2
"""Of what the service allows for a shard, one part in so many: the reading goes on beside it."""


class Rereader:
    """`is_closed` says of a shard whether nothing is added to it any more."""

    def __init__(
        self,
        stream: Stream,
        dialect: Dialect,
        is_closed: Callable[[str], bool],
        *,
        wall_clock: Callable[[], float],
        jitter: Callable[[], float],
    ) -> None:
        self._stream = stream
        self._dialect = dialect
        self._is_closed = is_closed
        self._wall_clock = wall_clock
        self._jitter = jitter
        self._digits = dialect.limits.sequence_digits
        # who knows times says how far a page is behind, and an empty one that is not is the end
        self._empties_max = 1 if dialect.limits.timestamps else EMPTIES_MAX

    async def stretches(
        self, source: str, lane_names: Collection[str], wanted: Stretch, life: str
    ) -> Mapping[Lane, Stretch]:
        """Shards whose parents come before them. Which of them have records of the stretch is known
        once they are read. `life` is that of the stream which is read."""
        known = sorted(shard.id for shard in await self._stream.shards())
        if unknown := sorted(set(lane_names) - set(known)):
            raise Gone(f"there is no shard {', '.join(unknown)}; there are {', '.join(known)}")
        if len(lane_names) != 1 and (wanted.first is not None or wanted.last is not None):
            raise Refused(
                "a position is the sequence number of a record in one shard: name that by "
                "--lane, or give times (--since, --until)"
            )
        now = (await self._stream.describe((life,))).now
        now_ms = int((self._wall_clock() if now is None else now) * 1000) + AHEAD_MS
        until_ms = now_ms if wanted.until_ms is None else min(now_ms, wanted.until_ms)
        if wanted.since_ms is not None and wanted.since_ms >= until_ms:
            return {}
        bounded = replace(wanted, until_ms=until_ms)
        return {Lane(source, name): bounded for name in sorted(lane_names) or known}

    async def reread(self, lane: Lane, wanted: Stretch, records_max: int) -> Reread:
        """From where the stretch begins, in pages, up to a record that is beyond it, or the end."""
        found = _Found(lane, wanted, records_max, self._dialect)
        trouble: list[Busy] = []
        with anyio.move_on_after(READ_SECONDS):
            await self._read_on(found, trouble)
        if found.more and found.reached == wanted.after:
            if trouble:
                raise trouble[-1]
            raise Unreachable(
                f"{lane.name}: no record came within {READ_SECONDS:g} s; "
                "begin nearer to one (--since)"
            )
        return Reread(tuple(found.records), found.reached, found.more)

    def text(self, position: int) -> str:
        """As the service writes the number."""
        return str(position).zfill(self._digits)

    def note_digits(self, sequence: str) -> None:
        """Some who speak like the service write numbers with zeros before them."""
        if sequence.startswith("0"):
            self._digits = max(self._digits, len(sequence))

    async def _read_on(self, found: _Found, trouble: list[Busy]) -> None:
        shard, iterator, empties, failures = found.lane.name, "", 0, 0
        while found.more and not found.full:
            try:
                iterator = iterator or await self._iterator(shard, found)
                page = await self._stream.read(iterator, found.records_max)
            except IteratorExpired:
                iterator = ""
                await anyio.sleep(SHARE * self._dialect.limits.reads_seconds)
                continue
            except Busy as error:
                trouble.append(error)
                failures += 1
                await anyio.sleep(BACKOFF.delay(failures, self._jitter()))
                continue
            except Gone:  # retention has taken all of a shard that the list still has
                found.more = False
                return
            except Trimmed as error:
                where = found.wanted.first if found.reached is None else found.reached
                raise Gone(
                    f"{shard}: {where} is past the stream's retention, or no record of this shard"
                ) from error
            failures, iterator = 0, page.next or ""
            empties = 0 if page.records or page.behind_ms else empties + 1
            if page.records:
                self.note_digits(self._dialect.sequence(page.records[-1]))
            found.take(page)
            if empties >= self._empties_max and not self._may_go_on(shard):
                found.more = False
            if found.more:
                await anyio.sleep(self._pause_seconds(page))

    async def _iterator(self, shard: str, found: _Found) -> str:
        wanted = found.wanted
        if found.reached is not None:
            return await self._stream.iterator(shard, Start(AFTER, self.text(found.reached)))
        if wanted.first is not None:
            return await self._stream.iterator(shard, Start(AT, self.text(wanted.first)))
        if wanted.since_ms is not None and self._dialect.limits.timestamps:
            with anyio.move_on_after(ITERATOR_SECONDS):
                start = Start(SINCE, "", wanted.since_ms / 1000)
                return await self._stream.iterator(shard, start)
        return await self._stream.iterator(shard, Start(FIRST))  # what is older is passed over

    def _may_go_on(self, shard: str) -> bool:
        """Though nothing is there: a shard that says where it ends has not said so."""
        return not self._dialect.limits.ends_untold and self._is_closed(shard)

    def _pause_seconds(self, page: Page) -> float:
        limits = self._dialect.limits
        return SHARE * max(limits.reads_seconds, page.size_bytes / limits.bytes_a_second)


class _Found:
    """What came of a stretch so far."""

    def __init__(self, lane: Lane, wanted: Stretch, records_max: int, dialect: Dialect) -> None:
        self.lane = lane
        self.wanted = wanted
        self.records_max = records_max
        self.records: list[Record] = []
        self.reached = wanted.after
        self.more = True
        self._dialect = dialect

    @property
    def full(self) -> bool:
        return len(self.records) >= self.records_max

    def take(self, page: Page) -> None:
        for told in page.records:
            sequence = int(self._dialect.sequence(told))
            if self.full:  # those of an aggregate are not parted
                return
            if self._is_beyond(sequence, told):
                self.more = False
                return
            self._add(sequence, told)
            self.reached = sequence
        self.more = page.next is not None

    def _is_beyond(self, sequence: int, told: Told) -> bool:
        last, until_ms = self.wanted.last, self.wanted.until_ms
        if last is not None and sequence > last:
            return True
        return until_ms is not None and self._at_ms(told) >= until_ms

    def _add(self, sequence: int, told: Told) -> None:
        since_ms = self.wanted.since_ms
        if since_ms is not None and self._at_ms(told) < since_ms:
            return
        for each in self._dialect.apart((told,)):
            # those of an aggregate have one sequence number, and are numbered on from it
            before = self.records[-1].position + 1 if self.records else 0
            record = self._dialect.record(self.lane, max(sequence, before), each)
            self.records.append(record)

    def _at_ms(self, told: Told) -> float:
        return self._dialect.seconds(told) * 1000
