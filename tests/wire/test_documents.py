from __future__ import annotations

import re
from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamfaas.docs import topics
from streamfaas.flow.batch import Batch
from streamfaas.flow.letters import HOPS_HEADER, Attribute
from streamfaas.flow.outcome import Failure, Fault, Success
from streamfaas.flow.record import Lane, Record, run_of_records
from streamfaas.flow.verdict import Condition
from streamfaas.wire.documents import (
    SUCCESS,
    ZERO_CONCURRENCY,
    AsyncEnding,
    StreamEnding,
    async_letters,
    dead_letter,
    failure_letters,
    success_letters,
)
from streamfaas.wire.dynamodb_event import dynamodb_batch_info, dynamodb_event
from streamfaas.wire.dynamodb_event import record_of as change_of
from streamfaas.wire.kafka_event import kafka_batch_info, kafka_event
from streamfaas.wire.kinesis_event import record_of
from streamfaas.wire.s3_event import s3_event
from streamfaas.wire.shards import Origin
from streamfaas.wire.sqs_event import Origin as QueueOrigin
from streamfaas.wire.sqs_event import record_of as queue_record_of
from streamfaas.wire.sqs_event import sqs_batch_info, sqs_event

QUEUE = QueueOrigin("arn:aws:sqs:eu-central-1:000000000000:orders", "eu-central-1")

LANE = Lane("shop/orders", "orders-3")
SERVERS = "b1:9092,b2:9092"
ARN = "arn:aws:lambda:us-east-1:000000000000:function:shop"
AT = 1573670286.021
BAD = Failure(Fault.FUNCTION, "KeyError", "'total'", ("line 1", "line 2"))


def record(position, key=b"k", headers=()):
    value = b"value %d" % position
    return Record(LANE, position, value, key, 1573670284835 + position, 0, headers)


def ended(*records, **changes):
    batch = Batch((run_of_records(records),))
    return replace(
        StreamEnding(
            batch=batch,
            condition="RetryAttemptsExhausted",
            invokes=2,
            outcome=BAD,
            request_id="316aa6d0-8154-4b64-9af7-85d5f4a6bc81",
            function_arn=ARN,
            batch_info=kafka_batch_info(batch, SERVERS, records),
            payload=kafka_event("orders", 3, SERVERS, records),
            at=AT,
            records=records,
        ),
        **changes,
    )


def called(**changes):
    return replace(
        AsyncEnding(
            condition="RetriesExhausted",
            invokes=3,
            outcome=BAD,
            request_id="e4b46cbf-b738-4b64-8880-a18cdf61200e",
            function_arn=ARN,
            event=b'{"n": 1}',
            at=AT,
        ),
        **changes,
    )


def documents(letters):
    return [orjson.loads(letter.document) for letter in letters]


def only(letters):
    (document,) = documents(letters)
    return document


def shown():
    """The documents in the manual."""
    blocks = re.findall(r"(?:^    .*\n)+", topics()["documents"] + "\n", re.MULTILINE)
    return [orjson.loads(block) for block in blocks if block.startswith("    {")]


def test_the_manual_shows_documents_as_they_are():
    failure, success = shown()
    assert only(failure_letters(ended(record(5)))) == failure
    happy = called(condition="Success", outcome=Success(b'{"ok": true}'), invokes=1)
    assert only(async_letters(happy)) == success


def test_the_manual_names_every_condition():
    words = [word for name, word in vars(Condition).items() if name.isupper()]
    assert len(words) >= 7
    for word in (*words, SUCCESS, ZERO_CONCURRENCY):
        assert f"`{word}`" in topics()["documents"]


# -- what holds of all letters

POSITIONS = st.lists(st.integers(0, 500), min_size=1, max_size=8, unique=True).map(sorted)
KEYS = st.none() | st.binary(max_size=3)
OUTCOMES = st.none() | st.just(BAD) | st.binary(max_size=9).map(Success)
CONDITIONS = st.sampled_from(
    ["RetryAttemptsExhausted", "RecordAgeExceeded", "MaximumPayloadSizeExceeded", "Skipped"]
)
PAYLOADS = st.sampled_from(["json", "text", "none"])


