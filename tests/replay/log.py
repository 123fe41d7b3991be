"""What a partition holds: batches kept as they will be sent, or made up while they are read."""

from __future__ import annotations

import random
import re
import struct
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from replay.batches import (
    CODECS,
    EPOCH_MS,
    NOBODY,
    Entry,
    Producer,
    encode,
    encode_legacy,
    marker,
)


@dataclass(frozen=True, slots=True)
class Stored:
    """One batch of a log."""

    first: int
    last: int
    data: bytes
    times: tuple[tuple[int, int], ...]  # timestamp and offset of each record


@dataclass(slots=True)
class Log:
    """One partition, written to by a test. Offsets only rise."""

    leader: int | None
    start: int = 0
    end: int = 0
    epoch: int = 0
    _batches: list[Stored] = field(default_factory=list)
    _open: dict[int, int] = field(default_factory=dict)  # producer → first offset
    _aborted: list[tuple[int, int, int]] = field(default_factory=list)  # producer, first, last

    # -- writing

    def append(
        self,
        values: Iterable[bytes | None],
        *,
        keys: Sequence[bytes | None] | None = None,
        headers: tuple[tuple[str, bytes], ...] = (),
        codec: str = "none",
        magic: int = 2,
        producer: Producer = NOBODY,
    ) -> range:
        """One batch of these values, at the end; gives their offsets."""
        entries = [
            Entry(
                self.end + index,
                value,
                keys[index] if keys else None,
                EPOCH_MS + self.end + index,
                headers,
            )
            for index, value in enumerate(values)
        ]
        return self.append_entries(entries, codec=codec, magic=magic, producer=producer)

    def append_entries(
        self,
        entries: Sequence[Entry],
        *,
        span: tuple[int, int] | None = None,
        codec: str = "none",
        magic: int = 2,
        producer: Producer = NOBODY,
    ) -> range:
        """One batch as a compaction may have left it: any rising offsets from the end on, and a
        span that may be wider than they are, even without a single one."""
        first, last = span or (entries[0].offset, entries[-1].offset)
        assert first >= self.end
        if magic < 2:
            data = encode_legacy(entries, magic=magic, codec=codec)
        else:
            data = encode(entries, codec=codec, span=span, producer=producer)
        if producer.transactional:
            self._open.setdefault(producer.id, first)
        self._store(first, last, data, entries)
        return range(first, last + 1)

    def skip(self, count: int) -> None:
        """Offsets that no batch has any more."""
        self.end += count

    def finish(self, producer: Producer, *, commit: bool) -> None:
        """Ends the producer's transaction by a marker, which takes an offset of its own."""
        first = self._open.pop(producer.id)
        if not commit:
            self._aborted.append((producer.id, first, self.end))
        self._store(self.end, self.end, marker(self.end, producer, commit=commit), ())

    def retain(self, offset: int) -> None:
        """Retention has taken everything before the offset."""
        self.start = offset
        self.end = max(self.end, offset)
        self._batches = [batch for batch in self._batches if batch.last >= offset]

    # -- reading

    @property
    def stable(self) -> int:
        """No transaction is open before this offset."""
        return min([self.end, *self._open.values()])

    def read(self, offset: int, bytes_max: int, limit: int, *, whole: bool) -> bytes:
        """Batches from the one that holds the offset on, below `limit`, cut off after so many
        bytes as a broker cuts them; with `whole` at least one batch in full."""
        found = bytearray()
        for batch in self._batches[bisect_left(self._batches, offset, key=_last) :]:
            if batch.first >= limit:
                break
            room = bytes_max - len(found)
            if len(batch.data) > room and not (whole and not found):
                return bytes(found + batch.data[: max(room, 0)])
            found += batch.data
        return bytes(found)

    def aborted(self, offset: int, limit: int) -> list[tuple[int, int]]:
        """Producer and first offset of the aborted transactions in a stretch."""
        return [(p, first) for p, first, last in self._aborted if first < limit and last >= offset]

    def at_time(self, timestamp_ms: int) -> tuple[int, int]:
        """Timestamp and offset of the first record that is not older, or -1 and -1."""
        times = (time for batch in self._batches for time in batch.times)
        return next((time for time in times if time[0] >= timestamp_ms), (-1, -1))

    def _store(self, first: int, last: int, data: bytes, entries: Sequence[Entry]) -> None:
        times = tuple((entry.timestamp_ms, entry.offset) for entry in entries)
        self._batches.append(Stored(first, last, data, times))
        self.end = last + 1


