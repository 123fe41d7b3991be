"""Raw Kafka record batches: found by their headers, measured, cut and decoded, without a broker."""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import sub
from typing import Any, TypeAlias

import cramjam
from aiokafka.errors import KafkaError
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.legacy_records import LegacyRecordBatch

from streamfaas.flow.errors import CorruptBatch
from streamfaas.flow.record import RECORD_OVERHEAD_BYTES, Extent, Lane, Record

COMPRESSION_GUESS = 3
"""How many times larger than its compressed bytes a batch is taken to be. A worker that finds it
larger runs the records that fit, and leaves the rest for the next call."""


Found: TypeAlias = tuple[int, int, int, int, int, int, int, int]
"""One batch as its header tells: base offset, the offset that follows it, how many records of it
are for us, where its bytes begin and end, the oldest and newest timestamp (-1 where there is
none), and how many bytes of an event its records are taken for. Without names, since one is made
for each batch, and that may be for each record."""


class RawBatches:
    """A payload of whole record batches as they lie in a fetch reply. Looked at are headers only:
    a batch that lost records to compaction is decoded, but not before somebody cuts through it."""

    __slots__ = (
        "_bases",
        "_counts",
        "_data",
        "_newest",
        "_nexts",
        "_offsets",
        "_oldest",
        "_sizes",
        "_starts",
        "_stops",
        "_weights",
    )

    def __init__(self, data: bytes, found: Sequence[Found]) -> None:
        columns = tuple(zip(*found, strict=True)) or ((),) * 8
        self._bases: tuple[int, ...] = columns[0]
        self._nexts: tuple[int, ...] = columns[1]
        self._starts: tuple[int, ...] = columns[3]
        self._stops: tuple[int, ...] = columns[4]
        self._oldest: tuple[int, ...] = columns[5]
        self._newest: tuple[int, ...] = columns[6]
        self._data = memoryview(data)
        # running totals up to a batch: a record's number is all that is needed to measure or cut
        self._counts: list[int] = list(accumulate(columns[2], initial=0))
        self._sizes: list[int] = list(accumulate(map(sub, self._stops, self._starts), initial=0))
        self._weights: list[int] = list(accumulate(columns[7], initial=0))
        self._offsets: dict[int, Sequence[int]] = {}

    def extent(self, first: int, last: int) -> Extent:
        start, stop = self._rank(first), self._rank(last + 1)
        if start == stop:
            return Extent(0, 0, 0, 0.0, 0.0)
        among = slice(self._holding(start), self._holding(stop - 1) + 1)
        return Extent(
            count=stop - start,
            size_bytes=self._total(self._sizes, stop) - self._total(self._sizes, start),
            event_bytes=self._total(self._weights, stop) - self._total(self._weights, start),
            oldest=max(min(self._oldest[among]), 0) / 1000,
            newest=max(0, *self._newest[among]) / 1000,
        )

    def fit(self, first: int, last: int, records_max: int, event_bytes_max: int) -> int:
        start, stop = self._rank(first), self._rank(last + 1)
        room = self._total(self._weights, start) + event_bytes_max
        chosen = max(start + 1, min(start + records_max, self._within(room)))
        return self._offset(chosen) if chosen < stop else last + 1

    def raw(self, first: int, last: int) -> list[memoryview]:
        """The bytes of the batches that hold anything of `first`..`last`, neighbours as one."""
        start, stop = self._rank(first), self._rank(last + 1)
        found: list[memoryview] = []
        if start == stop:
            return found
        begin = end = self._starts[self._holding(start)]
        for index in range(self._holding(start), self._holding(stop - 1) + 1):
            if self._starts[index] != end:
                found.append(self._data[begin:end])
                begin = self._starts[index]
            end = self._stops[index]
        found.append(self._data[begin:end])
        return found

    def batches(self, first: int, last: int) -> Iterator[tuple[int, memoryview]]:
        """The batches one by one, each with its base offset."""
        start, stop = self._rank(first), self._rank(last + 1)
        if start < stop:
            for index in range(self._holding(start), self._holding(stop - 1) + 1):
                yield self._bases[index], self._batch(index)

    # -- records by number

    def _holding(self, number: int) -> int:
        """Which batch the record of this number lies in; one past the last for one past it."""
        return bisect_right(self._counts, number) - 1

    def _total(self, totals: list[int], number: int) -> int:
        """A running total before the record of this number; within a batch all weigh the same."""
        index = self._holding(number)
        if number == self._counts[index]:
            return totals[index]
        inside, count = number - self._counts[index], self._counts[index + 1] - self._counts[index]
        return totals[index] + (totals[index + 1] - totals[index]) * inside // count

    def _within(self, weight: int) -> int:
        """The number of the first record that no longer fits into a running total of weight."""
        index = bisect_right(self._weights, weight) - 1
        if index == len(self._bases):
            return self._counts[index]
        count = self._counts[index + 1] - self._counts[index]
        spare, whole = weight - self._weights[index], self._weights[index + 1]
        return self._counts[index] + spare * count // (whole - self._weights[index])

    def _rank(self, position: int) -> int:
        """The number of the first record at or after a position."""
        index = bisect_right(self._nexts, position)
        if index == len(self._bases) or position <= self._bases[index]:
            return self._counts[index]
        if self._dense(index):
            return self._counts[index] + position - self._bases[index]
        return self._counts[index] + bisect_left(self._sparse(index), position)

    def _offset(self, number: int) -> int:
        index = self._holding(number)
        inside = number - self._counts[index]
        if self._dense(index):
            return self._bases[index] + inside
        return self._sparse(index)[inside]

    def _dense(self, index: int) -> bool:
        span = self._nexts[index] - self._bases[index]
        return self._counts[index + 1] - self._counts[index] == span

    def _sparse(self, index: int) -> Sequence[int]:
        """The offsets in a batch with holes. Where it is damaged any cut is as good as another:
        the worker will find the damage."""
        known = self._offsets.get(index)
        if known is None:
            count = self._counts[index + 1] - self._counts[index]
            try:
                known = [record.offset for record in decode(self._batch(index))]
            except CorruptBatch:
                known = ()
            if len(known) != count:
                known = range(self._bases[index], self._bases[index] + count)
            self._offsets[index] = known
        return known

    def _batch(self, index: int) -> memoryview:
        return self._data[self._starts[index] : self._stops[index]]


