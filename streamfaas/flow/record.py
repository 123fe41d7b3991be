"""What arrived and where it stood: lanes, records, and runs of records."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import pairwise
from typing import NewType, Protocol

from streamfaas.flow.value import value

Instant = NewType("Instant", float)
"""Seconds on the caller's monotonic clock. Nothing in `flow` reads a clock."""

Headers = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True, order=True)
class Lane:
    """The unit of order: a partition, a shard, a slot of a queue, or one request.

    `source` is the mapping (`function/trigger`), `name` the lane within it (`orders-0`).
    """

    source: str
    name: str


@value
class Record:
    """One record, looked at. Made only where somebody must look into a run. `weight` is what it
    adds to an event in bytes, where its source knows that (0: it is estimated)."""

    lane: Lane
    position: int
    value: bytes | None
    key: bytes | None = None
    timestamp_ms: int = -1
    timestamp_type: int = 0
    headers: Headers = ()
    weight: int = 0

    @property
    def size_bytes(self) -> int:
        size = len(self.value or b"") + len(self.key or b"")
        return size + sum([len(name) + len(value) for name, value in self.headers])

    def of(self, lane: Lane) -> Record:
        """The same, handed to a lane."""
        return Record(
            lane,
            self.position,
            self.value,
            self.key,
            self.timestamp_ms,
            self.timestamp_type,
            self.headers,
            self.weight,
        )


RECORD_OVERHEAD_BYTES = 160
"""What one record adds to a Lambda event beside its data: field names, offset, timestamp."""


def event_bytes(record: Record) -> int:
    """Estimates the JSON bytes of a record in a Lambda event: base64 is four for three, header
    values are arrays of numbers (at most four characters and a comma a byte)."""
    if record.weight:
        return record.weight
    data = len(record.value or b"") + len(record.key or b"")
    headers = sum(len(name) + 8 + 5 * len(value) for name, value in record.headers)
    return RECORD_OVERHEAD_BYTES + len(record.lane.name) + 4 * (data // 3 + 2) + headers


@value
class Extent:
    """How much lies in a stretch of positions. `oldest`/`newest` are epoch seconds of the records'
    own timestamps (0 where they have none); `event_bytes` is an estimate of the JSON."""

    count: int
    size_bytes: int
    event_bytes: int
    oldest: float
    newest: float


class Payload(Protocol):
    """What a run carries. Opaque to the path, but for these two questions."""

    def extent(self, first: int, last: int) -> Extent:
        """What lies at positions `first`..`last`, both included; all 0 where nothing does."""

    def fit(self, first: int, last: int, records_max: int, event_bytes_max: int) -> int:
        """The position up to which (exclusive) records from `first` on fit into both limits: at
        least one record fits whatever its size, and `last + 1` means that all do."""


@dataclass(frozen=True, slots=True)
class Records:
    """A payload of records already looked at, in rising positions."""

    records: tuple[Record, ...]

    def between(self, first: int, last: int) -> tuple[Record, ...]:
        start = bisect_left(self.records, first, key=_position)
        stop = bisect_right(self.records, last, key=_position)
        return self.records[start:stop]

    def extent(self, first: int, last: int) -> Extent:
        chosen = self.between(first, last)
        times = [r.timestamp_ms / 1000 for r in chosen if r.timestamp_ms >= 0] or [0.0]
        return Extent(
            count=len(chosen),
            size_bytes=sum([r.size_bytes for r in chosen]),
            event_bytes=sum(map(event_bytes, chosen)),
            oldest=min(times),
            newest=max(times),
        )

    def fit(self, first: int, last: int, records_max: int, event_bytes_max: int) -> int:
        chosen = self.between(first, last)
        room = event_bytes_max
        for index, record in enumerate(chosen):
            room -= event_bytes(record)
            if index and (index == records_max or room < 0):
                return record.position
        return last + 1


NO_RECORDS = Records(())


def _position(record: Record) -> int:
    return record.position


@value
class Run:
    """A contiguous stretch of one lane: positions `first`..`last` are accounted for by it.

    Positions need not all hold a record (compaction, transaction markers), and a run of none
    (`count` 0) is legal: it only moves the checkpoint. Costs per record decide throughput, so
    this, not the record, is what flows. `deliveries` counts how often the source has handed the
    same records over before (queues; a log counts in the lane instead).
    """

    lane: Lane
    first: int
    last: int
    count: int
    size_bytes: int
    event_bytes: int
    oldest: float
    newest: float
    payload: Payload
    deliveries: int = 0

    def cut(self, at: int) -> tuple[Run, Run]:
        """The run before position `at` and the run from it on. `first` < `at` <= `last`."""
        assert self.first < at <= self.last
        return self.part(self.first, at - 1), self.part(at, self.last)

    def part(self, first: int, last: int) -> Run:
        """What of it lies at positions `first`..`last`, measured; itself where that is all."""
        assert self.first <= first <= last <= self.last
        if first == self.first and last == self.last:
            return self
        return run_of(self.lane, first, last, self.payload, self.deliveries)

    def nothing(self, first: int, last: int) -> Run:
        """A stretch of it as one that holds no record: to be finished with, and not to be run."""
        return Run(self.lane, first, last, 0, 0, 0, 0.0, 0.0, NO_RECORDS, self.deliveries)


def run_of(lane: Lane, first: int, last: int, payload: Payload, deliveries: int = 0) -> Run:
    """A run over positions `first`..`last` of a payload, measured."""
    assert first <= last
    extent = payload.extent(first, last)
    return Run(
        lane=lane,
        first=first,
        last=last,
        count=extent.count,
        size_bytes=extent.size_bytes,
        event_bytes=extent.event_bytes,
        oldest=extent.oldest,
        newest=extent.newest,
        payload=payload,
        deliveries=deliveries,
    )


def run_of_records(records: tuple[Record, ...], deliveries: int = 0) -> Run:
    """A run of records already looked at: non-empty, of one lane, in rising positions."""
    assert records
    lane = records[0].lane
    assert all(record.lane == lane for record in records)
    assert all(a.position < b.position for a, b in pairwise(records))
    return run_of(lane, records[0].position, records[-1].position, Records(records), deliveries)