@given(POSITIONS, KEYS, OUTCOMES, CONDITIONS, st.booleans(), PAYLOADS)
def test_letters_are_json_on_one_line_and_tell_of_each_record_once(
    positions, key, outcome, condition, per_record, payload
):
    records = [record(n, key) for n in positions]
    ending = ended(*records, outcome=outcome, condition=condition)
    letters = failure_letters(ending, per_record=per_record, payload=payload)
    found = documents(letters)
    assert len(letters) == (len(records) if per_record else 1)
    assert all(b"\n" not in letter.document for letter in letters)
    assert [letter.id for letter in letters] == [each["streamfaas"]["id"] for each in found]
    ranges = [(each["streamfaas"]["first"], each["streamfaas"]["last"]) for each in found]
    assert ranges[0][0] == positions[0]
    assert ranges[-1][1] == positions[-1]
    if per_record:
        assert ranges == [(n, n) for n in positions]
        assert [letter.key for letter in letters] == [key] * len(records)
    assert all(("payload" in each) == (payload != "none") for each in found)
    if payload != "none":
        shown = [each["payload"] for each in found]
        events = [orjson.loads(text) for text in shown] if payload == "text" else shown
        told = [r["offset"] for each in events for r in each["records"]["orders-3"]]
        assert told == positions


@given(POSITIONS, st.integers(0, 7), st.sampled_from([failure_letters, success_letters]))
def test_a_record_alone_has_the_same_id_whichever_batch_it_was_in(positions, extra, make):
    outcome = Success(b"1") if make is success_letters else BAD
    whole = ended(*map(record, positions), outcome=outcome)
    more = ended(*map(record, sorted({*positions, extra})), outcome=outcome, at=AT + 9, invokes=9)
    ids = {letter.id for letter in make(whole, per_record=True)}
    assert len(ids) == len(positions)
    assert ids <= {letter.id for letter in make(more, per_record=True)}


def test_ids_tell_endings_apart_and_not_the_times_they_are_sent():
    first = ended(record(1), record(2))
    failures = [first, replace(first, replays=1), replace(first, replays=2)]
    ids = [failure_letters(each)[0].id for each in failures]
    ids.append(success_letters(replace(first, outcome=Success(b"1")))[0].id)
    assert len(set(ids)) == 4
    again = replace(first, at=AT + 100, request_id="another", invokes=9)
    assert failure_letters(again)[0].id == ids[0]
    calls = [called(), called(condition="Success", outcome=Success(b"1")), called(request_id="r")]
    assert len({async_letters(each)[0].id for each in calls}) == 3


@given(st.lists(st.sampled_from([b"", b"3", b"15", b"x", b"-1", b"99999"]), max_size=4))
def test_hops_are_counted_from_what_the_records_tell(told):
    records = [
        record(n, headers=((HOPS_HEADER, value),) if value else ())
        for n, value in enumerate(told or [b""])
    ]
    known = {b"3": 3, b"15": 15}
    passed = [known.get(value, 0) for value in told or [b""]]
    (whole,) = failure_letters(ended(*records))
    assert whole.hops == max(passed) + 1
    alone = failure_letters(ended(*records), per_record=True)
    assert [letter.hops for letter in alone] == [hops + 1 for hops in passed]
    (farther,) = failure_letters(ended(*records, hops=15))
    assert farther.hops == 16
    assert orjson.loads(farther.document)["streamfaas"]["hops"] == 16


# -- failures of streams, in Lambda's form