@dataclass(frozen=True, slots=True)
class Scan:
    """What of a fetch reply can be used: everything before `next_position` is accounted for.

    Where that is nothing, `needed_bytes` says how much must be asked for to get the first batch
    whole, or `damage` why its header makes no sense.
    """

    batches: RawBatches
    next_position: int
    needed_bytes: int = 0
    damage: str = ""


def scan(
    data: bytes,
    position: int,
    lane_name: str,
    aborted: Iterable[tuple[int, int]] | None = None,
) -> Scan:
    """Walks the batches of a reply that was asked for at `position`. Control batches are left out;
    with `aborted` (producer and first offset of each aborted transaction) so is what they hold. A
    batch that is cut off at the end is normal, and is asked for again."""
    reading = _Reading(data, RECORD_OVERHEAD_BYTES + len(lane_name), _Transactions(aborted))
    found: list[Found] = []
    at, end, reached = 0, len(data), position
    needed, damage = 0, ""
    try:
        while end - at >= _FRAME.size:
            batch = reading.batch(at)
            base, following, count, _, at, _, _, _ = batch
            if count and following > position:
                if base < reached and reached > position:
                    damage = f"the batch at position {base} begins before {reached}"
                    break
                found.append(batch)
            reached = max(reached, following)
    except _CutOffError as cut_off:
        needed = cut_off.needed_bytes
    except CorruptBatch as error:
        damage = str(error)
    batches = RawBatches(data, found)
    if reached > position:
        return Scan(batches, reached)
    if data and not damage and not needed:
        if at:
            damage = f"the broker answered with what lies before position {position}"
        else:
            needed = end + 1
    return Scan(batches, reached, needed, damage)


def decode(batch: memoryview) -> Iterator[Any]:
    """The records of one batch as aiokafka gives them. `CorruptBatch` where the checksum or what
    it covers is wrong."""
    base, _, magic = _FRAME.unpack_from(batch)
    try:
        decoder = DefaultRecordBatch(batch) if magic == 2 else LegacyRecordBatch(batch, magic)
        if not decoder.validate_crc():
            raise CorruptBatch(base, "the checksum is wrong")
        yield from decoder
    except _UNDECODABLE as error:
        raise CorruptBatch(base, f"cannot be decoded ({error})") from error


def look(lane: Lane, batches: RawBatches, first: int, last: int) -> Iterator[Record]:
    """The records at `first`..`last`, looked at."""
    for _, batch in batches.batches(first, last):
        for record in decode(batch):
            if first <= record.offset <= last:
                yield Record(
                    lane,
                    record.offset,
                    record.value,
                    record.key,
                    -1 if record.timestamp is None else record.timestamp,
                    record.timestamp_type or 0,
                    tuple((name, value or b"") for name, value in record.headers),
                )


