from __future__ import annotations

import base64
import gzip
import json
import struct
import zlib

import cramjam
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guest_parts import event_builder, libraries
from kafka_batches import (
    GZIP,
    LOG_APPEND_TIME,
    LZ4,
    NONE,
    SNAPPY,
    TRANSACTIONAL,
    ZSTD,
    Written,
    batch,
    legacy,
    logs,
    marker,
    sealed,
)
from parts import vectors
from streamfaas.guest.python import compression
from streamfaas.guest.python.kafka import Kind, Unbuildable

CODECS = (NONE, GZIP, SNAPPY, LZ4, ZSTD)
FOREVER = 1 << 62


def ask(first: int = 0, last: int = FOREVER, *, checked: bool = False) -> dict:
    return {
        "topic": "orders",
        "partition": 3,
        "first": first,
        "last": last,
        "servers": "k1:9092,k2:9092",
        "checked": checked,
    }


def build(data: bytes, first: int = 0, last: int = FOREVER, *, most: int = 6 << 20, checked=False):
    return event_builder(most).build(memoryview(data), ask(first, last, checked=checked))


def shown(record: Written) -> dict:
    """The record as Lambda's documented event has it, made without the code under test."""
    encode = lambda data: None if data is None else base64.b64encode(data).decode()  # noqa: E731
    return {
        "topic": "orders",
        "partition": 3,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "timestampType": ("CREATE_TIME", "LOG_APPEND_TIME")[record.timestamp_type],
        "key": encode(record.key),
        "value": encode(record.value),
        "headers": [
            {name: [byte - 256 if byte > 127 else byte for byte in value or b""]}
            for name, value in record.headers
        ],
    }


def event_of(records) -> dict:
    return {
        "eventSource": "SelfManagedKafka",
        "bootstrapServers": "k1:9092,k2:9092",
        "records": {"orders-3": [shown(record) for record in records]},
    }


def some(count: int, offset: int = 0, value: bytes = b"v", **extra) -> list[Written]:
    return [Written(offset + i, 1000 + i, 0, b"k%d" % i, value, **extra) for i in range(count)]


@pytest.mark.slow
@given(logs(codecs=CODECS), st.data())
def test_an_event_holds_exactly_the_records_that_were_asked_for(log, data):
    payload, start, written, following = log
    first = data.draw(st.integers(start, following))
    last = data.draw(st.integers(first, following))
    wanted = [record for record in written if first <= record.offset <= last]
    event, until = build(payload, first, last)
    assert until == -1
    if not wanted:
        assert event is None
    else:
        assert event == event_of(wanted)
        # the order of the fields, too, is that of the documentation
        assert json.dumps(event) == json.dumps(event_of(wanted))


@pytest.mark.slow
@given(logs(codecs=CODECS), st.lists(st.integers(1, 5), min_size=1, max_size=12))
def test_a_worker_that_is_given_a_log_piece_by_piece_sees_each_record_once(log, sizes):
    data, _, records, _ = log
    builder, seen, again = event_builder(6 << 20), [], []
    offsets = [record.offset for record in records]
    while offsets:
        size = sizes[len(seen) % len(sizes)]
        piece, offsets = offsets[:size], offsets[size:]
        # the daemon's receive buffer is used again: what the builder keeps must not lie in it
        buffer = bytearray(data)
        event, until = builder.build(memoryview(buffer), ask(piece[0], piece[-1]))
        buffer[:] = bytes(len(buffer))
        assert until == -1
        seen += event["records"]["orders-3"]
        if len(again) < 3:  # a retry comes with the same piece, and must see the same
            event, _ = builder.build(memoryview(data), ask(piece[0], piece[-1]))
            again.append(event["records"]["orders-3"] == seen[-len(piece) :])
    assert seen == [shown(record) for record in records]
    assert all(again)


@pytest.mark.slow
@given(logs(batches_max=4), st.integers(300, 3000))
def test_an_event_is_cut_before_the_first_record_that_has_no_room(log, most):
    payload, start, written, _ = log
    fitting = 0
    while fitting < len(written) and json_size(written[: fitting + 1]) <= most:
        fitting += 1
    if fitting == 0:
        with pytest.raises(Unbuildable) as caught:
            build(payload, start, most=most)
        assert caught.value.kind is Kind.OVERSIZE
        assert caught.value.until == (written[0].offset + 1 if len(written) > 1 else -1)
        return
    event, until = build(payload, start, most=most)
    assert event == event_of(written[:fitting])
    assert until == (written[fitting].offset if fitting < len(written) else -1)


