from __future__ import annotations

import functools
import json

import orjson
import pytest
from aws_lambda_powertools.utilities.parser.models import KafkaSelfManagedEventModel
from hypothesis import given
from hypothesis import strategies as st

from kafka_batches import GZIP, LZ4, NONE, SNAPPY, ZSTD, Written, batch, legacy, logs
from parts import vectors
from streamfaas.flow.batch import Batch
from streamfaas.flow.errors import CorruptBatch
from streamfaas.flow.event import Encoding
from streamfaas.flow.record import Lane, Record, run_of
from streamfaas.guest.python.kafka import EventBuilder
from streamfaas.guest.python.libraries import load_libraries
from streamfaas.runtimes.python import libraries
from streamfaas.sources.kafka import Kafka, KafkaOptions
from streamfaas.sources.kafka.records import scan
from streamfaas.wire.kafka_event import kafka_batch_info, kafka_event

LANE = Lane("orders/main", "orders-12")
SERVERS = ("k1:9092", "k2:9092")
CODECS = (NONE, GZIP, SNAPPY, LZ4, ZSTD)


def source() -> Kafka:
    options = KafkaOptions(SERVERS, "group", "latest", topics=("orders",))
    return Kafka("orders/main", options, clock=lambda: 0.0, emit=print)


def batch_of(reply, first, last):
    return Batch((run_of(LANE, first, last, scan(reply, first, LANE.name).batches),))


@functools.cache
def guest() -> EventBuilder:
    def measure(value):
        return len(orjson.dumps(value))

    return EventBuilder(load_libraries(libraries()), measure, 6 << 20)


@pytest.fixture(autouse=True, scope="module")
def guest_made():
    """The worker's libraries stay in the process: they are loaded before any test looks at it."""
    guest()


def built_by_a_worker(event):
    assert event.encoding is Encoding.KAFKA
    made, until = guest().build(memoryview(b"".join(event.parts)), json.loads(event.describe))
    assert until == -1
    return made


@pytest.mark.slow
@given(logs(codecs=CODECS), st.data())
def test_a_worker_makes_the_same_event_out_of_the_raw_batches(log, data):
    reply, start, records, end = log
    first = data.draw(st.integers(start, end - 1))
    last = data.draw(st.integers(first, end - 1))
    whole = batch_of(reply, start, end - 1)
    cut = whole.cut(first)[1] if first > start else whole
    cut = cut.cut(last + 1)[0] if last < end - 1 else cut
    if not any(first <= record.offset <= last for record in records):
        return  # such a batch is never sent
    from_worker = built_by_a_worker(source().shape(cut))
    # the bytes, so that the order of keys and every type are compared as well
    assert orjson.dumps(from_worker) == source().event(cut)


@pytest.mark.parametrize("magic", [0, 1])
@pytest.mark.parametrize("codec", [NONE, GZIP, SNAPPY])
def test_a_worker_makes_the_same_event_out_of_old_messages(magic, codec):
    written = [Written(n, 1000 + n, 0, b"k%d" % n, b"v" * n) for n in range(30, 36)]
    whole = batch_of(legacy(written, magic, codec), 30, 35)
    cut = whole.cut(32)[1].cut(35)[0]
    from_worker = built_by_a_worker(source().shape(cut))
    assert orjson.dumps(from_worker) == source().event(cut)
    assert [r["offset"] for r in from_worker["records"]["orders-12"]] == [32, 33, 34]


def test_pieces_of_one_reply_are_sent_once():
    reply = batch([Written(n, 1, 0, None, b"v") for n in range(10)])
    whole = batch_of(reply, 0, 9)
    head, tail = whole.runs[0].cut(4)
    event = source().shape(Batch((head, tail)))
    assert b"".join(event.parts) == reply
    assert orjson.dumps(built_by_a_worker(event)) == source().event(whole)


def test_the_event_is_the_one_that_is_documented():
    record = Record(LANE, 15, b"{}", b"key", 1545084650987, 0, (("h", b"v\xdc\x00\x7f\x80"),))
    bare = Record(LANE, 16, None, None, 7, 1)
    assert json.loads(kafka_event("orders", 12, "k1:9092,k2:9092", [record, bare])) == {
        "eventSource": "SelfManagedKafka",
        "bootstrapServers": "k1:9092,k2:9092",
        "records": {
            "orders-12": [
                {
                    "topic": "orders",
                    "partition": 12,
                    "offset": 15,
                    "timestamp": 1545084650987,
                    "timestampType": "CREATE_TIME",
                    "key": "a2V5",
                    "value": "e30=",
                    "headers": [{"h": [118, -36, 0, 127, -128]}],
                },
                {
                    "topic": "orders",
                    "partition": 12,
                    "offset": 16,
                    "timestamp": 7,
                    "timestampType": "LOG_APPEND_TIME",
                    "key": None,
                    "value": None,
                    "headers": [],
                },
            ]
        },
    }


