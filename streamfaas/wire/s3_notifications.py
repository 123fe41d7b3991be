"""Documents of notifications, alone or in the envelopes that they come in: pure.

Those are an SNS envelope, an EventBridge envelope or a CloudEvent, and one within another.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from streamfaas.wire import s3_dialects as dialects
from streamfaas.wire import s3_fields as fields
from streamfaas.wire.s3_event import Notification, S3Change, notification
from streamfaas.wire.s3_fields import Malformed
from streamfaas.wire.s3_seaweedfs import of_seaweedfs

WRAPPED_MAX = 3
"""Envelopes around a document: a CloudEvent of an SNS envelope of a notification."""


def notifications(body: bytes | str) -> tuple[Notification, ...]:
    """The notifications in a document, in its order. A test event has none. `Malformed` where it is
    not one that is known."""
    try:
        return tuple(notification(change) for change in _document(body, "", WRAPPED_MAX))
    except TypeError as error:  # deeper than can be written
        raise Malformed("the record", f"cannot be told on: {error}") from error


def carrier_of(body: bytes) -> str:
    """What a document says of who has put it into a queue, as triggers have it: `sqs` for the store
    itself. Empty where it says nothing."""
    try:
        document = orjson.loads(body)
    except ValueError:
        return ""
    if not isinstance(document, dict):
        return ""
    if document.get("Type") == "Notification" and "Message" in document:
        return "sns-sqs"
    return "eventbridge-sqs" if "detail-type" in document else "sqs" * ("Records" in document)


def _document(body: bytes | str, where: str, wraps: int) -> Iterator[S3Change]:
    try:
        document = orjson.loads(body)
    except ValueError as error:
        raise Malformed(where, f"is no JSON: {error}") from error
    yield from _unwrapped(document, where, wraps)


def _unwrapped(document: Any, where: str, wraps: int) -> Iterator[S3Change]:
    if not isinstance(document, dict):
        raise Malformed(where, "is no JSON object")
    wrapped = document.get("Message") if document.get("Type") == "Notification" else None
    if wraps and isinstance(wrapped, str):
        yield from _document(wrapped, fields.place(where, "Message"), wraps - 1)
    elif wraps and "specversion" in document and isinstance(document.get("data"), dict):
        yield from _unwrapped(document["data"], fields.place(where, "data"), wraps - 1)
    elif document.get("Event") == "s3:TestEvent":
        return
    elif "Records" in document:
        yield from _records(document["Records"], fields.place(where, "Records"))
    elif "detail-type" in document:
        yield dialects.of_eventbridge(document, where)
    elif "event_type" in document and "message" in document:
        yield from of_seaweedfs(document, where)
    elif "eventName" in document:
        yield dialects.of_aws(document, where)
    else:
        raise Malformed(where, "is no notification of an object store that is known")


def _records(records: Any, where: str) -> Iterator[S3Change]:
    if not isinstance(records, list):
        raise Malformed(where, "is no list")
    for number, record in enumerate(records):
        at = f"{where}[{number}]"
        if not isinstance(record, dict):
            raise Malformed(at, "is no JSON object")
        within = record.get("data")  # newer RustFS has names around the record
        if isinstance(within, dict) and "eventName" not in record:
            record, at = within, f"{at}.data"  # noqa: PLW2901 - the same record, found
        yield dialects.of_aws(record, at)
