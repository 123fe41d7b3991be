from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_runs import LANE, logs, positions, record, run
from streamfaas.flow.record import (
    Lane,
    Record,
    Records,
    event_bytes,
    run_of,
    run_of_records,
)


@given(st.data())
def test_a_cut_loses_and_invents_nothing(data):
    (whole,) = data.draw(logs(runs_max=1).filter(lambda log: log[0].first < log[0].last))
    at = data.draw(st.integers(whole.first + 1, whole.last))

    head, tail = whole.cut(at)

    assert (head.first, head.last, tail.first, tail.last) == (whole.first, at - 1, at, whole.last)
    assert positions([head]) + positions([tail]) == positions([whole])
    assert head.count + tail.count == whole.count
    assert head.size_bytes + tail.size_bytes == whole.size_bytes
    assert head.event_bytes + tail.event_bytes == whole.event_bytes
    assert max(head.newest, tail.newest) == whole.newest
    assert {whole.oldest} <= {head.oldest, tail.oldest}
    assert head.lane == tail.lane == whole.lane


@given(st.data())
def test_an_extent_is_the_sum_of_its_records(data):
    (whole,) = data.draw(logs(runs_max=1))
    first = data.draw(st.integers(whole.first, whole.last))
    last = data.draw(st.integers(first, whole.last))
    inside = [r for r in whole.payload.records if first <= r.position <= last]
    times = [r.timestamp_ms / 1000 for r in inside if r.timestamp_ms >= 0]

    extent = whole.payload.extent(first, last)

    assert extent.count == len(inside)
    assert extent.size_bytes == sum(len(r.value) for r in inside)
    assert extent.event_bytes == sum(event_bytes(r) for r in inside)
    assert extent.oldest == (min(times) if times else 0)
    assert extent.newest == (max(times) if times else 0)


@given(st.data(), st.integers(1, 6), st.integers(1, 3_000))
def test_what_fits_is_as_much_as_possible_and_one_record_at_least(data, records_max, bytes_max):
    (whole,) = data.draw(logs(runs_max=1).filter(lambda log: log[0].count))

    at = whole.payload.fit(whole.first, whole.last, records_max, bytes_max)

    assert whole.first < at <= whole.last + 1
    fitting = [r for r in whole.payload.records if r.position < at]
    left = [r for r in whole.payload.records if r.position >= at]
    assert fitting
    if len(fitting) > 1:
        assert len(fitting) <= records_max
        assert sum(map(event_bytes, fitting)) <= bytes_max
    if left:
        assert left[0].position == at
        over = sum(map(event_bytes, [*fitting, left[0]])) > bytes_max
        assert len(fitting) == records_max or over
    else:
        assert at == whole.last + 1


@given(
    value=st.none() | st.binary(max_size=50),
    key=st.none() | st.binary(max_size=50),
    headers=st.lists(
        st.tuples(st.text(alphabet="abc-", max_size=6), st.binary(max_size=20)), max_size=3
    ),
    topic=st.text(alphabet="abc.-", min_size=1, max_size=20),
    partition=st.integers(0, 2**31 - 1),
    position=st.integers(0, 2**63 - 1),
    timestamp_ms=st.integers(-1, 2**42),
)
def test_the_estimate_of_an_event_is_never_too_small(
    value, key, headers, topic, partition, position, timestamp_ms
):
    def text(data: bytes | None) -> str | None:
        return None if data is None else base64.b64encode(data).decode()

    shown = {
        "topic": topic,
        "partition": partition,
        "offset": position,
        "timestamp": timestamp_ms,
        "timestampType": "LOG_APPEND_TIME",
        "key": text(key),
        "value": text(value),
        "headers": [
            {name: [byte - 256 if byte > 127 else byte for byte in data]} for name, data in headers
        ],
    }
    lane = Lane("orders/stream", f"{topic}-{partition}")
    looked_at = Record(lane, position, value, key, timestamp_ms, headers=tuple(headers))

    assert len(json.dumps(shown, separators=(",", ":"))) + 1 <= event_bytes(looked_at)


def test_a_run_of_records_begins_and_ends_with_them():
    made = run_of_records((record(4, timestamp_ms=2_000), record(9, timestamp_ms=1_000)), 3)

    assert (made.first, made.last, made.count, made.deliveries) == (4, 9, 2, 3)
    assert (made.oldest, made.newest) == (1.0, 2.0)
    assert made.size_bytes == 6


def test_the_size_of_a_record_counts_key_value_and_headers():
    looked_at = Record(LANE, 0, b"12345", b"123", headers=(("ab", b"1234"),))

    assert looked_at.size_bytes == 14
    assert Record(LANE, 0, None).size_bytes == 0


def test_a_part_keeps_how_often_it_was_delivered():
    head, tail = run(0, 5, deliveries=2).cut(3)

    assert (head.deliveries, tail.deliveries) == (2, 2)


def test_a_run_of_nothing_is_legal_and_measures_nothing():
    empty = run_of(LANE, 3, 7, Records(()))

    assert (empty.count, empty.size_bytes, empty.event_bytes) == (0, 0, 0)
    assert (empty.oldest, empty.newest) == (0.0, 0.0)


@pytest.mark.parametrize("at", [0, 6])
def test_a_cut_outside_of_the_run_is_refused(at):
    with pytest.raises(AssertionError):
        run(0, 5).cut(at)


@pytest.mark.parametrize(
    "records",
    [
        (),
        (record(1), record(1)),
        (record(2), record(1)),
        (record(1), Record(Lane("orders/stream", "orders-1"), 2, b"")),
    ],
)
def test_records_that_are_no_run_are_refused(records):
    with pytest.raises(AssertionError):
        run_of_records(records)
