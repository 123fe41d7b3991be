"""Pages of records as the service gives them: numbered, measured, cut, and looked into; pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

import pybase64

from streamfaas.flow.batch import Batch
from streamfaas.flow.record import Extent, Lane, Record, Records, Run, run_of
from streamfaas.wire.kinesis_event import record_of, told_of
from streamfaas.wire.kpl import deaggregated

Told = Mapping[str, Any]


class Page:
    """A payload of records in neighbouring positions, the first of them at `first`."""

    __slots__ = ("_weights", "first", "records")

    def __init__(self, first: int, records: Sequence[Told], overhead_bytes: int) -> None:
        self.first = first
        self.records = records
        # running totals: what a cut weighs costs no look at what it holds
        self._weights = list(accumulate(map(_bytes, records), initial=0))
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
        times = chosen[0], chosen[-1]
        oldest, newest = sorted(float(each["ApproximateArrivalTimestamp"]) for each in times)
        return Extent(len(chosen), weight, weight, oldest, newest)

    def fit(self, first: int, last: int, records_max: int, event_bytes_max: int) -> int:
        start = max(0, first - self.first)
        within = bisect_right(self._weights, self._weights[start] + event_bytes_max) - 1
        stop = max(start + 1, min(within, start + records_max))
        return min(last + 1, self.first + stop)


def run_of_page(lane: Lane, page: Page) -> Run:
    """All of a page, as a run."""
    return run_of(lane, page.first, page.last, page)


def told(batch: Batch) -> list[Told]:
    """The records of a batch, as the service gave them."""
    return [each for run in batch.runs for each in _told(run)]


def looked(batch: Batch) -> tuple[Record, ...]:
    """The records of a batch, looked at."""
    return tuple(
        record_of(batch.lane, position, each)
        for run in batch.runs
        for position, each in _placed(run)
    )


def positions(batch: Batch) -> Iterator[tuple[int, Told]]:
    """The records of a batch, each with its position."""
    for run in batch.runs:
        yield from _placed(run)


def apart(records: Iterable[Told]) -> list[Told]:
    """Records with those of the producer library's aggregates in their place, numbered within."""
    found: list[Told] = []
    for each in records:
        inner = deaggregated(pybase64.b64decode(each["Data"]))
        if not inner:
            found.append(each)
            continue
        found += [
            {
                **each,
                "PartitionKey": one.partition_key,
                "Data": pybase64.b64encode_as_string(one.data),
                "SubSequenceNumber": number,
            }
            for number, one in enumerate(inner)
        ]
    return found


def _placed(run: Run) -> Iterator[tuple[int, Told]]:
    payload = run.payload
    if isinstance(payload, Records):
        yield from ((r.position, told_of(r)) for r in payload.between(run.first, run.last))
    else:
        assert isinstance(payload, Page)
        yield from enumerate(payload.between(run.first, run.last), max(run.first, payload.first))


def _told(run: Run) -> Sequence[Told]:
    payload = run.payload
    if isinstance(payload, Page):
        return payload.between(run.first, run.last)
    return [each for _, each in _placed(run)]


def _bytes(record: Told) -> int:
    key = record["PartitionKey"]
    return len(record["Data"]) + (len(key) if key.isascii() else len(key.encode()))
