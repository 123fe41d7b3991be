"""Runs become batches: full by count, full by bytes, or old enough."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from streamfaas.flow.event import EVENT_BYTES_MAX
from streamfaas.flow.pane import Pane
from streamfaas.flow.record import Instant, Lane, Record, Records, Run
from streamfaas.flow.value import value


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """When a batch is closed. A window of 0 takes whatever is there and never waits."""

    records_max: int = 100
    event_bytes_max: int = EVENT_BYTES_MAX
    window_seconds: float = 0.0

    def __post_init__(self) -> None:
        assert 1 <= self.records_max <= 10_000
        assert 1 <= self.event_bytes_max <= EVENT_BYTES_MAX
        assert 0 <= self.window_seconds <= 300


@value
class Batch:
    """What one invocation is given: one run or more of one lane, in rising positions.

    `attempt` counts the failures before that used up a retry (the first try included), 0 at first.
    A part of a batch that was bisected knows how often (`splits`), and how many records the batch
    had that was split first (`origin`, 0 for one that is whole). A batch of no records (`count` 0:
    gaps, markers, and what a filter left out) is not for the function: it is only to be finished
    with. `pane` is what its next run is told of its tumbling window, where there are such; the last
    invocation in one (`final`) has no records.
    """

    runs: tuple[Run, ...]
    attempt: int = 0
    splits: int = 0
    origin: int = 0
    pane: Pane | None = None
    count: int = field(init=False, compare=False)
    """Its records."""

    def __post_init__(self) -> None:
        assert self.runs
        count = sum([run.count for run in self.runs])  # asked for several times an invocation
        object.__setattr__(self, "count", count)
        if len(self.runs) > 1:
            lane = self.runs[0].lane
            assert all(run.lane == lane for run in self.runs)
            assert all(a.last < b.first for a, b in pairwise(self.runs))

    @property
    def lane(self) -> Lane:
        return self.runs[0].lane

    @property
    def first(self) -> int:
        return self.runs[0].first

    @property
    def last(self) -> int:
        return self.runs[-1].last

    @property
    def final(self) -> bool:
        """Whether it is the last invocation in a tumbling window, for the function to see."""
        return self.pane is not None and self.pane.final

    @property
    def size_bytes(self) -> int:
        return sum(run.size_bytes for run in self.runs)

    @property
    def event_bytes(self) -> int:
        return sum(run.event_bytes for run in self.runs)

    @property
    def oldest(self) -> float:
        """The earliest timestamp, 0 where no record has one."""
        return min((run.oldest for run in self.runs if run.oldest), default=0.0)

    @property
    def newest(self) -> float:
        return max(run.newest for run in self.runs)

    @property
    def tries(self) -> int:
        """Invocations that its records have taken part in and that counted."""
        return self.attempt + self.splits

    @property
    def unbroken(self) -> bool:
        """Whether its runs follow each other without a gap."""
        return len(self.runs) == 1 or all(a.last + 1 == b.first for a, b in pairwise(self.runs))

    @property
    def of_records(self) -> Batch:
        """Without the stretches that hold no record, where there are both."""
        held = self.part(run for run in self.runs if run.count)
        return self if held is None else held

    def holds(self, position: int) -> bool:
        """Whether there is a record at a position."""
        return any(
            run.first <= position <= run.last and run.payload.extent(position, position).count
            for run in self.runs
        )

    def part(self, runs: Iterable[Run]) -> Batch | None:
        """Some of its runs, or pieces of them, with the same past; None where there are none."""
        chosen = tuple(runs)
        if not chosen:
            return None
        return Batch(chosen, self.attempt, self.splits, self.origin, self.pane)

    def cut(self, at: int) -> tuple[Batch | None, Batch | None]:
        """The batch before position `at` and the batch from it on; None for an empty side."""
        before: list[Run] = []
        after: list[Run] = []
        for run in self.runs:
            if run.last < at:
                before.append(run)
            elif run.first >= at:
                after.append(run)
            else:
                head, tail = run.cut(at)
                before.append(head)
                after.append(tail)
        return self.part(before), self.part(after)

    def pick(self, stretches: Sequence[tuple[int, int]]) -> tuple[Batch | None, Batch | None]:
        """What lies in these stretches of positions (rising, disjoint), and all the rest."""
        chosen: list[Run] = []
        rest: list[Run] = []
        lasts = [last for _, last in stretches]
        for run in self.runs:
            at = run.first
            for first, last in stretches[bisect_left(lasts, run.first) :]:
                if first > run.last:
                    break
                if at < first:
                    rest.append(run.part(at, first - 1))
                    at = first
                end = min(last, run.last)
                chosen.append(run.part(at, end))
                at = end + 1
            if at <= run.last:
                rest.append(run.part(at, run.last))
        return self.part(chosen), self.part(rest)

    def bisect(self) -> tuple[Batch, Batch]:
        """Two halves, of which each knows that it is one."""
        origin, splits = self.origin or self.count, self.splits + 1
        head, tail = self.split()
        return replace(head, origin=origin, splits=splits), replace(
            tail, origin=origin, splits=splits
        )

    def split(self) -> tuple[Batch, Batch]:
        """Two halves by record count. At least two records."""
        wanted = self.count // 2
        assert wanted >= 1
        for run in self.runs:
            if wanted < run.count:
                at = run.first
                if wanted:
                    at = run.payload.fit(run.first, run.last, wanted, _UNBOUNDED)
                head, tail = self.cut(at)
                assert head is not None
                assert tail is not None
                return head, tail
            wanted -= run.count
        raise AssertionError("a batch of two records always has a middle")


_UNBOUNDED = 1 << 62


def looked_at(batch: Batch) -> tuple[Record, ...]:
    """The records of a batch whose source hands over nothing that has to be decoded."""
    found: list[Record] = []
    for run in batch.runs:
        assert isinstance(run.payload, Records)
        found += run.payload.between(run.first, run.last)
    return tuple(found)


class Batcher:
    """Gathers one lane: offered runs, it gives back batches when asked. The caller brings the time.

    Everything offered comes out again, in order, in exactly one batch. The window opens with the
    first record; runs of no records go out with the records before them, or at once where there
    are none. What is held is bounded by the caller, who stops offering (see `held_bytes`).
    """

    __slots__ = (
        "_held", "_opened", "_policy", "arrived", "held_bytes", "held_event_bytes", "held_records",
    )  # fmt: skip

    def __init__(self, policy: BatchPolicy) -> None:
        self._policy = policy
        self._held: deque[tuple[Run, Instant]] = deque()
        self._opened: Instant | None = None  # when the first record held arrived
        self.arrived = Instant(0.0)  # when the first of what was taken last did
        self.held_records = 0
        self.held_bytes = 0
        self.held_event_bytes = 0

    def __bool__(self) -> bool:
        return bool(self._held)

    @property
    def deadline(self) -> Instant | None:
        """From when on `take` gives a batch even if it is not full; None while nothing is held."""
        if self._opened is not None:
            return Instant(self._opened + self._policy.window_seconds)
        return self._held[0][1] if self._held else None

    @property
    def oldest(self) -> float:
        """Epoch seconds of the oldest record held; 0 where none has a time."""
        return min((run.oldest for run, _ in self._held if run.oldest), default=0.0)

    def offer(self, run: Run, now: Instant) -> None:
        self._held.append((run, now))
        self._count(run, 1)
        if self._opened is None and run.count:
            self._opened = now

    def take(self, now: Instant) -> Batch | None:
        """A full batch, or what there is once the window of its first record has closed."""
        deadline = self.deadline
        if deadline is None:
            return None
        full = (
            self.held_records >= self._policy.records_max
            or self.held_event_bytes >= self._policy.event_bytes_max
        )
        return self._close() if full or now >= deadline else None

    def flush(self) -> Batch | None:
        """What there is, window or not."""
        return self._close() if self._held else None

    def drop(self) -> None:
        """Forgets everything held (the lane is read again from elsewhere, or given away)."""
        self._held.clear()
        self._opened = None
        self.held_records = self.held_bytes = self.held_event_bytes = 0

    def _close(self) -> Batch:
        records_max, room = self._policy.records_max, self._policy.event_bytes_max
        self.arrived = self._held[0][1]
        chosen: list[Run] = []
        records = 0
        while self._held:
            run, arrived = self._held[0]
            if run.count and (records == records_max or room == 0):
                break
            head, tail = _fitting(run, records_max - records, room)
            if records and head.event_bytes > room:
                break
            self._held.popleft()
            self._count(run, -1)
            chosen.append(head)
            if tail is not None:
                self._held.appendleft((tail, arrived))
                self._count(tail, 1)
                break
            records += head.count
            room = max(0, room - head.event_bytes)
        self._opened = next((arrived for run, arrived in self._held if run.count), None)
        return Batch(tuple(chosen))

    def _count(self, run: Run, sign: int) -> None:
        self.held_records += sign * run.count
        self.held_bytes += sign * run.size_bytes
        self.held_event_bytes += sign * run.event_bytes


def _fitting(run: Run, records: int, room: int) -> tuple[Run, Run | None]:
    """What of the run fits, one record at least, and the rest of it."""
    if not run.count or (run.count <= records and run.event_bytes <= room):
        return run, None
    at = run.payload.fit(run.first, run.last, records, max(room, 1))
    return run.cut(at) if at <= run.last else (run, None)