def json_size(records) -> int:
    return len(orjson.dumps(event_of(records)))


@pytest.mark.parametrize("codec", CODECS)
def test_every_codec_is_read(codec):
    records = some(50, 7, b"the same again " * 20)
    event, _ = build(batch(records, codec=codec))
    assert event == event_of(records)


@pytest.mark.parametrize(
    ("magic", "codec"),
    # LZ4 in the oldest was never right, and brokers refuse it (KAFKA-3160)
    [(0, NONE), (0, GZIP), (0, SNAPPY), (1, NONE), (1, GZIP), (1, SNAPPY), (1, LZ4)],
)
def test_the_old_formats_are_read(magic, codec):
    records = [Written(5 + i, 1000 + i if magic else -1, 0, None, b"v%d" % i) for i in range(4)]
    event, _ = build(legacy(records, magic, codec), 6, 7)
    assert event == event_of(records[1:3])


def test_a_wrapper_whose_time_is_the_log_s_gives_it_to_its_records():
    data = bytearray(legacy(some(3), 1, GZIP))
    data[17] |= LOG_APPEND_TIME
    struct.pack_into(">I", data, 12, zlib.crc32(bytes(data[16:])))
    event, _ = build(bytes(data))
    (records,) = event["records"].values()
    assert {record["timestampType"] for record in records} == {"LOG_APPEND_TIME"}
    assert len({record["timestamp"] for record in records}) == 1


def test_snappy_of_clients_that_are_not_java_is_read():
    plain = bytearray(batch(some(20, value=b"x" * 100)))
    data = plain[:61] + bytes(cramjam.snappy.compress_raw(bytes(plain[61:])))
    struct.pack_into(">i", data, 8, len(data) - 12)
    struct.pack_into(">h", data, 21, SNAPPY)
    event, _ = build(sealed(data))
    assert event == event_of(some(20, value=b"x" * 100))


def test_batches_of_real_brokers_are_read():
    path = vectors("kafka") / "kafka_records.jsonl"
    for case in map(json.loads, path.read_text().splitlines()):
        if case["kind"] != "records":
            continue
        event, until = build(base64.b64decode(case["data_base64"]))
        assert until == -1
        values = [value for each in case["batches"] for value in each["values"]]
        if not values:
            assert event is None
            continue
        records = event["records"]["orders-3"]
        assert [base64.b64decode(record["value"]).decode() for record in records] == values
        first = case["first_record"]
        assert records[0]["timestamp"] == (-1 if first["timestamp"] is None else first["timestamp"])


def test_a_length_that_makes_no_sense_is_damage():
    path = vectors("kafka") / "kafka_records.jsonl"
    (case,) = (c for c in map(json.loads, path.read_text().splitlines()) if c["kind"] == "corrupt")
    with pytest.raises(Unbuildable) as caught:
        build(base64.b64decode(case["data_base64"]))
    assert caught.value.kind is Kind.CORRUPT


def test_markers_of_transactions_are_no_records():
    records = some(2)
    data = batch(records, attributes=TRANSACTIONAL, producer=9) + marker(2, 9, abort=False)
    assert build(data)[0] == event_of(records)
    assert build(marker(2, 9, abort=True)) == (None, -1)


@pytest.mark.slow
@given(st.data())
def test_a_damaged_batch_runs_what_stands_before_it_and_nothing_behind(data):
    parts = [batch(some(3, 10 * i)) for i in range(3)]
    which = data.draw(st.integers(0, 2))
    broken = bytearray(parts[which])
    # the offset and the leader's epoch are not under the checksum, and the length is checked first
    at = data.draw(st.integers(17, len(broken) - 1))
    broken[at] ^= data.draw(st.integers(1, 255))
    payload = b"".join([*parts[:which], bytes(broken), *parts[which + 1 :]])
    if which == 0:
        with pytest.raises(Unbuildable) as caught:
            build(payload)
        assert caught.value.kind is Kind.CORRUPT
        assert "at offset 0 does not match its checksum" in str(caught.value)
        assert caught.value.until == -1
    else:
        event, until = build(payload)
        assert until == 10 * which
        assert event == event_of([*some(3), *some(3, 10)][: 3 * which])


