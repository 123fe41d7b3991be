"""Pages of records as the service gives them: numbered, measured and cut; pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate

from streamfaas.flow.batch import Batch
from streamfaas.flow.record import Extent, Lane, Record, Records, Run, run_of
from streamfaas.sources.sharded.dialect import Dialect, Told


class Page:
    """A payload of records in neighbouring positions, the first of them at `first`."""

    __slots__ = ("_dialect", "_weights", "first", "records")

    def __init__(
        self, first: int, records: Sequence[Told], dialect: Dialect, overhead_bytes: int
    ) -> None:
        self.first = first
        self.records = records
        self._dialect = dialect
        # running totals: what a cut weighs costs no look at what it holds
        self._weights = list(accumulate(map(dialect.weight, records), initial=0))
        for index in range(len(self._weights)):
            self._weights[index] += overhead_bytes * index

    @property
    def last(self) -> int:
        return self.first + len(self.records) - 1

    def between(self, first: int, last: int) -> Sequence[Told]:
        return self.records[max(0, first - self.first) : max(0, last - self.first + 1)]

    def extent(self, first: int, last: int) -> Extent:
        chosen = self.between(first, last)
        if not chosen:
            return Extent(0, 0, 0, 0.0, 0.0)
        start = max(0, first - self.first)
        weight = self._weights[start + len(chosen)] - self._weights[start]
        oldest, newest = sorted(map(self._dialect.seconds, (chosen[0], chosen[-1])))
        return Extent(len(chosen), weight, weight, oldest, newest)

    def fit(self, first: int, last: int, records_max: int, event_bytes_max: int) -> int:
        start = max(0, first - self.first)
        within = bisect_right(self._weights, self._weights[start] + event_bytes_max) - 1
        stop = max(start + 1, min(within, start + records_max))
        return min(last + 1, self.first + stop)


def run_of_page(lane: Lane, page: Page) -> Run:
    """All of a page, as a run."""
    return run_of(lane, page.first, page.last, page)


def told(dialect: Dialect, batch: Batch) -> list[Told]:
    """The records of a batch, as the service gave them."""
    return [each for run in batch.runs for each in _told(dialect, run)]


def looked(dialect: Dialect, batch: Batch) -> tuple[Record, ...]:
    """The records of a batch, looked at."""
    return tuple(
        dialect.record(batch.lane, position, each) for position, each in positions(dialect, batch)
    )


def positions(dialect: Dialect, batch: Batch) -> Iterator[tuple[int, Told]]:
    """The records of a batch, each with its position."""
    for run in batch.runs:
        yield from _placed(dialect, run)


def _placed(dialect: Dialect, run: Run) -> Iterator[tuple[int, Told]]:
    payload = run.payload
    if isinstance(payload, Records):
        yield from ((r.position, dialect.told(r)) for r in payload.between(run.first, run.last))
    else:
        assert isinstance(payload, Page)
        yield from enumerate(payload.between(run.first, run.last), max(run.first, payload.first))


def _told(dialect: Dialect, run: Run) -> Sequence[Told]:
    payload = run.payload
    if isinstance(payload, Page):
        return payload.between(run.first, run.last)
    return [each for _, each in _placed(dialect, run)]
