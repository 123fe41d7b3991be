"""Aggregates are taken apart as the producer library's own readers do it."""

import base64
import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpl_made import aggregate
from parts import vectors
from streamfaas.wire.kpl import MAGIC, deaggregated


def cases():
    path = vectors("kpl") / "kpl.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("case", cases(), ids=lambda case: case["id"])
def test_a_case_from_outside(case):
    data = base64.b64decode(case["data_base64"])
    wanted = [
        (each["partitionKey"], each["explicitHashKey"], base64.b64decode(each["data_base64"]))
        for each in case["user_records"]
    ]
    found = deaggregated(data)
    if case.get("aggregated"):
        assert found is not None
        assert [tuple(each) for each in found] == wanted
    else:
        assert found is None
        assert [data] == [each[2] for each in wanted]


RECORDS = st.lists(
    st.tuples(st.text(max_size=9), st.none() | st.text("0123456789", min_size=1), st.binary()),
    min_size=1,
)


@given(RECORDS)
def test_what_was_put_together_comes_apart(records):
    found = deaggregated(aggregate(records))
    assert found is not None
    assert [tuple(each) for each in found] == records


@given(RECORDS, st.data())
def test_an_aggregate_with_one_wrong_byte_is_a_record_like_any_other(records, data):
    whole = bytearray(aggregate(records))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    assert deaggregated(bytes(whole)) is None


@given(st.binary())
def test_no_bytes_are_an_exception(message):
    deaggregated(MAGIC + message + hashlib.md5(message).digest())
    deaggregated(message)