def _last(batch: Stored) -> int:
    return batch.last


_DATA = re.compile(
    r"(?:.+\.)?v(?P<value>\d+)-p(?P<partitions>\d+)-n(?P<records>\d+)-b(?P<batch>\d+)"
    rf"(?:-(?P<codec>{'|'.join(CODECS)}))?(?:-h(?P<headers>\d+))?"
)


def made_up(topic: str, nodes: Sequence[int]) -> list[Loop] | None:
    """The partitions of a topic whose name says what is in it, None for any other name."""
    named = _DATA.fullmatch(topic)
    if named is None:
        return None
    value, partitions, records, batch = (
        int(named[n]) for n in ("value", "partitions", "records", "batch")
    )
    template = _template(value, batch, named["codec"] or "none", int(named["headers"] or 0))
    return [
        Loop(nodes[partition % len(nodes)], records - records % batch, template, batch)
        for partition in range(partitions)
    ]


def _template(value_bytes: int, records: int, codec: str, headers: int) -> bytes:
    """A batch of JSON objects; what differs between batches is their offset alone."""
    return encode(
        [
            Entry(
                index,
                _document(index, value_bytes),
                b"k%d" % (index % 64),
                EPOCH_MS + index,
                tuple((f"header{n}", b"value %d" % n) for n in range(headers)),
            )
            for index in range(records)
        ],
        codec=codec,
    )


def _document(number: int, size: int) -> bytes:
    draw = random.Random(number)
    head = b'{"id": %d, "user": "u%06d", "amount": %d.25, "note": "' % (
        number,
        draw.randrange(10**6),
        draw.randrange(1000),
    )
    note = draw.choices(b"abcdefghijklmnopqrstuvwxyz 0123456789", k=max(size - len(head) - 2, 0))
    return (head + bytes(note) + b'"}')[: max(size, len(head) + 2)]


class Loop:
    """One partition of the same batch over and over, for benches: nothing is kept but the batch."""

    __slots__ = ("_batch", "_records", "_sheets", "end", "epoch", "leader", "start")

    def __init__(self, leader: int, end: int, batch: bytes, records: int) -> None:
        self.leader: int | None = leader
        self.start = 0
        self.end = end
        self.epoch = 0
        self._batch = batch
        self._records = records
        self._sheets: dict[int, bytearray] = {}

    @property
    def stable(self) -> int:
        return self.end

    def read(self, offset: int, bytes_max: int, limit: int, *, whole: bool) -> bytes:
        index = offset // self._records
        size = len(self._batch)
        count = min(bytes_max // size, limit // self._records - index)
        if count <= 0:
            if offset >= limit:
                return b""
            count = 1
        sheet = self._sheets.get(count)
        if sheet is None:
            sheet = self._sheets[count] = bytearray(self._batch * count)
        for number in range(count):
            struct.pack_into(">q", sheet, number * size, (index + number) * self._records)
        if bytes_max < size and not whole:
            return bytes(sheet[:bytes_max])
        return bytes(sheet)

    def aborted(self, offset: int, limit: int) -> list[tuple[int, int]]:
        return []

    def at_time(self, timestamp_ms: int) -> tuple[int, int]:
        return (EPOCH_MS, 0) if timestamp_ms <= EPOCH_MS else (-1, -1)