def test_the_document_of_a_batch_is_lambdas_with_the_payload_and_the_error_beside_it():
    ending = ended(record(5), record(6))
    document = only(failure_letters(ending))
    assert document.pop("payload") == orjson.loads(ending.payload)
    assert document.pop("responsePayload") == {
        "errorMessage": "'total'",
        "errorType": "KeyError",
        "requestId": ending.request_id,
        "stackTrace": ["line 1", "line 2"],
    }
    ours = document.pop("streamfaas")
    assert ours.pop("id") == failure_letters(ending)[0].id
    assert ours == {
        "mapping": "shop/orders", "lane": "orders-3", "first": 5, "last": 6, "hops": 1,
        "replays": 0,
    }  # fmt: skip
    assert document == {
        "requestContext": {
            "requestId": "316aa6d0-8154-4b64-9af7-85d5f4a6bc81",
            "functionArn": ARN,
            "condition": "RetryAttemptsExhausted",
            "approximateInvokeCount": 2,
        },
        "responseContext": {
            "statusCode": 200,
            "executedVersion": "$LATEST",
            "functionError": "Unhandled",
        },
        "version": "1.0",
        "timestamp": "2019-11-13T18:38:06.021Z",
        "KafkaBatchInfo": {
            "batchSize": 2,
            "bootstrapServers": SERVERS,
            "payloadSize": 2 * (7 + 1),
            "recordsInfo": {
                "orders-3": {
                    "firstRecordOffset": "5",
                    "lastRecordOffset": "6",
                    "firstRecordTimestamp": "2019-11-13T18:38:04.840Z",
                    "lastRecordTimestamp": "2019-11-13T18:38:04.841Z",
                }
            },
        },
    }


def test_the_document_of_a_record_is_as_lambda_writes_it_into_a_topic():
    first, second = documents(failure_letters(ended(record(5), record(6)), per_record=True))
    assert first["KafkaBatchInfo"] == {
        "batchSize": 1,
        "bootstrapServers": SERVERS,
        "payloadSize": 7 + 1,
        "recordInfo": {"offset": "5", "timestamp": "2019-11-13T18:38:04.840Z"},
    }
    assert second["payload"] == orjson.loads(kafka_event("orders", 3, SERVERS, [record(6)]))


def test_a_bad_report_of_failed_records_is_told_by_a_function_error_that_is_null():
    """Also where the answer itself is at hand."""
    for outcome in (BAD, Success(b'{"batchItemFailures":[{"itemIdentifier":5}]}')):
        ending = ended(record(5), outcome=outcome, function_error=None, invokes=4)
        document = only(failure_letters(ending))
        assert document["responseContext"] == {
            "statusCode": 200,
            "executedVersion": "$LATEST",
            "functionError": None,
        }
        assert document["requestContext"]["approximateInvokeCount"] == 4


@pytest.mark.parametrize("outcome", [None, BAD])
@pytest.mark.parametrize("condition", ["RecordAgeExceeded", "RecursiveInvocation"])
def test_what_was_too_old_or_went_too_far_has_no_response_context(condition, outcome):
    document = only(failure_letters(ended(record(5), condition=condition, outcome=outcome)))
    assert "responseContext" not in document
    assert document["requestContext"]["condition"] == condition
    assert ("responsePayload" in document) is (outcome is not None)


def test_what_was_too_large_has_a_response_context_that_is_null():
    ending = ended(record(5), condition="MaximumPayloadSizeExceeded")
    assert only(failure_letters(ending))["responseContext"] is None


def test_a_skipped_batch_tells_the_last_failure():
    document = only(failure_letters(ended(record(5), condition="Skipped")))
    assert document["responseContext"]["functionError"] == "Unhandled"
    assert document["responsePayload"]["errorType"] == "KeyError"


def test_a_batch_whose_bytes_are_damaged_is_told_as_one_by_its_positions():
    ending = ended(record(5), record(7), payload=None, records=())
    (letter,) = failure_letters(ending, per_record=True)
    document = orjson.loads(letter.document)
    assert document["payload"] is None
    assert document["streamfaas"]["last"] == 7
    assert letter.key is None


def test_without_the_payload_it_is_lambdas_metadata_alone():
    ending = ended(record(5), record(6))
    assert "payload" not in only(failure_letters(ending, payload="none"))
    ending = replace(ending, outcome=Success(b"1"))
    assert "requestPayload" not in only(success_letters(ending, payload="none"))
    assert "requestPayload" not in only(async_letters(called(), payload="none"))