@given(st.binary(max_size=200))
def test_random_bytes_are_damage_or_nothing_but_never_a_crash(data):
    assert verdict(data) in {None, Kind.CORRUPT}


@pytest.mark.slow
@given(logs(batches_max=1, codecs=CODECS), st.data())
def test_a_batch_that_lies_under_a_right_checksum_is_damage_at_worst(log, data):
    payload = bytearray(log[0])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(21, len(payload) - 1))
        payload[at] = data.draw(st.integers(0, 255))
    assert verdict(sealed(payload)) in {None, Kind.CORRUPT, "an event"}


def verdict(data: bytes):
    try:
        event, _ = build(data)
    except Unbuildable as error:
        return error.kind
    return event and "an event"


def test_a_batch_cut_short_is_damage():
    whole = batch(some(3))
    for size in (12, 16, 17, 26, 60, 61, len(whole) - 1):
        with pytest.raises(Unbuildable, match="cut short"):
            build(whole[:size])


def test_a_batch_that_was_checked_is_not_checked_again():
    data = bytearray(batch(some(1, value=b"value")))
    data[-2] ^= 1
    with pytest.raises(Unbuildable, match="checksum"):
        build(bytes(data))
    assert build(bytes(data), checked=True)[0] is not None


def test_damage_behind_what_is_asked_for_does_not_matter():
    behind = bytearray(batch(some(3, 10)))
    behind[70] ^= 1
    event, until = build(batch(some(3)) + bytes(behind), 0, 9)
    assert (event, until) == (event_of(some(3)), -1)


@pytest.mark.slow
@pytest.mark.parametrize("codec", CODECS[1:])
def test_a_compression_bomb_is_refused(codec):
    value = bytes(compression.DECODED_BYTES_MAX + 1)
    data = batch([Written(0, 0, 0, None, value)], codec=codec)
    assert len(data) < len(value) / 15
    with pytest.raises(Unbuildable, match="unpacks to more than 67108864 bytes") as caught:
        build(data)
    assert caught.value.kind is Kind.CORRUPT


def test_a_gzip_batch_may_have_several_members_and_no_loose_end():
    codecs = libraries().codecs
    assert codecs.gzip(gzip.compress(b"ab") + gzip.compress(b"cd")) == b"abcd"
    with pytest.raises(ValueError, match="cut short"):
        codecs.gzip(gzip.compress(b"abcdefgh" * 100)[:-20])


def test_headers_are_signed_bytes_and_may_share_a_name():
    record = Written(0, 1, 0, b"", b"", (("h", b"\x00\x7f\x80\xff"), ("h", b""), ("n", None)))
    event, _ = build(batch([record]))
    (shown_record,) = event["records"]["orders-3"]
    assert shown_record["headers"] == [{"h": [0, 127, -128, -1]}, {"h": []}, {"n": []}]
    assert shown_record["key"] == ""


def test_the_event_has_the_shape_of_the_sample_that_aws_recorded():
    sample = json.loads(
        (vectors("event_shapes") / "samples/kafka__go__kafka-event.json").read_text()
    )
    (theirs,) = sample["records"]["AWSKafkaTopic-0"]
    event, _ = build(batch([Written(0, 1, 0, b"k", b"v", (("h", b"\xdc"),))]))
    (ours,) = event["records"]["orders-3"]
    assert list(ours) == list(theirs)
    assert [type(value) for value in ours.values()] == [type(value) for value in theirs.values()]


def test_a_record_too_large_for_any_event_is_named_with_what_follows():
    data = batch([Written(4, 0, 0, None, bytes(5 << 20))]) + batch(some(1, 5))
    with pytest.raises(Unbuildable, match="the record at offset 4 alone") as caught:
        build(data)
    assert (caught.value.kind, caught.value.until) == (Kind.OVERSIZE, 5)
    with pytest.raises(Unbuildable) as caught:
        build(data, 4, 4)
    assert caught.value.until == -1


def test_the_cheap_bound_on_an_event_s_size_is_never_too_low():
    """Every case here is just under or over the limit that its exact size sets."""
    for headers in ((), ((("\x01" * 40), b"\x80" * 40),)):
        records = [Written(i, 1 << 60, 1, None, b"\0" * 4, headers) for i in range(30)]
        data = batch(records, attributes=LOG_APPEND_TIME)
        made, _ = build(data)
        assert made == event_of(records)
        size = json_size(records)
        assert build(data, most=size)[1] == -1
        assert build(data, most=size - 1)[1] == 29
