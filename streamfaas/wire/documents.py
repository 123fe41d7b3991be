"""Lambda's documents of how calls ended, as the destinations receive them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from streamfaas.flow.batch import Batch
from streamfaas.flow.letters import Attribute, Letter, Payload, hops_of
from streamfaas.flow.outcome import Failure, Fault, Outcome, Success
from streamfaas.flow.record import Record
from streamfaas.flow.verdict import Condition
from streamfaas.wire.dynamodb_event import dynamodb_info_of_one
from streamfaas.wire.kafka_event import kafka_info_of_one
from streamfaas.wire.kinesis_event import kinesis_info_of_one
from streamfaas.wire.sqs_event import sqs_info_of_one

SUCCESS = "Success"
UNHANDLED = "Unhandled"

ZERO_CONCURRENCY = "ZeroReservedConcurrency"

WITHOUT_RESPONSE = frozenset({Condition.TOO_OLD, Condition.RECURSIVE, ZERO_CONCURRENCY})
"""Conditions under which Lambda leaves `responseContext` out, even if there were answers before."""

ERROR_MESSAGE_BYTES_MAX = 1024
"""Of a dead letter's attribute, as on Lambda."""


@dataclass(frozen=True, slots=True)
class StreamEnding:
    """How a batch ended, and all that is told of it.

    `invokes` says how often the function had it, and `outcome` is the last one, None where it never
    ran. `function_error` None says that the function answered, and named records that failed, or
    answered nonsense about them. `batch_info` is the source's own key and
    content (`KafkaBatchInfo`, …), `payload` the event as JSON, and `records` those in it, in its
    order: None and none where their bytes are damaged. `hops` are the destinations passed so far,
    if not told by a record's header, `replays` how often the batch was sent back from a
    destination. `at` is in epoch seconds.
    """

    batch: Batch
    condition: str
    invokes: int
    outcome: Outcome | None
    request_id: str
    function_arn: str
    batch_info: Mapping[str, Any]
    payload: bytes | None
    at: float
    records: tuple[Record, ...] = ()
    function_error: str | None = UNHANDLED
    hops: int = 0
    replays: int = 0


@dataclass(frozen=True, slots=True)
class AsyncEnding:
    """How an asynchronous invocation ended. `function_arn` has no version, `request_id` is that of
    all its attempts, `event` what the caller gave; the rest is as in `StreamEnding`."""

    condition: str
    invokes: int
    outcome: Outcome | None
    request_id: str
    function_arn: str
    event: bytes
    at: float
    hops: int = 0


def failure_letters(
    ending: StreamEnding, *, per_record: bool = False, payload: Payload = "json"
) -> tuple[Letter, ...]:
    """What a failure destination of a mapping is sent: one letter, or one for each record.

    It is the envelope of Lambda's stream sources (their `functionArn` carries no version), and the
    records' own `payload`, which Lambda's SQS and SNS documents leave out. Beyond Lambda:
    `responsePayload` (the error, as asynchronous invocations have it) and `streamfaas`.
    """
    envelope = {
        "requestContext": _request_context(ending, ending.function_arn),
        **_response(ending.condition, ending, ending.function_error),
        "version": "1.0",
        "timestamp": _timestamp(ending.at),
    }
    return tuple(
        _letter(ending, "failure", part, envelope, name="payload", payload=payload)
        for part in _parts(ending, per_record=per_record)
    )


def success_letters(
    ending: StreamEnding, *, per_record: bool = False, payload: Payload = "json"
) -> tuple[Letter, ...]:
    """What a success destination of a mapping is sent. Lambda has none; this is its document of an
    asynchronous success, with the source's `BatchInfo` in it."""
    assert isinstance(ending.outcome, Success)
    envelope = {
        "version": "1.0",
        "timestamp": _timestamp(ending.at),
        "requestContext": _request_context(ending, ending.function_arn),
        **_response(SUCCESS, ending, None),
    }
    shown: Payload = "none" if payload == "none" else "json"  # only of failures it is ever a text
    return tuple(
        _letter(ending, "success", part, envelope, name="requestPayload", payload=shown)
        for part in _parts(ending, per_record=per_record)
    )