def test_a_payload_that_is_a_text_is_the_event_to_the_byte():
    event = b'{"Records":[{"n":1.10,"big":123456789012345678901234567890}]}'
    ending = ended(record(5), payload=event)
    assert only(failure_letters(ending, payload="text"))["payload"] == event.decode()
    ending = ended(record(5), payload=None, records=())
    assert only(failure_letters(ending, payload="text"))["payload"] is None
    ending = replace(ended(record(5)), outcome=Success(b"1"))
    assert isinstance(only(success_letters(ending, payload="text"))["requestPayload"], dict)


def test_objects_of_a_bucket_are_told_one_by_one():
    records = [Record(LANE, n, b'{"s3":{"n":%d}}' % n) for n in (1, 2)]
    ending = ended(
        *records,
        batch_info={"S3BatchInfo": {"batchSize": 2, "bucketName": "b"}},
        payload=s3_event(each.value for each in records),
    )
    first, second = documents(failure_letters(ending, per_record=True))
    assert first["S3BatchInfo"] == {"batchSize": 1, "bucketName": "b"}
    assert second["payload"] == {"Records": [{"s3": {"n": 2}}]}


def test_records_of_a_stream_are_told_one_by_one_each_with_its_number():
    told = [
        {
            "SequenceNumber": f"{n}",
            "PartitionKey": "key",
            "Data": "",
            "ApproximateArrivalTimestamp": 1.0,
        }
        for n in (41, 42)
    ]
    records = [record_of(LANE, n, each) for n, each in enumerate(told)]
    ending = ended(
        *records,
        batch_info={"KinesisBatchInfo": {"startSequenceNumber": "41", "endSequenceNumber": "42"}},
        payload=b'{"Records":[{"kinesis":{}},{"kinesis":{}}]}',
    )
    infos = [
        each["KinesisBatchInfo"] for each in documents(failure_letters(ending, per_record=True))
    ]
    assert [each["startSequenceNumber"] for each in infos] == ["41", "42"]
    assert [each["endSequenceNumber"] for each in infos] == ["41", "42"]


def test_changes_of_a_table_are_told_one_by_one_each_with_its_number():
    origin = Origin("arn:aws:dynamodb:eu-central-1:0:table/t/stream/s", "eu-central-1", "")
    told = [
        {
            "eventID": f"{n}",
            "dynamodb": {
                "Keys": {"id": {"N": "1"}},
                "SequenceNumber": f"{n}",
                "ApproximateCreationDateTime": n,
            },
        }
        for n in (41, 42)
    ]
    records = [change_of(LANE, n, each) for n, each in enumerate(told)]
    ending = ended(*records, payload=dynamodb_event(origin, told))
    info = dynamodb_batch_info(ending.batch, origin, told)
    ending = replace(ending, batch_info=info)
    alone = documents(failure_letters(ending, per_record=True))
    assert [each["DDBStreamBatchInfo"] for each in alone] == [
        dynamodb_batch_info(ending.batch, origin, [each])["DDBStreamBatchInfo"] for each in told
    ]


def test_messages_of_a_queue_are_told_one_by_one_each_with_its_id():
    told = [
        {"MessageId": id_, "ReceiptHandle": "r", "Body": "", "Attributes": {"SentTimestamp": "1"}}
        for id_ in ("one", "two")
    ]
    records = [queue_record_of(QUEUE, LANE, n, each) for n, each in enumerate(told)]
    ending = ended(
        *records,
        batch_info=sqs_batch_info(QUEUE, records),
        payload=sqs_event(records),
    )
    first, second = documents(failure_letters(ending, per_record=True))
    assert first["SQSBatchInfo"]["messageIds"] == ["one"]
    assert second["SQSBatchInfo"]["messageIds"] == ["two"]
    assert second["SQSBatchInfo"]["batchSize"] == 1


def test_an_event_of_a_shape_that_nobody_knows_stays_whole():
    for payload in (b"[1,2]", b'{"detail":1}'):
        (letter,) = failure_letters(ended(record(1), record(2), payload=payload), per_record=True)
        assert orjson.loads(letter.document)["payload"] == orjson.loads(payload)


# -- successes of streams


