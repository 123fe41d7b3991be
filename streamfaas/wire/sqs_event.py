"""What Lambda says of SQS messages: the event, and the account of a lost batch, which is ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson
import pybase64

from streamfaas.flow.record import Headers, Lane, Record

ID = "messageId"
RECEIPT = "receiptHandle"
ABOUT = "sqs"
"""Headers of a message, before those that are its own attributes: its id, its receipt, and the
rest of what an event says of it beside its body, as JSON."""

_BODY_BYTES = 24  # punctuation, and the key of the body
_OWN = 3  # headers
_TEXTS = ("String", "Number")


class Origin(NamedTuple):
    """Whose messages they are, as events say it. `spelled_out`: that a message has no attributes
    of its own is said by a null, as Lambda has it where there is a batching window."""

    arn: str
    region: str
    spelled_out: bool = False


def record_of(origin: Origin, lane: Lane, position: int, told: Mapping[str, Any]) -> Record:
    """A message as the service writes it, as a record: its body is the value, its message group
    the key, its attributes are the headers."""
    attributes = told.get("Attributes") or {}
    body = str(told["Body"])
    about = orjson.dumps(_about(origin, told, attributes))
    own = told.get("MessageAttributes") or {}
    headers: Headers = (
        (ID, told["MessageId"].encode()),
        (RECEIPT, told["ReceiptHandle"].encode()),
        (ABOUT, about),
        *((name, _bytes(each)) for name, each in own.items()),
    )
    group = attributes.get("MessageGroupId")
    identity = len(told["MessageId"]) + len(told["ReceiptHandle"]) + len(ID) + len(RECEIPT)
    return Record(
        lane,
        position,
        body.encode(),
        None if group is None else group.encode(),
        int(attributes.get("SentTimestamp", -1)),
        headers=headers,
        weight=len(about) + identity + len(orjson.dumps(body)) + _BODY_BYTES,
    )


def sqs_event(records: Iterable[Record]) -> bytes:
    """The event as JSON: what was written of each message when it came, with its own put before."""
    return b'{"Records":[' + b",".join(map(_written, records)) + b"]}"


def sqs_face(record: Record) -> tuple[dict[str, Any], bytes | None]:
    """What a filter sees of a message: `body` is its data."""
    (_, identity), (_, receipt), (_, about) = record.headers[:_OWN]
    return {
        ID: identity.decode(),
        RECEIPT: receipt.decode(),
        **orjson.loads(about),
    }, record.value


def message_id(record: Record) -> bytes:
    """What a report of failures calls it."""
    return record.headers[0][1]


def sqs_batch_info(origin: Origin, records: Sequence[Record]) -> dict[str, Any]:
    """The `SQSBatchInfo` of an on-failure document. Lambda has none: with it, a queue's own
    redrive policy is all there is. It is made as those of streams are."""
    times = [each.timestamp_ms for each in records if each.timestamp_ms >= 0]
    return {
        "SQSBatchInfo": {
            "messageIds": [message_id(each).decode() for each in records],
            "approximateArrivalOfFirstRecord": _iso(min(times)) if times else None,
            "approximateArrivalOfLastRecord": _iso(max(times)) if times else None,
            "batchSize": len(records),
            "queueArn": origin.arn,
        }
    }


def sqs_info_of_one(info: Mapping[str, Any], record: Record) -> dict[str, Any]:
    """The content of the `SQSBatchInfo` of a message alone, out of its batch's."""
    arrival = _iso(record.timestamp_ms) if record.timestamp_ms >= 0 else None
    return {
        **info,
        "messageIds": [message_id(record).decode()],
        "approximateArrivalOfFirstRecord": arrival,
        "approximateArrivalOfLastRecord": arrival,
        "batchSize": 1,
    }


def _about(
    origin: Origin, told: Mapping[str, Any], attributes: Mapping[str, Any]
) -> dict[str, Any]:
    own = told.get("MessageAttributes") or {}
    about: dict[str, Any] = {
        "attributes": attributes,
        "messageAttributes": {name: _attribute(each) for name, each in own.items()},
        "md5OfBody": told.get("MD5OfBody"),
    }
    digest = told.get("MD5OfMessageAttributes")
    if digest is not None or origin.spelled_out:
        about["md5OfMessageAttributes"] = digest
    return {
        **about,
        "eventSource": "aws:sqs",
        "eventSourceARN": origin.arn,
        "awsRegion": origin.region,
    }


def _attribute(told: Mapping[str, Any]) -> dict[str, Any]:
    """Binary values are base64 already, as they stand in the answer."""
    attribute: dict[str, Any] = {}
    if "StringValue" in told:
        attribute["stringValue"] = told["StringValue"]
    if "BinaryValue" in told:
        attribute["binaryValue"] = told["BinaryValue"]
    return {
        **attribute,
        "stringListValues": told.get("StringListValues") or [],
        "binaryListValues": told.get("BinaryListValues") or [],
        "dataType": told.get("DataType"),
    }


def _bytes(told: Mapping[str, Any]) -> bytes:
    if str(told.get("DataType", "")).partition(".")[0] in _TEXTS:
        return str(told.get("StringValue", "")).encode()
    return pybase64.b64decode(told.get("BinaryValue") or b"")


def _written(record: Record) -> bytes:
    (_, identity), (_, receipt), (_, about) = record.headers[:_OWN]
    own = orjson.dumps(
        {
            ID: identity.decode(),
            RECEIPT: receipt.decode(),
            "body": (record.value or b"").decode(),
        }
    )
    return own[:-1] + b"," + about[1:]


def _iso(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