def async_letters(ending: AsyncEnding, *, payload: Payload = "json") -> tuple[Letter, ...]:
    """What a destination of an asynchronous invocation is sent, on success or on failure."""
    document = {
        "version": "1.0",
        "timestamp": _timestamp(ending.at),
        "requestContext": _request_context(ending, f"{ending.function_arn}:$LATEST"),
        **({} if payload == "none" else {"requestPayload": _json(ending.event)}),
        **_response(ending.condition, ending, UNHANDLED),
    }
    return (Letter(_async_id(ending), orjson.dumps(document), hops=ending.hops + 1),)


def dead_letter(ending: AsyncEnding) -> Letter:
    """The event alone, and what was wrong beside it: what a dead-letter queue is sent."""
    message = ending.outcome.message if isinstance(ending.outcome, Failure) else ending.condition
    cut = message.encode(errors="replace")[:ERROR_MESSAGE_BYTES_MAX].decode(errors="ignore")
    return Letter(
        _async_id(ending),
        orjson.dumps(_json(ending.event)),
        hops=ending.hops + 1,
        attributes=(
            Attribute("RequestID", "String", ending.request_id),
            Attribute("ErrorCode", "Number", "200"),
            Attribute("ErrorMessage", "String", cut),
        ),
    )


def error_payload(failure: Failure, request_id: str) -> dict[str, Any]:
    """What a caller gets instead of an answer. What the function's own runtime tells has a stack
    and a request id (an empty one where it could not be loaded); what is told of it has neither."""
    told: dict[str, Any] = {"errorMessage": failure.message, "errorType": failure.type}
    if not failure.type.startswith(_TOLD_OF_IT):
        told["requestId"] = "" if failure.fault is Fault.INIT else request_id
        told["stackTrace"] = list(failure.stack)
    return told


_TOLD_OF_IT = ("Sandbox.", "Function.", "Event.", "Runtime.ExitError")
"""Types of errors that no runtime has sent: it was ended, or had ended, or was not asked."""


def uuid_of(letter: Letter) -> str:
    """The letter's id in the form of a UUID; made out of it where it has another form."""
    if _HEX_32.fullmatch(letter.id):
        return str(UUID(letter.id))
    return str(UUID(bytes=hashlib.sha256(letter.id.encode()).digest()[:16]))


_HEX_32 = re.compile(r"[0-9a-f]{32}")


# -- what documents have in common


def _request_context(ending: StreamEnding | AsyncEnding, function_arn: str) -> dict[str, Any]:
    return {
        "requestId": ending.request_id,
        "functionArn": function_arn,
        "condition": ending.condition,
        "approximateInvokeCount": ending.invokes,
    }


def _response(
    condition: str, ending: StreamEnding | AsyncEnding, function_error: str | None
) -> dict[str, Any]:
    """The keys that tell of an answer, as many as there are under this condition."""
    outcome = ending.outcome
    told: dict[str, Any] = {}
    context: dict[str, Any] = {"statusCode": 200, "executedVersion": "$LATEST"}
    if condition != SUCCESS:
        context["functionError"] = function_error
    if condition == Condition.TOO_LARGE:  # it never ran
        told["responseContext"] = None
    elif outcome is not None and condition not in WITHOUT_RESPONSE:
        told["responseContext"] = context
    match outcome:
        case Success(answer):
            told["responsePayload"] = _json(answer)
        case Failure():
            told["responsePayload"] = error_payload(outcome, ending.request_id)
    return told


# -- letters


def _text(payload: orjson.Fragment | Mapping[str, Any] | None) -> str | None:
    return None if payload is None else orjson.dumps(payload).decode()


class _Part(NamedTuple):
    """What one letter is about: a record alone, or the batch."""

    first: int
    last: int
    batch_info: Mapping[str, Any]
    payload: Any
    records: tuple[Record, ...]


