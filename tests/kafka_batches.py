"""Record batches for tests, made with aiokafka's own builders and changed where a log changes them."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from hypothesis import strategies as st

NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)
LOG_APPEND_TIME, TRANSACTIONAL, CONTROL = 0x08, 0x10, 0x20


@dataclass(frozen=True)
class Written:
    """A record as it was written: what a reader must find again."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


def batch(
    records,
    base: int | None = None,
    next_offset: int | None = None,
    *,
    codec: int = NONE,
    attributes: int = 0,
    producer: int = -1,
) -> bytes:
    """A batch of magic 2 over `base`..`next_offset`, of which `records` are left."""
    base = records[0].offset if base is None else base
    next_offset = records[-1].offset + 1 if next_offset is None else next_offset
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=codec,
        is_transactional=0,
        producer_id=producer,
        producer_epoch=-1 if producer < 0 else 0,
        base_sequence=-1 if producer < 0 else 0,
        batch_size=1 << 30,
    )
    for record in records:
        added = builder.append(
            record.offset - base,
            record.timestamp,
            record.key,
            record.value,
            list(record.headers),
        )
        assert added is not None
    data = bytearray(builder.build())
    struct.pack_into(">q", data, 0, base)
    struct.pack_into(">i", data, 23, next_offset - base - 1)
    (found,) = struct.unpack_from(">h", data, 21)
    struct.pack_into(">h", data, 21, found | attributes)
    return sealed(data)


def sealed(data: bytearray) -> bytes:
    """With the checksum that its bytes ask for."""
    struct.pack_into(">I", data, 17, calc_crc32c(bytes(data[21:])))
    return bytes(data)


def marker(offset: int, producer: int, *, abort: bool) -> bytes:
    """The control batch that ends a transaction."""
    key = struct.pack(">hh", 0, 0 if abort else 1)
    record = Written(offset, 0, 0, key, struct.pack(">hi", 0, 0))
    return batch([record], attributes=CONTROL | TRANSACTIONAL, producer=producer)


def legacy(records, magic: int, codec: int = NONE) -> bytes:
    """Messages of magic 0 or 1 (of one and the same wrapper, where there is a codec)."""
    first = records[0].offset
    builder = LegacyRecordBatchBuilder(magic, codec, 1 << 30)
    for record in records:
        offset = record.offset - first if codec and magic else record.offset
        builder.append(offset, record.timestamp, record.key, record.value)
    data = bytearray(builder.build())
    if codec:
        struct.pack_into(">q", data, 0, records[-1].offset)
    return bytes(data)


@st.composite
def logs(draw, *, batches_max: int = 6, records_max: int = 8, codecs=(NONE,)):
    """The bytes of a piece of a log, its records, and the offset that follows it. Batches may have
    holes, lie apart, and have lost every record."""
    offset = draw(st.integers(0, 1 << 40))
    start = offset
    data, written = b"", []
    for _ in range(draw(st.integers(1, batches_max))):
        base = offset + draw(st.sampled_from((0, 0, 0, 1, 7)))
        holes = draw(st.booleans())
        kind = draw(st.sampled_from((0, 0, LOG_APPEND_TIME)))
        steps = draw(st.lists(st.integers(0, 3 if holes else 0), min_size=1, max_size=records_max))
        made, at = [], base
        for step in steps:
            at += step
            made.append(
                Written(
                    at,
                    draw(st.integers(0, 1 << 41)),
                    0,
                    draw(st.none() | st.binary(max_size=6)),
                    draw(st.none() | st.binary(max_size=40)),
                    tuple(
                        draw(
                            st.lists(
                                st.tuples(st.text(max_size=4), st.none() | st.binary(max_size=5)),
                                max_size=2,
                            )
                        )
                    ),
                )
            )
            at += 1
        offset = at + (draw(st.integers(0, 2)) if holes else 0)
        data += batch(made, base, offset, codec=draw(st.sampled_from(codecs)), attributes=kind)
        if kind:
            newest = max(record.timestamp for record in made)
            made = [Written(r.offset, newest, 1, r.key, r.value, r.headers) for r in made]
        written += made
    return data, start, tuple(written), offset
