"""The event of Kinesis records is Lambda's, whoever looked into them before."""

import base64
import json

import pytest
from aws_lambda_powertools.utilities.parser.models import KinesisDataStreamModel
from hypothesis import given
from hypothesis import strategies as st

from parts import CHECKOUT, vectors
from streamfaas.flow.batch import Batch
from streamfaas.flow.record import Lane, run_of, run_of_records
from streamfaas.sources.sharded.kinesis import Kinesis
from streamfaas.sources.sharded.pages import Page, looked, told
from streamfaas.wire.kinesis_event import (
    kinesis_batch_info,
    kinesis_event,
    kinesis_face,
    kinesis_info_of_one,
)
from streamfaas.wire.shards import Origin

ORIGIN = Origin(
    "arn:aws:kinesis:eu-central-1:000000000000:stream/clicks",
    "eu-central-1",
    "arn:aws:iam::000000000000:role/streamfaas",
)
DIALECT = Kinesis()
LANE = Lane("shop/clicks", "shardId-000000000006")
GOLDEN = CHECKOUT / "tests" / "golden" / "kinesis.json"


def record(number, key="customer-1", data=b'{"id": 1}', arrival=1795640098.585):
    return {
        "SequenceNumber": f"{49680563103338208619439527198784736535280157645313409026 + number}",
        "PartitionKey": key,
        "Data": base64.b64encode(data).decode(),
        "ApproximateArrivalTimestamp": arrival,
    }


TOLD = st.lists(
    st.builds(
        record,
        st.integers(0, 1 << 60),
        st.text(min_size=1, max_size=256).filter(lambda key: key.isprintable()),
        st.binary(max_size=99),
        st.floats(1e9, 4e9).map(lambda seconds: round(seconds, 3)),
    ),
    min_size=1,
    max_size=20,
)


def page_of(records, first=0):
    page = Page(first, records, DIALECT, DIALECT.overhead_bytes(ORIGIN))
    return run_of(LANE, page.first, page.last, page)


def shape_of(value):
    match value:
        case dict():
            return {key: shape_of(each) for key, each in value.items()}
        case list():
            return [shape_of(value[0])] if value else []
        case _:
            return type(value).__name__


def test_the_event_is_the_golden_one():
    made = json.loads(kinesis_event(ORIGIN, LANE.name, [record(0), record(1, data=b"\xff\x00")]))
    assert made == json.loads(GOLDEN.read_text())


@pytest.mark.parametrize("name", ["kinesis__pt__kinesisStreamEvent", "kinesis__sam__Kinesis"])
def test_the_event_has_the_keys_and_types_of_the_samples(name):
    sample = json.loads((vectors("event_shapes") / "samples" / f"{name}.json").read_text())
    made = json.loads(kinesis_event(ORIGIN, LANE.name, [record(0)]))
    assert shape_of(made) == shape_of(sample)
    for key in ("eventSource", "eventVersion", "eventName"):
        assert made["Records"][0][key] == sample["Records"][0][key]


@given(TOLD)
def test_powertools_reads_the_event_back(records):
    made = json.loads(kinesis_event(ORIGIN, LANE.name, records))
    for mine, given_ in zip(
        KinesisDataStreamModel.model_validate(made).Records, records, strict=True
    ):
        assert mine.kinesis.data == base64.b64decode(given_["Data"])
        assert mine.kinesis.partitionKey == given_["PartitionKey"]
        assert mine.kinesis.sequenceNumber == given_["SequenceNumber"]


@given(TOLD, st.integers(0, 1 << 40))
def test_looking_into_records_changes_nothing_of_their_event(records, first):
    run = page_of(records, first)
    raw = Batch((run,))
    seen = looked(DIALECT, raw)
    again = Batch((run_of_records(seen),))
    assert told(DIALECT, again) == list(records)
    assert kinesis_event(ORIGIN, LANE.name, told(DIALECT, again)) == kinesis_event(
        ORIGIN, LANE.name, told(DIALECT, raw)
    )
    assert [each.position for each in seen] == list(range(first, first + len(records)))


@given(TOLD, st.data())
def test_a_page_is_cut_and_measured_as_its_parts_are(records, data):
    run = page_of(records, 7)
    if len(records) > 1:
        at = data.draw(st.integers(8, run.last))
        one, two = run.cut(at)
        assert (one.count + two.count, one.size_bytes + two.size_bytes) == (
            run.count,
            run.size_bytes,
        )
        assert told(DIALECT, Batch((one, two))) == list(records)
    most, room = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 30_000))
    stop = run.payload.fit(run.first, run.last, most, room)
    chosen = run.payload.extent(run.first, stop - 1)
    assert 1 <= chosen.count <= most
    assert chosen.count == 1 or chosen.event_bytes <= room


@given(TOLD)
def test_an_event_is_not_larger_than_it_was_taken_for(records):
    run = page_of([each for each in records if each["PartitionKey"].isascii()] or [record(0)])
    made = kinesis_event(ORIGIN, LANE.name, told(DIALECT, Batch((run,))))
    escapes = sum(made.count(each) for each in (b"\\\\", b'\\"'))
    assert len(made) <= run.event_bytes + escapes + 20


def test_a_lost_batch_is_told_of_as_lambda_does():
    batch = Batch((page_of([record(0), record(1, arrival=1795640099.0)]),))
    info = kinesis_batch_info(batch, ORIGIN, told(DIALECT, batch))
    assert info == {
        "KinesisBatchInfo": {
            "shardId": LANE.name,
            "startSequenceNumber": record(0)["SequenceNumber"],
            "endSequenceNumber": record(1)["SequenceNumber"],
            "approximateArrivalOfFirstRecord": "2026-11-25T20:54:58.585Z",
            "approximateArrivalOfLastRecord": "2026-11-25T20:54:59.000Z",
            "batchSize": 2,
            "streamArn": ORIGIN.arn,
        }
    }


def test_a_lost_record_is_told_of_alone_by_its_own_number():
    batch = Batch((page_of([record(0), record(1, arrival=1795640099.0)]),))
    of_both = kinesis_batch_info(batch, ORIGIN, told(DIALECT, batch))["KinesisBatchInfo"]
    assert kinesis_info_of_one(of_both, looked(DIALECT, batch)[1]) == {
        **of_both,
        "startSequenceNumber": record(1)["SequenceNumber"],
        "endSequenceNumber": record(1)["SequenceNumber"],
        "approximateArrivalOfFirstRecord": "2026-11-25T20:54:59.000Z",
        "approximateArrivalOfLastRecord": "2026-11-25T20:54:59.000Z",
        "batchSize": 1,
    }


def test_a_filter_sees_the_data_and_what_is_said_of_it():
    (seen,) = looked(DIALECT, Batch((page_of([record(3)]),)))
    metadata, data = kinesis_face(seen)
    assert data == b'{"id": 1}'
    assert metadata["partitionKey"] == "customer-1"
    assert metadata["sequenceNumber"] == record(3)["SequenceNumber"]
