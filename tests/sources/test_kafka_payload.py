from __future__ import annotations

import base64
import json
import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafka_batches import (
    CONTROL,
    GZIP,
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
from streamfaas.flow.batch import Batcher, BatchPolicy
from streamfaas.flow.errors import CorruptBatch
from streamfaas.flow.record import Instant, Lane, run_of
from streamfaas.sources.kafka.records import decode, look, scan

LANE = Lane("orders/main", "orders-0")
CODECS = (NONE, GZIP, SNAPPY, LZ4, ZSTD)
BIG = 1 << 40


def written(count: int, offset: int = 0, value: bytes = b"v") -> list[Written]:
    return [Written(offset + i, 1000 + i, 0, b"k%d" % i, value) for i in range(count)]


def as_written(record) -> Written:
    return Written(
        record.position,
        record.timestamp_ms,
        record.timestamp_type,
        record.key,
        record.value,
        record.headers,
    )


def with_values(records):
    """A header without a value reads as one of no bytes."""
    return [
        Written(
            r.offset,
            r.timestamp,
            r.timestamp_type,
            r.key,
            r.value,
            tuple((name, value or b"") for name, value in r.headers),
        )
        for r in records
    ]


# -- what holds for every log


@pytest.mark.slow
@given(logs(codecs=CODECS), st.data())
def test_any_cut_gives_the_records_of_its_positions(log, data):
    reply, start, records, end = log
    found = scan(reply, start, LANE.name)
    assert (found.next_position, found.damage, found.needed_bytes) == (end, "", 0)
    first = data.draw(st.integers(start, end - 1))
    last = data.draw(st.integers(first, end - 1))
    wanted = [r for r in records if first <= r.offset <= last]
    extent = found.batches.extent(first, last)
    assert extent.count == len(wanted)
    assert [as_written(r) for r in look(LANE, found.batches, first, last)] == with_values(wanted)
    if wanted:
        times = [r.timestamp for r in records]
        assert min(times) / 1000 <= extent.oldest <= extent.newest <= max(times) / 1000


@pytest.mark.slow
@given(logs(codecs=(NONE, LZ4)), st.data())
def test_what_is_cut_adds_up_to_the_whole(log, data):
    reply, start, _, end = log
    batches = scan(reply, start, LANE.name).batches
    cuts = data.draw(st.lists(st.integers(start, end), max_size=5))
    edges = sorted({start, end, *cuts})
    parts = [batches.extent(a, b - 1) for a, b in pairwise(edges)]
    whole = batches.extent(start, end - 1)
    assert sum(part.count for part in parts) == whole.count
    assert sum(part.size_bytes for part in parts) == whole.size_bytes
    assert sum(part.event_bytes for part in parts) == whole.event_bytes


@pytest.mark.slow
@given(logs(codecs=(NONE, SNAPPY)), st.integers(1, 9), st.integers(1, 4000), st.data())
def test_fit_takes_as_much_as_the_limits_allow_and_never_nothing(log, records_max, room, data):
    reply, start, records, end = log
    batches = scan(reply, start, LANE.name).batches
    first = data.draw(st.integers(start, end - 1))
    last = data.draw(st.integers(first, end - 1))
    inside = [r.offset for r in records if first <= r.offset <= last]
    at = batches.fit(first, last, records_max, room)
    assert first < at <= last + 1
    head = batches.extent(first, at - 1)
    assert head.count <= records_max
    assert head.event_bytes <= room or head.count == 1
    if at <= last:  # a further record would be too much
        assert at in inside
        more = batches.extent(first, at)
        assert more.count == head.count + 1
        assert more.count > records_max or more.event_bytes > room


@pytest.mark.slow
@given(logs(codecs=CODECS), st.data())
def test_the_raw_bytes_of_a_cut_are_whole_batches_that_hold_its_records(log, data):
    reply, start, records, end = log
    batches = scan(reply, start, LANE.name).batches
    first = data.draw(st.integers(start, end - 1))
    last = data.draw(st.integers(first, end - 1))
    joined = b"".join(batches.raw(first, last))
    wanted = [r for r in records if first <= r.offset <= last]
    again = scan(joined, first, LANE.name)
    assert [as_written(r) for r in look(LANE, again.batches, first, last)] == with_values(wanted)
    held = [batch.nbytes for _, batch in batches.batches(first, last)]
    assert sum(held) == len(joined)
    if not wanted:
        assert joined == b""


@pytest.mark.slow
@given(logs(codecs=(NONE,)), st.data())
def test_a_reply_cut_off_anywhere_is_continued_without_loss(log, data):
    reply, start, records, end = log
    position, seen = start, []
    rest = reply
    while rest:
        found = scan(rest[: data.draw(st.integers(0, len(rest)))], position, LANE.name)
        assert not found.damage
        if found.next_position == position:  # nothing whole: more must be asked for
            found = scan(rest, position, LANE.name)
        seen += [r.position for r in look(LANE, found.batches, position, found.next_position - 1)]
        position = found.next_position
        rest = b"".join(scan(reply, start, LANE.name).batches.raw(position, end)) or b""
    assert seen == [r.offset for r in records]


@pytest.mark.slow
@given(logs(codecs=(NONE,)), st.integers(1, 5), st.integers(500, 5000))
def test_a_batcher_over_raw_batches_gives_every_record_once(log, records_max, room):
    reply, start, records, end = log
    found = scan(reply, start, LANE.name)
    run = run_of(LANE, start, end - 1, found.batches)
    batcher = Batcher(BatchPolicy(records_max=records_max, event_bytes_max=room))
    batcher.offer(run, Instant(0))
    seen, position = [], start
    while (made := batcher.take(Instant(0))) is not None:
        assert made.first == position
        assert made.count <= records_max
        position = made.last + 1
        seen += [r.position for part in made.runs for r in look_at(part)]
    assert position == end
    assert seen == [r.offset for r in records]


def look_at(run):
    return look(run.lane, run.payload, run.first, run.last)


@given(st.lists(st.sampled_from("ACNac"), min_size=1, max_size=12))
def test_only_committed_transactions_are_read_where_that_is_asked_for(plan):
    """A, a: two producers write in a transaction that is aborted; C, c: committed; N: neither."""
    data, wanted, everything, aborted = b"", [], [], []
    offset = 0
    for step in plan:
        record = Written(offset, 1, 0, None, step.encode())
        if step == "N":
            data += batch([record])
            offset += 1
        else:
            producer = 7 if step.isupper() else 9
            data += batch([record], attributes=TRANSACTIONAL, producer=producer)
            abort = step.upper() == "A"
            if abort:
                aborted.append((producer, offset))
            data += marker(offset + 1, producer, abort=abort)
            offset += 2
        everything.append(record.offset)
        if step.upper() != "A":
            wanted.append(record.offset)
    read = scan(data, 0, LANE.name, aborted)
    assert read.next_position == offset
    assert [r.position for r in look(LANE, read.batches, 0, offset)] == wanted
    assert read.batches.extent(0, offset).count == len(wanted)
    plain = scan(data, 0, LANE.name)
    assert [r.position for r in look(LANE, plain.batches, 0, offset)] == everything


def test_interleaved_transactions_are_told_apart_by_their_producer():
    data = batch(written(1, 0), attributes=TRANSACTIONAL, producer=1)
    data += batch(written(1, 1), attributes=TRANSACTIONAL, producer=2)
    data += marker(2, 2, abort=False) + marker(3, 1, abort=True)
    data += batch(written(1, 4), attributes=TRANSACTIONAL, producer=1) + marker(5, 1, abort=False)
    found = scan(data, 0, LANE.name, [(1, 0)])
    assert [r.position for r in look(LANE, found.batches, 0, 5)] == [1, 4]


def test_an_aborted_batch_at_the_end_still_moves_the_position():
    data = batch(written(3, 5), attributes=TRANSACTIONAL, producer=1) + marker(8, 1, abort=True)
    found = scan(data, 5, LANE.name, [(1, 5)])
    assert found.next_position == 9
    run = run_of(LANE, 5, found.next_position - 1, found.batches)
    assert (run.count, run.size_bytes, run.event_bytes) == (0, 0, 0)
    assert found.batches.raw(5, 8) == []


# -- the cost


def test_a_dense_batch_is_cut_without_being_decoded():
    data = bytearray(batch(written(100)))
    data[70:90] = b"\xff" * 20  # unreadable; only a header is looked at
    batches = scan(bytes(data), 0, LANE.name).batches
    assert batches.extent(30, 59).count == 30
    assert batches.fit(10, 99, 25, BIG) == 35


def test_a_damaged_batch_with_holes_is_still_measured_and_cut():
    records = [Written(offset, 1, 0, None, b"x" * 9) for offset in (0, 3, 6, 9)]
    data = bytearray(batch(records))
    data[-3] ^= 0xFF
    batches = scan(bytes(data), 0, LANE.name).batches
    assert batches.extent(0, 9).count == 4
    at = batches.fit(0, 9, 2, BIG)
    assert batches.extent(0, at - 1).count + batches.extent(at, 9).count == 4
    with pytest.raises(CorruptBatch):
        list(look(LANE, batches, 0, 9))


def test_compressed_batches_count_for_more_than_their_bytes():
    plain = scan(batch(written(50, value=b"a" * 200)), 0, LANE.name).batches.extent(0, 49)
    packed = scan(batch(written(50, value=b"a" * 200), codec=LZ4), 0, LANE.name).batches
    assert packed.extent(0, 49).size_bytes < plain.size_bytes / 5
    assert packed.extent(0, 49).event_bytes > 50 * 160


def test_the_estimate_is_no_smaller_than_the_event_of_uncompressed_records():
    records = written(20, value=b"x" * 331)
    extent = scan(batch(records), 0, LANE.name).batches.extent(0, 19)
    from streamfaas.wire.kafka_event import kafka_event

    looked = look(LANE, scan(batch(records), 0, LANE.name).batches, 0, 19)
    exact = len(kafka_event("orders", 0, "", looked))
    assert exact <= extent.event_bytes <= 1.3 * exact


# -- damage


def test_a_flipped_bit_is_found_by_the_checksum():
    data = bytearray(batch(written(3)))
    data[-1] ^= 1
    with pytest.raises(CorruptBatch, match="checksum is wrong at position 0"):
        list(decode(memoryview(bytes(data))))


@pytest.mark.parametrize("codec", [GZIP, SNAPPY, LZ4, ZSTD])
@given(noise=st.binary(min_size=1, max_size=60))
def test_what_no_codec_can_read_is_a_corrupt_batch(codec, noise):
    whole = bytearray(batch(written(1)))
    struct.pack_into(">h", whole, 21, codec)
    data = whole[:61] + noise
    struct.pack_into(">i", data, 8, len(data) - 12)
    with pytest.raises(CorruptBatch):
        assert list(decode(memoryview(sealed(data)))) is None


@given(st.binary(max_size=200), st.integers(0, 10))
def test_no_bytes_whatever_break_the_scan(data, position):
    found = scan(data, position, LANE.name, [(1, 2)])
    assert found.next_position >= position
    if found.next_position == position and data:
        assert found.damage or found.needed_bytes > len(data) or found.needed_bytes > 0


@pytest.mark.slow
@given(logs(codecs=(NONE, ZSTD)), st.data())
def test_a_damaged_header_loses_nothing_before_it(log, data):
    reply, start, records, end = log
    batches = list(scan(reply, start, LANE.name).batches.batches(start, end))
    chosen = data.draw(st.integers(0, len(batches) - 1))
    at = sum(raw.nbytes for _, raw in batches[:chosen])
    spoilt = bytearray(reply)
    spoilt[at + 16] = 9  # the magic
    found = scan(bytes(spoilt), start, LANE.name)
    before = [r.offset for r in records if r.offset < batches[chosen][0]]
    seen = look(LANE, found.batches, start, end)
    assert [r.position for r in seen] == before
    if chosen == 0:
        assert "makes no sense" in found.damage
    else:
        again = scan(bytes(spoilt[at:]), found.next_position, LANE.name)
        assert "makes no sense" in again.damage
        assert again.next_position == found.next_position


@pytest.mark.parametrize(
    ("place", "form", "value"),
    [(8, ">i", -1), (8, ">i", 3), (23, ">i", -5), (57, ">i", -1), (57, ">i", 4), (0, ">q", -9)],
)
def test_headers_that_contradict_themselves_are_damage(place, form, value):
    data = bytearray(batch(written(3)))
    struct.pack_into(form, data, place, value)
    found = scan(bytes(data), 0, LANE.name)
    assert found.damage
    assert found.next_position == 0


def test_a_batch_larger_than_the_reply_says_how_much_it_needs():
    data = batch(written(3, value=b"x" * 900))
    found = scan(data[:500], 0, LANE.name)
    assert (found.next_position, found.needed_bytes, found.damage) == (0, len(data), "")
    assert scan(data[:5], 0, LANE.name).needed_bytes == 6


def test_batches_that_go_back_are_damage():
    data = batch(written(3, 10)) + batch(written(3, 5))
    first = scan(data, 10, LANE.name)
    assert (first.next_position, first.damage) == (13, "")
    assert "before position 20" in scan(batch(written(3, 5)), 20, LANE.name).damage


# -- old messages


@pytest.mark.parametrize("magic", [0, 1])
@pytest.mark.parametrize("codec", [NONE, GZIP, SNAPPY])
def test_old_messages_are_counted_cut_and_read(magic, codec):
    records = written(5, 40)
    data = legacy(records, magic, codec)
    found = scan(data, 42, LANE.name)
    assert found.next_position == 45
    assert found.batches.extent(42, 44).count == 3
    assert found.batches.fit(42, 44, 2, BIG) == 44
    seen = list(look(LANE, found.batches, 42, 44))
    assert [(r.position, r.key, r.value) for r in seen] == [
        (r.offset, r.key, r.value) for r in records[2:]
    ]
    assert [r.timestamp_ms for r in seen] == (
        [-1] * 3 if magic == 0 else [r.timestamp for r in records[2:]]
    )


def test_a_damaged_old_message_set_is_damage_and_not_a_crash():
    data = bytearray(legacy(written(5), 1, GZIP))
    data[-9] ^= 0xFF
    assert scan(bytes(data), 0, LANE.name).damage


# -- cases from outside


def cases(kind):
    lines = (vectors("kafka") / "kafka_records.jsonl").read_text().splitlines()
    found = [case for case in map(json.loads, lines) if case["kind"] == kind]
    assert found
    return found


def test_bytes_of_real_brokers_are_read():
    for case in cases("records"):
        data = base64.b64decode(case["data_base64"])
        found = scan(data, 0, LANE.name)
        batches = list(found.batches.batches(0, BIG))
        expected = case["batches"]
        assert [base for base, _ in batches] == [one["base_offset"] for one in expected]
        assert [raw.tobytes() for _, raw in batches] == [
            base64.b64decode(one["data_base64"]) for one in expected
        ]
        values = [[record.value.decode() for record in decode(raw)] for _, raw in batches]
        assert values == [one["values"] for one in expected]
        if expected:
            first, told = next(look(LANE, found.batches, 0, BIG)), case["first_record"]
            assert (first.value, first.key) == (told["value"].encode(), told["key"])
            assert first.timestamp_ms == (-1 if told["timestamp"] is None else told["timestamp"])


def test_corrupt_bytes_from_outside_are_never_taken_for_records():
    for case in cases("corrupt"):
        found = scan(base64.b64decode(case["data_base64"]), 0, LANE.name)
        assert found.next_position == 0
        assert found.damage or found.needed_bytes


def test_only_an_abort_marker_ends_an_aborted_transaction():
    for case in cases("control-record-key"):
        key = base64.b64decode(case["data_base64"])
        end = [Written(1, 0, 0, key, b"")]
        data = batch(written(1, 0), attributes=TRANSACTIONAL, producer=4)
        data += batch(end, attributes=CONTROL | TRANSACTIONAL, producer=4)
        data += batch(written(1, 2), attributes=TRANSACTIONAL, producer=4)
        found = scan(data, 0, LANE.name, [(4, 0)])
        seen = [r.position for r in look(LANE, found.batches, 0, 2)]
        assert seen == ([2] if case["meaning"] == "abort" else [])