def test_a_success_is_told_as_an_asynchronous_one_is_with_the_batch_in_it():
    ending = ended(record(5), condition="Success", outcome=Success(b'{"ok":\r\n true}'), invokes=1)
    (letter,) = success_letters(ending)
    document = orjson.loads(letter.document)
    assert letter.key == b"k"
    assert document.pop("streamfaas")["first"] == 5
    assert document.pop("KafkaBatchInfo") == ending.batch_info["KafkaBatchInfo"]
    assert document == {
        "version": "1.0",
        "timestamp": "2019-11-13T18:38:06.021Z",
        "requestContext": {
            "requestId": ending.request_id,
            "functionArn": ARN,
            "condition": "Success",
            "approximateInvokeCount": 1,
        },
        "requestPayload": orjson.loads(ending.payload),
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST"},
        "responsePayload": {"ok": True},
    }


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"", None),
        (b"null", None),
        (b'"a\\nb"', "a\nb"),
        (b" 12345678901234567890123 ", 12345678901234567890123),
        (b"no json\n", "no json\n"),
        (b"\xff", "\ufffd"),
        (b"[" * 2000 + b"]" * 2000, "[" * 2000 + "]" * 2000),
    ],
)
def test_an_answer_is_told_as_it_is_and_one_that_is_no_json_as_text(answer, told):
    import json

    ending = ended(record(5), condition="Success", outcome=Success(answer))
    (letter,) = success_letters(ending)
    assert json.loads(letter.document)["responsePayload"] == told


# -- asynchronous invocations


def test_an_asynchronous_failure_is_lambdas_record():
    assert only(async_letters(called())) == {
        "version": "1.0",
        "timestamp": "2019-11-13T18:38:06.021Z",
        "requestContext": {
            "requestId": "e4b46cbf-b738-4b64-8880-a18cdf61200e",
            "functionArn": f"{ARN}:$LATEST",
            "condition": "RetriesExhausted",
            "approximateInvokeCount": 3,
        },
        "requestPayload": {"n": 1},
        "responseContext": {
            "statusCode": 200,
            "executedVersion": "$LATEST",
            "functionError": "Unhandled",
        },
        "responsePayload": {
            "errorMessage": "'total'",
            "errorType": "KeyError",
            "requestId": "e4b46cbf-b738-4b64-8880-a18cdf61200e",
            "stackTrace": ["line 1", "line 2"],
        },
    }


def test_an_asynchronous_success_has_no_function_error():
    document = only(async_letters(called(condition="Success", outcome=Success(b"[1]"), invokes=1)))
    assert document["responseContext"] == {"statusCode": 200, "executedVersion": "$LATEST"}
    assert document["responsePayload"] == [1]


@pytest.mark.parametrize(
    ("condition", "invokes"), [("ZeroReservedConcurrency", 0), ("EventAgeExceeded", 1)]
)
def test_what_never_ran_has_no_response(condition, invokes):
    document = only(async_letters(called(condition=condition, outcome=None, invokes=invokes)))
    assert document["requestContext"]["approximateInvokeCount"] == invokes
    assert document.keys() == {"version", "timestamp", "requestContext", "requestPayload"}


def test_an_event_that_was_too_old_to_be_tried_again_tells_its_last_failure():
    document = only(async_letters(called(condition="EventAgeExceeded")))
    assert document["responseContext"]["functionError"] == "Unhandled"


def test_a_chain_goes_on_from_where_the_call_was():
    (letter,) = async_letters(called(hops=3))
    assert letter.hops == 4
    assert dead_letter(called(hops=3)).hops == 4


def test_a_dead_letter_is_the_event_alone_with_attributes_beside_it():
    letter = dead_letter(called(event=b'{"n":\n1}'))
    assert letter.document == b'{"n": 1}'
    assert letter.attributes == (
        Attribute("RequestID", "String", "e4b46cbf-b738-4b64-8880-a18cdf61200e"),
        Attribute("ErrorCode", "Number", "200"),
        Attribute("ErrorMessage", "String", "'total'"),
    )
    long = dead_letter(called(outcome=replace(BAD, message="é" * 600)))
    assert long.attributes[2].value == "é" * 512
    never = dead_letter(called(outcome=None, condition="ZeroReservedConcurrency"))
    assert never.attributes[2].value == "ZeroReservedConcurrency"
