"""Record batches written by hand, so that a test decides on every field and every fault."""

from __future__ import annotations

import enum
import random
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from aiokafka.codec import gzip_encode, lz4_encode, snappy_encode, zstd_encode
from aiokafka.record.util import calc_crc32c

HEADER = struct.Struct(">qiibIhiqqqhii")
"""offset, length, leader epoch, magic, crc, attributes, last offset delta, first and last
timestamp, producer id and epoch, sequence, count."""

_CHECKED_FROM = 21  # the checksum covers everything from the attributes on
_CODEC_NUMBERS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
_COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "none": bytes,
    "gzip": gzip_encode,
    "snappy": snappy_encode,
    "lz4": lz4_encode,
    "zstd": zstd_encode,
}
CODECS = tuple(_CODEC_NUMBERS)

EPOCH_MS = 1_700_000_000_000
"""When the first record of every log was written; a record a millisecond follows."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One record to be written."""

    offset: int
    value: bytes | None
    key: bytes | None = None
    timestamp_ms: int = EPOCH_MS
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Producer:
    """Who wrote a batch, where that matters."""

    id: int = -1
    epoch: int = -1
    transactional: bool = False


NOBODY = Producer()


def encode(
    entries: Sequence[Entry],
    *,
    codec: str = "none",
    span: tuple[int, int] | None = None,
    producer: Producer = NOBODY,
    control: bool = False,
) -> bytes:
    """A batch of magic 2. `span` are the first and last offset where compaction has taken records
    away at the ends; a batch without records needs it."""
    first, last = span or (entries[0].offset, entries[-1].offset)
    times = [entry.timestamp_ms for entry in entries] or [EPOCH_MS]
    records = b"".join(_record(entry, first, times[0]) for entry in entries)
    attributes = _CODEC_NUMBERS[codec] | producer.transactional << 4 | control << 5
    return seal(
        HEADER.pack(
            first,
            HEADER.size - 12,
            0,
            2,
            0,
            attributes,
            last - first,
            times[0],
            max(times),
            producer.id,
            producer.epoch,
            0 if producer.transactional else -1,
            len(entries),
        )
        + _COMPRESS[codec](records)
    )


def seal(batch: bytes) -> bytes:
    """The batch with the length and the checksum that its bytes have."""
    sealed = bytearray(batch)
    struct.pack_into(">i", sealed, 8, len(sealed) - 12)
    struct.pack_into(">I", sealed, 17, calc_crc32c(sealed[_CHECKED_FROM:]))
    return bytes(sealed)


def marker(offset: int, producer: Producer, *, commit: bool) -> bytes:
    """The control batch that ends a transaction."""
    key = struct.pack(">hh", 0, int(commit))
    entry = Entry(offset, struct.pack(">hi", 0, 0), key)
    return encode([entry], producer=producer, control=True)


def encode_legacy(entries: Sequence[Entry], *, magic: int, codec: str = "none") -> bytes:
    """A message set of magic 0 or 1: each message for itself, or all inside one compressed."""
    assert magic in {0, 1}
    if codec == "none":
        return b"".join(
            _message(e.offset, magic, 0, e.timestamp_ms, e.key, e.value) for e in entries
        )
    first = entries[0].offset if magic else 0  # inside magic 1, offsets count from the first
    inner = b"".join(
        _message(e.offset - first, magic, 0, e.timestamp_ms, e.key, e.value) for e in entries
    )
    newest = max(entry.timestamp_ms for entry in entries)
    packed = _COMPRESS[codec](inner)
    return _message(entries[-1].offset, magic, _CODEC_NUMBERS[codec], newest, None, packed)


def walk(data: bytes | bytearray) -> Iterator[tuple[int, int]]:
    """Where each whole batch begins and ends; magic 0 and 1 have these fields too."""
    at = 0
    while at + 17 <= len(data):
        end = at + 12 + struct.unpack_from(">i", data, at + 8)[0]
        if end > len(data):
            return
        yield at, end
        at = end


class Damage(enum.Enum):
    """What may be wrong with the bytes of a batch."""

    CHECKSUM = "a flipped bit among the records"
    CUT = "the answer ends in the middle of it"
    HEADER = "garbage where the header should be, its length and offset aside"
    LENGTH = "a length below zero"
    CODEC = "a codec that does not exist, with a checksum that is right"
    RECORDS = "garbage where the records should be, with a checksum that is right"


def damage(data: bytes, offset: int, kind: Damage) -> bytes:
    """The answer with one batch spoiled, the one that covers the offset (if it is in there)."""
    for start, end in walk(data):
        if offset not in _span(data, start):
            continue
        if kind is Damage.CUT:
            return data[: start + (end - start) // 2]
        return data[:start] + _spoil(data[start:end], kind) + data[end:]
    return data


def covers(data: bytes, offset: int) -> bool:
    """Whether a whole batch over that offset is in the answer."""
    return any(offset in _span(data, start) for start, _ in walk(data))


def _span(data: bytes, start: int) -> range:
    """The offsets of the batch that begins there."""
    first = struct.unpack_from(">q", data, start)[0]
    if data[start + 16] < 2:
        return range(first, first + 1)
    return range(first, first + struct.unpack_from(">i", data, start + 23)[0] + 1)


def _spoil(batch: bytes, kind: Damage) -> bytes:
    spoiled = bytearray(batch)
    match kind:
        case Damage.CHECKSUM:
            spoiled[-1] ^= 0x40
        case Damage.HEADER:
            spoiled[12 : HEADER.size] = random.Random(1).randbytes(HEADER.size - 12)
        case Damage.LENGTH:
            struct.pack_into(">i", spoiled, 8, -1)
        case Damage.CODEC:
            spoiled[22] |= 7
            return seal(bytes(spoiled))
        case Damage.RECORDS:
            spoiled[HEADER.size :] = b"\xff" * (len(spoiled) - HEADER.size)
            return seal(bytes(spoiled))
        case Damage.CUT:
            raise AssertionError("cutting is for the whole answer")
    return bytes(spoiled)


def _record(entry: Entry, first: int, first_ms: int) -> bytes:
    body = bytearray(b"\0")
    body += _varint(entry.timestamp_ms - first_ms)
    body += _varint(entry.offset - first)
    body += _varblob(entry.key) + _varblob(entry.value)
    body += _varint(len(entry.headers))
    for name, value in entry.headers:
        body += _varblob(name.encode()) + _varblob(value)
    return _varint(len(body)) + bytes(body)


def _varblob(value: bytes | None) -> bytes:
    return _varint(-1) if value is None else _varint(len(value)) + value


def _varint(value: int) -> bytes:
    rest = (value << 1) ^ (value >> 63)
    written = bytearray()
    while rest > 0x7F:
        written.append(rest & 0x7F | 0x80)
        rest >>= 7
    written.append(rest)
    return bytes(written)


def _message(
    offset: int, magic: int, attributes: int, time_ms: int, key: bytes | None, value: bytes | None
) -> bytes:
    body = bytes([magic, attributes])
    body += struct.pack(">q", time_ms) if magic else b""
    for part in (key, value):
        body += struct.pack(">i", -1 if part is None else len(part)) + (part or b"")
    checked = struct.pack(">I", zlib.crc32(body)) + body
    return struct.pack(">qi", offset, len(checked)) + checked
