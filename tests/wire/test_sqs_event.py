"""The event of SQS messages is Lambda's."""

import base64
import hashlib
import json

import pytest
from aws_lambda_powertools.utilities.parser.models import SqsModel
from hypothesis import given
from hypothesis import strategies as st

from parts import CHECKOUT, vectors
from streamfaas.flow.pattern import NonJson, compile_filter
from streamfaas.flow.record import Lane, event_bytes
from streamfaas.flow.trace import of_headers
from streamfaas.wire.sqs_event import (
    Origin,
    message_id,
    record_of,
    sqs_batch_info,
    sqs_event,
    sqs_face,
)

ORIGIN = Origin("arn:aws:sqs:us-east-2:123456789012:orders", "us-east-2")
LANE = Lane("shop/orders", "slot-0")
GOLDEN = CHECKOUT / "tests" / "golden" / "sqs.json"


def message(number=0, body="Test message.", own=None, **attributes):
    """As the service writes it."""
    told = {
        "MessageId": f"059f36b4-87a3-44ab-83d2-66197583{number:04d}",
        "ReceiptHandle": f"AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy{number}",
        "Body": body,
        "MD5OfBody": hashlib.md5(body.encode()).hexdigest(),
        "Attributes": {
            "ApproximateReceiveCount": "1",
            "SentTimestamp": str(1545082649183 + number),
            "SenderId": "AIDAIENQZJOLO23YVJ4VO",
            "ApproximateFirstReceiveTimestamp": "1545082649185",
            **attributes,
        },
    }
    if own:
        told |= {
            "MessageAttributes": own,
            "MD5OfMessageAttributes": "582c92c5c5b6ac403040a4f3ab3115c9",
        }
    return told


OWN = {
    "kind": {"StringValue": "a", "DataType": "String"},
    "count": {"StringValue": "100", "DataType": "Number"},
    "picture": {"BinaryValue": "/wA=", "DataType": "Binary.png"},
}
FIFO = {
    "SequenceNumber": "18849496460467696128",
    "MessageGroupId": "g1",
    "MessageDeduplicationId": "d1",
}


def event(*told, origin=ORIGIN):
    records = [record_of(origin, LANE, at, each) for at, each in enumerate(told)]
    return json.loads(sqs_event(records))


def shape_of(value):
    match value:
        case dict():
            return {key: shape_of(each) for key, each in value.items()}
        case list():
            return [shape_of(value[0])] if value else []
        case _:
            return type(value).__name__


def test_the_event_is_the_golden_one():
    header = "Root=1-5e1b4151-5ac6c58dc39a6b8a5f7c3b21"
    made = event(
        message(0), message(1, '{"id": 1}', OWN), message(2, "ü", **FIFO, AWSTraceHeader=header)
    )
    assert made == json.loads(GOLDEN.read_text())


@pytest.mark.parametrize("name", ["sqs__sam__Sqs", "sqs-dlq-trigger__pt__sqsDlqTriggerEvent"])
def test_the_event_has_the_keys_and_types_of_the_samples(name):
    sample = json.loads((vectors("event_shapes") / "samples" / f"{name}.json").read_text())
    extra = {"DeadLetterQueueSourceArn": "arn"} if "Dlq" in name else {}
    made = event(message(0, **extra))
    assert shape_of(made) == shape_of(sample)
    assert made["Records"][0]["eventSource"] == sample["Records"][0]["eventSource"]


def test_attributes_have_what_the_sample_of_lambdas_own_library_has():
    path = vectors("event_shapes") / "samples" / "sqs__go__sqs-event.json"
    sample = json.loads(path.read_text())["Records"][0]
    (made,) = event(message(0, own=OWN))["Records"]
    assert set(made) == set(sample)
    string, binary = (sample["messageAttributes"][f"Attribute{n}"] for n in (1, 3))
    assert set(made["messageAttributes"]["kind"]) == set(string)
    assert set(made["messageAttributes"]["picture"]) == set(binary)


def test_the_parser_of_powertools_takes_it():
    parsed = SqsModel.model_validate(event(message(0), message(1, own=OWN, **FIFO)))
    assert [each.body for each in parsed.Records] == ["Test message."] * 2


def test_without_attributes_their_digest_is_left_out_or_with_a_window_null():
    assert "md5OfMessageAttributes" not in event(message())["Records"][0]
    with_window = ORIGIN._replace(spelled_out=True)
    assert event(message(), origin=with_window)["Records"][0]["md5OfMessageAttributes"] is None


@given(st.text(max_size=200), st.dictionaries(st.text(min_size=1, max_size=9), st.text(max_size=9)))
def test_a_record_weighs_what_it_adds_to_the_event_and_says_who_it_is(body, own):
    attributes = {name: {"StringValue": text, "DataType": "String"} for name, text in own.items()}
    told = message(3, body, attributes)
    record = record_of(ORIGIN, LANE, 7, told)
    size = len(sqs_event([record])) - len('{"Records":[]}')
    assert size <= event_bytes(record) <= size + 20
    assert message_id(record).decode() == told["MessageId"]
    (made,) = json.loads(sqs_event([record]))["Records"]
    assert made["body"] == body
    assert {name: each["stringValue"] for name, each in made["messageAttributes"].items()} == own


def test_attributes_are_headers_whatever_their_type():
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    own = OWN | {"traceparent": {"StringValue": trace, "DataType": "String"}}
    record = record_of(ORIGIN, LANE, 7, message(own=own))
    headers = dict(record.headers)
    assert (headers["kind"], headers["count"]) == (b"a", b"100")
    assert headers["picture"] == base64.b64decode("/wA=")
    context = of_headers(record.headers)
    assert context is not None
    assert context.traceparent == trace


def test_a_filter_sees_the_message_as_its_event_has_it():
    record = record_of(ORIGIN, LANE, 7, message(body='{"to": "me"}', own=OWN))
    for pattern, wanted in [
        ('{"body": {"to": ["me"]}}', True),
        ('{"body": {"to": ["you"]}}', False),
        ('{"body": ["plain"]}', False),
        ('{"messageAttributes": {"kind": {"stringValue": ["a"]}}}', True),
        ('{"attributes": {"SenderId": ["nobody"]}}', False),
    ]:
        made = compile_filter([pattern], "body", NonJson.COMPARED)
        assert made.wants(*sqs_face(record)) is wanted, pattern


def test_the_account_of_a_batch_names_its_messages():
    records = [record_of(ORIGIN, LANE, at, message(at)) for at in range(2)]
    assert sqs_batch_info(ORIGIN, records) == {
        "SQSBatchInfo": {
            "messageIds": [message_id(each).decode() for each in records],
            "approximateArrivalOfFirstRecord": "2018-12-17T21:37:29.183Z",
            "approximateArrivalOfLastRecord": "2018-12-17T21:37:29.184Z",
            "batchSize": 2,
            "queueArn": ORIGIN.arn,
        }
    }