def _letter(
    ending: StreamEnding,
    kind: str,
    part: _Part,
    envelope: dict[str, Any],
    *,
    name: str,
    payload: Payload,
) -> Letter:
    """`name` is the key that the event is told under, if it is."""
    id_ = _id(ending, kind, part)
    hops = max(ending.hops, hops_of(part.records)) + 1
    lane = ending.batch.lane
    document = {
        **envelope,
        **part.batch_info,
        "streamfaas": {
            "id": id_,
            "mapping": lane.source,
            "lane": lane.name,
            "first": part.first,
            "last": part.last,
            "hops": hops,
            "replays": ending.replays,
        },
    }
    if payload != "none":
        document[name] = part.payload if payload == "json" else _text(part.payload)
    key = part.records[0].key if len(part.records) == 1 else None
    return Letter(id_, orjson.dumps(document), key, hops)


def _id(ending: StreamEnding, kind: str, part: _Part) -> str:
    """A record alone has the same id whichever batch it was in. A failure's is that of the first
    time: the others are told by what is added."""
    lane = ending.batch.lane
    name = [lane.source, lane.name, str(part.first), str(part.last)]
    name += [kind] if kind != "failure" else []
    pane = ending.batch.pane
    name += [f"window {pane.window.start_ms}"] if pane is not None and pane.final else []
    name += [f"replay {ending.replays}"] if ending.replays else []
    return _digest(*name)


def _async_id(ending: AsyncEnding) -> str:
    kind = "success" if ending.condition == SUCCESS else "failure"
    return _digest(ending.function_arn, ending.request_id, kind)


def _digest(*name: str) -> str:
    return hashlib.sha256("\n".join(name).encode()).hexdigest()[:32]


def _parts(ending: StreamEnding, *, per_record: bool) -> Iterable[_Part]:
    """Each record alone; the batch as one, where it cannot be taken apart."""
    batch, info, payload = ending.batch, ending.batch_info, ending.payload
    events = None
    if per_record and payload is not None and ending.records:
        events = _singles(orjson.loads(payload))
    if events is None:
        whole = None if payload is None else orjson.Fragment(payload)
        return [_Part(batch.first, batch.last, info, whole, ending.records)]
    return (
        _Part(record.position, record.position, _info_of_one(info, record), event, (record,))
        for record, event in zip(ending.records, events, strict=True)
    )


def _singles(event: Any) -> list[dict[str, Any]] | None:
    """The events that hold one record each of an event: Kafka's, or any with a list `Records`."""
    if not isinstance(event, dict):
        return None
    if isinstance(lanes := event.get("records"), dict):
        pairs = ((lane, record) for lane, records in lanes.items() for record in records)
        return [{**event, "records": {lane: [record]}} for lane, record in pairs]
    if isinstance(records := event.get("Records"), list):
        return [{**event, "Records": [record]} for record in records]
    return None


def _info_of_one(batch_info: Mapping[str, Any], record: Record) -> dict[str, Any]:
    return {
        name: _INFO_OF_ONE[name](info, record) if name in _INFO_OF_ONE else {**info, "batchSize": 1}
        for name, info in batch_info.items()
    }


_INFO_OF_ONE = {
    "DDBStreamBatchInfo": dynamodb_info_of_one,
    "KafkaBatchInfo": kafka_info_of_one,
    "KinesisBatchInfo": kinesis_info_of_one,
    "SQSBatchInfo": sqs_info_of_one,
}


# -- JSON


def _json(text: bytes) -> orjson.Fragment | str | None:
    """JSON that somebody else has written, as it is, but on one line; what is none, as text."""
    if not text:
        return None
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return text.decode(errors="replace")
    # in a string of JSON a line's end is never itself
    return orjson.Fragment(text.replace(b"\r", b" ").replace(b"\n", b" "))


def _timestamp(at: float) -> str:
    moment = datetime.fromtimestamp(at, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
