"""What CloudWatch Logs put into a stream comes out as Powertools decodes it, within bounds."""

import base64
import gzip
import json

import pytest
from aws_lambda_powertools.utilities.data_classes import KinesisStreamEvent
from aws_lambda_powertools.utilities.data_classes.kinesis_stream_event import (
    extract_cloudwatch_logs_from_event,
)
from hypothesis import given
from hypothesis import strategies as st

from parts import vectors
from streamfaas.flow.batch import Batch
from streamfaas.flow.record import Lane, run_of, run_of_records
from streamfaas.sources.sharded.kinesis import Kinesis
from streamfaas.sources.sharded.pages import Page, looked, told
from streamfaas.wire import cloudwatch_logs
from streamfaas.wire.shards import Origin

DIALECT = Kinesis(logs=True)
ORIGIN = Origin("arn:aws:kinesis:eu-central-1:000000000000:stream/logs", "eu-central-1", "role")
LANE = Lane("shop/logs", "shardId-000000000000")


def record(data, number=0):
    return {
        "SequenceNumber": f"{10**55 + number}",
        "PartitionKey": "k",
        "Data": base64.b64encode(data).decode(),
        "ApproximateArrivalTimestamp": 1_795_640_098.5,
    }


def run_of_page(records):
    page = Page(0, records, DIALECT, DIALECT.overhead_bytes(ORIGIN))
    return run_of(LANE, 0, page.last, page)


def shown(records, *, looked_into=False):
    batch = Batch((run_of_page(records),))
    if looked_into:
        batch = Batch((run_of_records(looked(DIALECT, batch)),))
    event = json.loads(DIALECT.event(ORIGIN, LANE.name, told(DIALECT, batch)))
    return [base64.b64decode(each["kinesis"]["data"]) for each in event["Records"]]


def message(text="x", kind="DATA_MESSAGE"):
    return {
        "messageType": kind,
        "owner": "1",
        "logGroup": "g",
        "logStream": "s",
        "subscriptionFilters": ["f"],
        "logEvents": [{"id": "1", "timestamp": 1, "message": text}],
    }


@pytest.mark.parametrize("looked_into", [False, True])
def test_the_sample_comes_out_as_powertools_decodes_it(looked_into):
    (path,) = (vectors("event_shapes") / "samples").glob("*inesis*loud*atch*ogs*")
    sample = json.loads(path.read_text())
    judged = [
        each.raw_event for each in extract_cloudwatch_logs_from_event(KinesisStreamEvent(sample))
    ]
    records = [
        record(base64.b64decode(each["kinesis"]["data"]), number)
        for number, each in enumerate(sample["Records"])
    ]
    assert [json.loads(each) for each in shown(records, looked_into=looked_into)] == judged
    assert judged


@given(st.lists(st.text(max_size=200), min_size=1, max_size=5), st.booleans())
def test_messages_are_inflated_and_weighed_by_what_they_become(texts, looked_into):
    wanted = [json.dumps(message(text)).encode() for text in texts]
    records = [record(gzip.compress(each), number) for number, each in enumerate(wanted)]
    assert shown(records, looked_into=looked_into) == wanted
    run = run_of_page(records)
    event = DIALECT.event(ORIGIN, LANE.name, records)
    assert len(event) <= run.event_bytes + 20


@given(st.binary(max_size=60), st.integers(0, 200))
def test_what_is_no_message_comes_as_it_is(data, cut):
    whole = gzip.compress(json.dumps(message()).encode())
    damaged = whole[:cut] + bytes([whole[cut % len(whole)] ^ 0x41]) + whole[cut + 1 :]
    others = [data, b"\x1f\x8b\x08" + data, whole[: cut % len(whole)], whole + b"x",
              gzip.compress(data), gzip.compress(b'{"a": 1}'), gzip.compress(b"[]")]  # fmt: skip
    for each in others:
        assert shown([record(each)]) == [each]
    assert shown([record(damaged)])[0] in {damaged, json.dumps(message()).encode()}


def test_what_would_inflate_to_more_than_an_event_holds_comes_as_it_is():
    bomb = gzip.compress(json.dumps(message("x" * cloudwatch_logs.BYTES_MAX)).encode())
    assert len(bomb) < 20_000
    assert shown([record(bomb)]) == [bomb]


def test_a_filter_sees_what_was_inflated_and_control_messages_are_records_like_others():
    control = json.dumps(message("CWL CONTROL MESSAGE", "CONTROL_MESSAGE")).encode()
    (seen,) = looked(DIALECT, Batch((run_of_page([record(gzip.compress(control))]),)))
    _, data = DIALECT.face(seen)
    assert data == control
