"""One shard that is read: where reading stands, what waits, and how far all is finished with."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from itertools import dropwhile

from streamfaas.flow.leases import SHARD_END
from streamfaas.flow.record import Instant, Lane, Run
from streamfaas.sources.sharded.dialect import Dialect, Told
from streamfaas.sources.sharded.pages import Page, run_of_page
from streamfaas.store.shards import Mark
from streamfaas.wire.shards import Page as Read
from streamfaas.wire.shards import Start

AFTER = "AFTER_SEQUENCE_NUMBER"
AT = "AT_SEQUENCE_NUMBER"
FIRST = "TRIM_HORIZON"
SINCE = "AT_TIMESTAMP"
"""The ways in which reading begins at a mark, as the services name them."""

ALL = 1 << 62
"""Records of one sequence number, however many there are."""

PASS_MARGIN_MS = 60_000
"""Of records that are older than the trigger by the service's clock, these may still be newer: some
services date them by the minute. So many may come that need not."""

SEEN_MS = 600_000
"""So often a mark that stands still, since nothing comes, is told the time."""


def start_of(mark: Mark) -> Start:
    """Where reading goes on by a mark alone."""
    return Start(mark.kind, mark.sequence, mark.at_ms / 1000)


class Reading:
    """Positions count the records of the shard from where the trigger began; the mark anchors them
    to sequence numbers, so that after a crash the same record has the same position again."""

    def __init__(
        self,
        lane: Lane,
        mark: Mark,
        dialect: Dialect,
        *,
        overhead_bytes: int,
        poll_seconds: float,
        iterator: str | None = None,
        gone: bool = False,
        doubted: bool = False,
    ) -> None:
        self.lane = lane
        self.mark = mark
        self.durable = mark
        self.wanted = asyncio.Event()
        """The lane has room, and nothing waits for it."""
        self.waiting: deque[Run] = deque()
        self.iterator = iterator
        self.ended = mark.ended or gone
        """Nothing more comes; what came may not be finished with."""
        self.doubted = doubted and bool(mark.sequence)
        """What follows the mark's record may be lost to retention, unless that one is there."""
        self.leaving = False
        """Its lane was told to close, all of the shard being finished with."""
        self.behind_ms: int | None = None
        self.tip_at: Instant | None = None
        """When there was last seen to be nothing beyond what has been read."""
        self.note = ""
        self.empties = 0
        self.closing = False
        """Its lane has been told to close."""
        self.over = False
        """It is not ours any more: nothing of it is handed out, settled or written down."""
        self._dialect = dialect
        self._overhead_bytes = overhead_bytes
        self._poll_seconds = poll_seconds
        self._pause = dialect.limits.reads_seconds
        self._next = mark.position  # of the next record
        self._skip = 0  # records to pass over: they are still in hand
        self._done: tuple[str, int] | None = None  # so many of that one are finished with
        self._settled: Told | None = None  # the last record that is
        self._read: str | None = None  # the last sequence number
        self._since_ms = 0  # what is older than that is passed over
        self._pages: deque[Page] = deque()  # handed over, and not finished with

    @property
    def name(self) -> str:
        return self.lane.name

    @property
    def lag(self) -> int | None:
        """Records that are not finished with; not known where there are some that nobody read."""
        at_the_tip = self.behind_ms == 0 or self.ended
        return self._next - self.mark.position if at_the_tip else None

    @property
    def finished(self) -> bool:
        """All of the shard is."""
        return self.ended and not self._pages and not self.waiting

    def start(self) -> Start:
        """Where the next iterator begins: at what was read last, which is not what is finished
        with; or at the mark, and what lies between is passed over."""
        if self._read is not None:
            return Start(AFTER, self._read)
        mark = self.mark
        self._skip = self._next - mark.position
        if self.doubted and mark.kind == AFTER:
            self._done = (mark.sequence, ALL)
            return Start(AT, mark.sequence)
        self._done = (mark.sequence, mark.sub) if mark.sub else None
        if mark.kind == FIRST and mark.at_ms:
            self._since_ms = mark.at_ms - PASS_MARGIN_MS
        return start_of(mark)

    @property
    def anchored(self) -> bool:
        """Whether the mark names a record. Until then positions mean nothing to another life."""
        return bool(self.mark.sequence)

    def passed_over(self, read: Read) -> Read:
        """Without the records that came before the trigger was born, where reading had to begin
        before those."""
        if self.anchored or not self._since_ms or not read.records:
            return read
        records = list(dropwhile(lambda each: self._at_ms(each) < self._since_ms, read.records))
        self._read = self._dialect.sequence(read.records[-1])
        return replace(read, records=records)

    def anchor(self, read: Read) -> Mark:
        """The mark that names the first record that was read; to be made durable before anybody
        sees that record."""
        sequence, at_ms = self._dialect.sequence(read.records[0]), self._at_ms(read.records[0])
        self.mark = self.mark._replace(kind=AT, sequence=sequence, at_ms=at_ms, seen_ms=at_ms)
        return self.mark

    @property
    def place(self) -> str:
        """The record that must be the first to be read, where reading goes on at one."""
        at = self.mark.kind == AT or self.doubted
        return self.mark.sequence if self._read is None and at else ""

    def missed(self, place: str, read: Read) -> bool:
        """That record is not there any more, as far as has been read."""
        if read.records:
            return self._dialect.sequence(read.records[0]) != place
        return self.ended or read.next is None or (self.doubted and read.behind_ms == 0)

    def take(self, read: Read) -> None:
        """What was read waits for its lane."""
        self.iterator = read.next
        self.behind_ms = read.behind_ms
        self.ended = read.next is None
        self._pace(read)
        if not read.records:
            return
        if self._skip and not self._begins_at_the_mark(read):
            self._skip = 0  # retention took what would have been passed over
        records = self._unfinished(self._dialect.apart(read.records))
        skipped = min(self._skip, len(records))
        records, self._skip = records[skipped:], self._skip - skipped
        self._read, self.doubted = self._dialect.sequence(read.records[-1]), False
        if records:
            page = Page(self._next, records, self._dialect, self._overhead_bytes)
            self._next = page.last + 1
            self._pages.append(page)
            self.waiting.append(run_of_page(self.lane, page))

    def fail(self, note: str) -> None:
        """Nobody answered: how far behind it is is not known."""
        self.note, self.behind_ms = note, None

    def _begins_at_the_mark(self, read: Read) -> bool:
        return not self.place or self._dialect.sequence(read.records[0]) == self.place

    def _unfinished(self, records: Sequence[Told]) -> Sequence[Told]:
        """Without those of the first sequence number that are finished with: of an aggregate that
        is not taken apart, all or none."""
        if self._done is None:
            return records
        (sequence, count), self._done = self._done, None
        done = [e for e in records if self._dialect.sequence(e) == sequence]
        done = [e for e in done if self._dialect.last(e) < count]
        return records[len(done) :]

    def saw_the_tip(self, at_ms: int) -> bool:
        """There was nothing beyond what has been read. Whether that is worth being written down:
        all is finished with, and it was long ago that this was."""
        idle = self._next == self.mark.position
        if idle and at_ms >= self.mark.seen_ms + SEEN_MS:
            self.mark = self.mark._replace(seen_ms=at_ms)
            return True
        return False

    def leap(self, positions: int) -> bool:
        """Goes on with the oldest record that there is, so many positions later: what follows the
        last one is not there any more. Not while something is in hand."""
        if self._pages or self.waiting:
            return False
        self._next += positions
        self.mark = self.mark._replace(position=self._next, kind=FIRST, sequence="", sub=0, at_ms=0)
        self._read, self.iterator, self._skip, self._since_ms = None, None, 0, 0
        self._done, self.doubted = None, False
        return True

    @property
    def dirty(self) -> bool:
        """Its mark has moved, and is ours to write down."""
        return self.mark != self.durable and not self.over

    @property
    def checkpoint(self) -> tuple[str, int] | None:
        """The last record that is finished with, and which of those with its sequence number; None
        where none is since its mark was made. `SHARD_END`: all of the shard is."""
        mark = self.mark
        if mark.ended:
            return SHARD_END, 0
        if mark.kind == AT and mark.sub:
            return mark.sequence, mark.sub - 1
        if mark.kind == AFTER:
            return mark.sequence, self._dialect.last(self._settled) if self._settled else 0
        return None

    @property
    def pause_seconds(self) -> float:
        """Until the shard may be, or is worth being, read again."""
        return self._pause

    def settle(self, position: int) -> None:
        """Everything up to there is finished with."""
        while self._pages and self._pages[0].last < position:
            self._pages.popleft()
        page = self._pages[0]
        told = page.records[position - page.first]
        sequence, following = self._dialect.sequence(told), page.between(position + 1, position + 1)
        if following and self._dialect.sequence(following[0]) == sequence:  # within an aggregate
            kind, sub = AT, self._dialect.sub(told) + 1
        else:
            kind, sub = AFTER, 0
        self._settled, at_ms = told, self._at_ms(told)
        self.mark = self.mark._replace(
            position=position + 1, kind=kind, sequence=sequence, sub=sub, at_ms=at_ms
        )
        while self._pages and self._pages[0].last <= position:
            self._pages.popleft()

    def rewind(self, position: int) -> None:
        """Reads again from there on."""
        self.waiting.clear()
        # a page that is cut through stays whole: it says what follows within an aggregate
        while self._pages and self._pages[-1].first >= position:
            self._pages.pop()
        self._next, self._read, self.iterator, self.ended = position, None, None, False

    def _at_ms(self, told: Told) -> int:
        return int(self._dialect.seconds(told) * 1000)

    def _pace(self, read: Read) -> None:
        limits = self._dialect.limits
        allowed = max(limits.reads_seconds, read.size_bytes / limits.bytes_a_second)
        self.empties = 0 if read.records else self.empties + 1
        if read.records or read.behind_ms:
            self._pause = allowed
        else:
            self._pause = max(allowed, min(self._pause * 2, self._poll_seconds))