class _Transactions:
    """Tells batches of aborted transactions, and control batches, from wanted ones."""

    __slots__ = ("_aborting", "_coming", "_read_all")

    def __init__(self, aborted: Iterable[tuple[int, int]] | None) -> None:
        self._read_all = aborted is None
        self._coming = sorted(aborted or (), key=lambda one: -one[1])
        self._aborting: set[int] = set()

    def wanted(self, base: int, producer: int, control: memoryview | None) -> bool:
        """Whether a batch that is part of a transaction, or ends one (`control`), is for us."""
        while self._coming and self._coming[-1][1] <= base:
            self._aborting.add(self._coming.pop()[0])
        if control is None:
            return self._read_all or producer not in self._aborting
        if producer in self._aborting and _is_abort(control):
            self._aborting.discard(producer)
        return False


class _Reading:
    """Reads the headers in a reply."""

    __slots__ = ("_data", "_end", "_overhead", "_transactions")

    def __init__(self, data: bytes, overhead: int, transactions: _Transactions) -> None:
        self._data = data
        self._end = len(data)
        self._overhead = overhead
        self._transactions = transactions

    def batch(self, at: int) -> Found:
        """The batch at a place in the reply. Of one whose records are not for us the count is 0."""
        if self._end - at < _HEADER.size or self._data[at + 16] != 2:
            return self._other(at)
        base, length, attributes, delta, oldest, newest, producer, count = _HEADER.unpack_from(
            self._data, at
        )
        stop = at + _PREFIX_BYTES + length
        if length < _LENGTHS_MIN[2] or base < 0 or delta < 0 or not 0 <= count <= delta + 1:
            raise CorruptBatch(base, "a header makes no sense")
        if stop > self._end:
            raise _CutOffError(stop - at)
        text = 4 * (stop - at) // 3
        if attributes:
            if attributes & _CODEC:
                text *= COMPRESSION_GUESS
            if attributes & _LOG_APPEND_TIME:
                oldest = newest
            if attributes & (_CONTROL | _TRANSACTIONAL):
                control = memoryview(self._data)[at:stop] if attributes & _CONTROL else None
                if not self._transactions.wanted(base, producer, control):
                    count = 0
        oldest = min(oldest, newest)
        weight = text + count * self._overhead
        return base, base + delta + 1, count, at, stop, oldest, newest, weight

    def _other(self, at: int) -> Found:
        """Old messages, of magic 0 and 1, and what is cut off or makes no sense."""
        base, length, magic = _FRAME.unpack_from(self._data, at)
        if not 0 <= magic <= 2 or length < _LENGTHS_MIN[magic] or base < 0:
            raise CorruptBatch(base, "a header makes no sense")
        stop = at + _PREFIX_BYTES + length
        if stop > self._end:
            raise _CutOffError(stop - at)
        text = 4 * (stop - at) // 3
        if not self._data[at + 17] & _CODEC:
            (moment,) = _LEGACY_TIME.unpack_from(self._data, at + 18) if magic else (-1,)
            return base, base + 1, 1, at, stop, moment, moment, text + self._overhead
        # a wrapper, which only tells the offset of its last message
        records = list(decode(memoryview(self._data)[at:stop]))
        if not records or records[-1].offset != base:
            raise CorruptBatch(base, "a compressed message set does not end where it says")
        first, count = records[0].offset, len(records)
        times = [-1 if record.timestamp is None else record.timestamp for record in records]
        weight = text * COMPRESSION_GUESS + count * self._overhead
        return first, base + 1, count, at, stop, min(times), max(times), weight


class _CutOffError(Exception):
    """A reply ends within a batch of so many bytes."""

    def __init__(self, needed_bytes: int) -> None:
        super().__init__(needed_bytes)
        self.needed_bytes = needed_bytes


def _is_abort(batch: memoryview) -> bool:
    """A control record's key is its version and its type, and 0 aborts."""
    marker = next(decode(batch), None)
    return marker is not None and marker.key is not None and marker.key[2:4] == b"\0\0"


# the same in every version: offset, length of what follows it, (epoch or checksum), magic
_FRAME = struct.Struct(">qi4xb")
_PREFIX_BYTES = 12
_LENGTHS_MIN = (14, 22, 49)  # by magic, of an empty batch or record

# magic 2: base offset, length, (epoch, magic, checksum), attributes, last offset delta, first and
# newest timestamp, producer, (its epoch, sequence), count
_HEADER = struct.Struct(">qi9xhiqqq6xi")
_CODEC, _LOG_APPEND_TIME, _TRANSACTIONAL, _CONTROL = 0x07, 0x08, 0x10, 0x20
_LEGACY_TIME = struct.Struct(">q")

# what the decoders and codecs raise over bytes that are not what they say
_UNDECODABLE = (
    KafkaError,
    cramjam.DecompressionError,
    ArithmeticError,
    AssertionError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    TypeError,
    ValueError,
    struct.error,
)
