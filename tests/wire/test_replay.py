"""Replayed events can be told from first deliveries."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamfaas.wire.replay import context, locates, marked, order_of, reports

KAFKA = {
    "eventSource": "SelfManagedKafka",
    "records": {
        "orders-0": [{"offset": 7, "headers": [{"trace": [97]}]}, {"offset": 8, "headers": []}],
        "orders-1": [{"offset": 1}],
    },
}
S3 = {"Records": [{"eventName": "ObjectCreated:Put", "s3": {"object": {"key": "a"}}}]}


def again(event, replays):
    return [orjson.loads(one) for one in marked(orjson.dumps(event), replays)]


def test_each_kafka_record_runs_alone_with_a_header_that_counts_its_replays():
    events = again(KAFKA, 3)

    mark = {"streamfaas-replays": [ord("3")]}
    assert [event["records"] for event in events] == [
        {"orders-0": [{"offset": 7, "headers": [{"trace": [97]}, mark]}]},
        {"orders-0": [{"offset": 8, "headers": [mark]}]},
        {"orders-1": [{"offset": 1, "headers": [mark]}]},
    ]
    assert {event["eventSource"] for event in events} == {"SelfManagedKafka"}


@pytest.mark.parametrize("event", [KAFKA, S3])
def test_a_second_replay_takes_the_place_of_the_first(event):
    once = again(event, 1)

    assert [two for one in once for two in again(one, 2)] == again(event, 2)


def test_an_object_event_tells_it_among_its_response_elements():
    ((record,),) = [event["Records"] for event in again(S3, 1)]

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

    assert found
    for one in found:
        assert type(one) is type(event)
        if isinstance(event, dict):
            assert one.keys() == event.keys()


def test_the_client_context_tells_it_for_every_event_and_how_its_answer_is_read():
    told = context(2, reports=False)
    assert orjson.loads(told) == {"custom": {"streamfaas-replays": "2"}}
    assert not reports(told)
    assert not reports(b"")
    assert reports(context(1, reports=True))


@pytest.mark.parametrize(
    ("identifier", "known"),
    [
        ({"partition": "orders-0", "offset": 7}, True),
        ({"partition": "orders-0", "offset": 8}, False),
        ({"partition": "orders-1", "offset": 7}, False),
        ({"partition": "orders-0", "offset": True}, False),
        ({"partition": "orders-0"}, False),
        ("7", False),
        (None, False),
    ],
)
def test_an_item_identifier_names_the_one_record_or_none(identifier, known):
    event = marked(orjson.dumps(KAFKA), 1)[0]

    assert locates(event, identifier) is known


@pytest.mark.parametrize(
    "record",
    [
        {"messageId": "7", "body": "8"},
        {"kinesis": {"sequenceNumber": "7", "data": "8"}},
        {"dynamodb": {"SequenceNumber": "7", "Keys": {}}},
    ],
)
def test_a_message_is_named_by_its_id_and_a_record_by_its_sequence_number(record):
    event = marked(orjson.dumps({"Records": [record]}), 1)[0]

    assert locates(event, "7")
    assert not locates(event, "8")
    assert not locates(event, None)


def test_messages_are_in_order_with_those_of_their_group_and_a_standard_queue_has_none():
    def order(record):
        return order_of(orjson.dumps({"Records": [record]}), "f/t topic-0")

    message = {"eventSource": "aws:sqs", "attributes": {"SentTimestamp": "1"}}
    assert order(message) == ""
    assert order({**message, "attributes": {"MessageGroupId": "a"}}) == "f/t topic-0 a"
    assert order({"eventSource": "aws:kinesis"}) == "f/t topic-0"
    assert order_of(orjson.dumps(KAFKA), "f/t topic-0") == "f/t topic-0"
