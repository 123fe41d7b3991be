"""Raw Kafka record batches: found by their headers, measured, cut and decoded, without a broker."""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import sub
from typing import Any, NamedTuple

import cramjam
from aiokafka.errors import KafkaError
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.legacy_records import LegacyRecordBatch

from streamfaas.flow.errors import CorruptBatch
from streamfaas.flow.record import RECORD_OVERHEAD_BYTES, Extent, Lane, Record

COMPRESSION_GUESS = 3
"""How many times larger than its compressed bytes a batch is taken to be. A worker that finds it
larger runs the records that fit, and leaves the rest for the next call."""


class Found(NamedTuple):
    """One batch of one record or more, as its header tells. `start` and `stop` are where its bytes
    lie; timestamps are -1 where there are none; `text_bytes` estimates its data as base64."""

    base: int
    next_offset: int
    records: int
    start: int
    stop: int
    oldest_ms: int
    newest_ms: int
    text_bytes: int


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

    def __init__(self, data: bytes, found: Sequence[Found], lane_name: str) -> None:
        columns = tuple(zip(*found, strict=True)) or ((),) * len(Found._fields)
        self._bases: tuple[int, ...] = columns[0]
        self._nexts: tuple[int, ...] = columns[1]
        counts, starts, stops, oldest, newest, texts = columns[2:]
        self._data = memoryview(data)
        self._starts: tuple[int, ...] = starts
        self._stops: tuple[int, ...] = stops
        self._oldest: tuple[int, ...] = oldest
        self._newest: tuple[int, ...] = newest
        # running totals up to a batch: a record's number is all that is needed to measure or cut
        overhead = RECORD_OVERHEAD_BYTES + len(lane_name)
        weights = (text + count * overhead for text, count in zip(texts, counts, strict=True))
        self._counts: list[int] = list(accumulate(counts, initial=0))
        self._sizes: list[int] = list(accumulate(map(sub, stops, starts), initial=0))
        self._weights: list[int] = list(accumulate(weights, initial=0))
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
    transactions = _Transactions(aborted)
    found: list[Found] = []
    at, end, reached = 0, len(data), position
    needed, damage = 0, ""
    try:
        while end - at >= _FRAME.size:
            batch, wanted = _batch(data, at, transactions)
            if wanted and batch.next_offset > position:
                if batch.base < reached and reached > position:
                    damage = f"the batch at position {batch.base} begins before {reached}"
                    break
                found.append(batch)
            reached = max(reached, batch.next_offset)
            at = batch.stop
    except _CutOffError as cut_off:
        needed = cut_off.needed_bytes
    except CorruptBatch as error:
        damage = str(error)
    batches = RawBatches(data, found, lane_name)
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


def _batch(data: bytes, at: int, transactions: _Transactions) -> tuple[Found, bool]:
    """The batch at a place in a reply, and whether it holds records for us."""
    base, length, magic = _FRAME.unpack_from(data, at)
    if not 0 <= magic <= 2 or length < _LENGTHS_MIN[magic] or base < 0:
        raise CorruptBatch(base, "a header makes no sense")
    stop = at + _PREFIX_BYTES + length
    if stop > len(data):
        raise _CutOffError(stop - at)
    if magic < 2:
        return _legacy(data, at, stop), True
    attributes, delta, oldest, newest, producer, count = _DEFAULT.unpack_from(data, at + 21)
    if delta < 0 or not 0 <= count <= delta + 1:
        raise CorruptBatch(base, f"a batch of {count} records over {delta + 1} positions")
    wanted = count > 0
    text = 4 * (stop - at) // 3
    if attributes:
        if attributes & _CODEC:
            text *= COMPRESSION_GUESS
        if attributes & _LOG_APPEND_TIME:
            oldest = newest
        if attributes & (_CONTROL | _TRANSACTIONAL):
            control = memoryview(data)[at:stop] if attributes & _CONTROL else None
            wanted = transactions.wanted(base, producer, control) and wanted
    oldest = min(oldest, newest)
    return Found(base, base + delta + 1, count, at, stop, oldest, newest, text), wanted


def _legacy(data: bytes, at: int, stop: int) -> Found:
    """Magic 0 and 1: one record each, or a wrapper that only tells the offset of its last."""
    offset, _, magic = _FRAME.unpack_from(data, at)
    text = 4 * (stop - at) // 3
    if not data[at + 17] & _CODEC:
        (moment,) = _LEGACY_TIME.unpack_from(data, at + 18) if magic else (-1,)
        return Found(offset, offset + 1, 1, at, stop, moment, moment, text)
    records = list(decode(memoryview(data)[at:stop]))
    if not records or records[-1].offset != offset:
        raise CorruptBatch(offset, "a compressed message set does not end where it says")
    times = [-1 if record.timestamp is None else record.timestamp for record in records]
    text *= COMPRESSION_GUESS
    base, count = records[0].offset, len(records)
    return Found(base, offset + 1, count, at, stop, min(times), max(times), text)


class _CutOffError(Exception):
    """A reply ends within a batch of so many bytes."""

    def __init__(self, needed_bytes: int) -> None:
        super().__init__(needed_bytes)
        self.needed_bytes = needed_bytes


def _is_abort(batch: memoryview) -> bool:
    """A control record's key is its version and its type, and 0 aborts."""
    marker = next(decode(batch), None)
    return marker is not None and marker.key is not None and marker.key[2:4] == b"\0\0"


# the same in every version: offset, length of what follows, (epoch or checksum), magic
_FRAME = struct.Struct(">qi4xb")
_PREFIX_BYTES = 12
_LENGTHS_MIN = (14, 22, 49)  # by magic, of an empty batch or record

# magic 2, from the attributes on: attributes, last offset delta, first and newest timestamp,
# producer, (its epoch, sequence), count
_DEFAULT = struct.Struct(">hiqqq6xi")
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