def shape_of(value):
    """Keys in order, and types; lists by what their first element is."""
    match value:
        case dict():
            return [(key, shape_of(one)) for key, one in value.items()]
        case list():
            return [shape_of(value[0])] if value else []
        case _:
            return type(value).__name__


def test_the_event_has_the_keys_and_types_of_the_samples():
    for name in ("kafka-selfmanaged__pt__kafkaEventSelfManaged", "kafka__go__kafka-event"):
        sample = json.loads((vectors("event_shapes") / "samples" / f"{name}.json").read_text())
        sample.pop("eventSourceArn", None)  # of a managed cluster
        ((lane, (told,)),) = sample["records"].items()
        (header,) = told["headers"]
        ((header_name, numbers),) = header.items()
        record = Record(
            Lane("x", lane),
            told["offset"],
            b"value",
            b"key",
            told["timestamp"],
            0,
            ((header_name, bytes(n % 256 for n in numbers)),),
        )
        made = json.loads(
            kafka_event(told["topic"], told["partition"], sample["bootstrapServers"], [record])
        )
        assert shape_of(made) == shape_of(sample)
        mine = made["records"][lane][0]
        assert mine["headers"] == told["headers"]
        assert mine.keys() == told.keys()


TEXTS = st.text(max_size=20).map(str.encode)  # the parser wants text where Kafka has bytes


@pytest.mark.slow
@given(
    st.lists(
        st.builds(
            Record,
            st.just(LANE),
            st.integers(0, 1 << 60),
            TEXTS,
            st.none() | TEXTS,
            st.integers(0, 1 << 41),
            st.sampled_from((0, 1)),
            st.lists(st.tuples(st.text(max_size=5), st.binary(max_size=9)), max_size=3).map(tuple),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_powertools_reads_the_event_back(records):
    made = kafka_event("orders", 12, ",".join(SERVERS), records)
    read = KafkaSelfManagedEventModel.model_validate_json(made)
    assert read.bootstrapServers == list(SERVERS)
    found = read.records["orders-12"]
    assert [one.offset for one in found] == [record.position for record in records]
    assert [one.key for one in found] == [record.key for record in records]
    assert [one.value for one in found] == [record.value.decode() for record in records]
    assert [one.headers for one in found] == [
        [{name: value} for name, value in record.headers] for record in records
    ]


def test_a_batch_that_was_given_up_is_accounted_for_exactly():
    written = [Written(n, 1_573_691_884_835 + n, 0, None, b"v") for n in (5, 9, 11)]
    reply = batch(written, 3, 14)
    whole = batch_of(reply, 3, 13)
    assert source().batch_info(whole) == {
        "KafkaBatchInfo": {
            "batchSize": 3,
            "bootstrapServers": "k1:9092,k2:9092",
            "payloadSize": len(reply),
            "recordsInfo": {
                "orders-12": {
                    "firstRecordOffset": "5",
                    "lastRecordOffset": "11",
                    "firstRecordTimestamp": "2019-11-14T00:38:04.840Z",
                    "lastRecordTimestamp": "2019-11-14T00:38:04.846Z",
                }
            },
        }
    }


def test_a_damaged_batch_is_accounted_for_by_its_header():
    reply = bytearray(batch([Written(n, 1000, 0, None, b"v") for n in range(3)]))
    reply[-1] ^= 1
    whole = batch_of(bytes(reply), 0, 2)
    with pytest.raises(CorruptBatch):
        source().event(whole)
    info = source().batch_info(whole)["KafkaBatchInfo"]["recordsInfo"]["orders-12"]
    assert (info["firstRecordOffset"], info["lastRecordOffset"]) == ("0", "2")
    assert info["firstRecordTimestamp"] == "1970-01-01T00:00:01.000Z"


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_any_timestamp_can_be_told(milliseconds):
    record = Record(LANE, 1, b"", None, milliseconds)
    whole = Batch((run_of(LANE, 1, 1, scan(batch([Written(1, 0, 0, None, b"")]), 1, "x").batches),))
    info = kafka_batch_info(whole, "", [record])["KafkaBatchInfo"]["recordsInfo"]["orders-12"]
    assert info["firstRecordTimestamp"] is None or info["firstRecordTimestamp"].endswith("Z")
