"""Replayed events can be told from first deliveries."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamfaas.wire.replay import context, marked

KAFKA = {
    "eventSource": "SelfManagedKafka",
    "records": {
        "orders-0": [{"offset": 7, "headers": [{"trace": [97]}]}, {"offset": 8, "headers": []}],
        "orders-1": [{"offset": 1}],
    },
}
S3 = {"Records": [{"eventName": "ObjectCreated:Put", "s3": {"object": {"key": "a"}}}]}


def again(event, replays):
    return orjson.loads(marked(orjson.dumps(event), replays))


def test_each_kafka_record_has_a_header_with_the_number_of_its_replays():
    event = again(KAFKA, 3)

    assert [record["headers"] for record in event["records"]["orders-0"]] == [
        [{"trace": [97]}, {"streamfaas-replays": [ord("3")]}],
        [{"streamfaas-replays": [ord("3")]}],
    ]
    assert event["records"]["orders-1"][0]["headers"] == [{"streamfaas-replays": [ord("3")]}]
    assert event["eventSource"] == "SelfManagedKafka"


@pytest.mark.parametrize("event", [KAFKA, S3])
def test_a_second_replay_takes_the_place_of_the_first(event):
    assert again(again(event, 1), 2) == again(event, 2)


def test_an_object_event_tells_it_among_its_response_elements():
    (record,) = again(S3, 1)["Records"]

    assert record["responseElements"] == {"streamfaas-replays": "1"}
    assert record["s3"] == S3["Records"][0]["s3"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 10) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["records", "Records", "s3", "headers", "a"]), inner)
    ),
)


@given(json_values)
def test_no_event_whatever_breaks_it_or_loses_a_key(event):
    found = again(event, 1)

    assert type(found) is type(event)
    if isinstance(event, dict):
        assert found.keys() == event.keys()


def test_the_client_context_tells_it_for_every_event():
    assert orjson.loads(context(2)) == {"custom": {"streamfaas-replays": "2"}}
