"""Lambda's on-failure document, as the destinations receive it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from streamfaas.flow.batch import Batch
from streamfaas.flow.outcome import Failure
from streamfaas.flow.verdict import Condition


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A batch that nobody will run again. `payload` is the event as JSON, None where its bytes
    are damaged; `batch_info` the source's own key and content (`KafkaBatchInfo`, …); `at` epoch
    seconds."""

    batch: Batch
    condition: str
    failure: Failure
    request_id: str
    function_arn: str
    batch_info: Mapping[str, Any]
    payload: bytes | None
    at: float


def document_id(batch: Batch) -> str:
    """The same for the same records however often they are sent, so that a duplicate shows."""
    lane = batch.lane
    name = f"{lane.source}\n{lane.name}\n{batch.first}\n{batch.last}"
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def on_failure_document(given_up: GivenUp) -> bytes:
    """The envelope of Lambda's stream sources (their `functionArn` carries no version), and, since
    Lambda's SQS and SNS documents leave the reader without it, the records' own payload.

    Beyond Lambda: `responsePayload` (the error, as asynchronous invocations have it) and
    `streamfaas` (a stable id, the mapping and the lane).
    """
    batch, failure = given_up.batch, given_up.failure
    document: dict[str, Any] = {
        "requestContext": {
            "requestId": given_up.request_id,
            "functionArn": given_up.function_arn,
            "condition": given_up.condition,
            "approximateInvokeCount": _invokes(batch),
        },
        "responseContext": _response_context(given_up.condition),
        "version": "1.0",
        "timestamp": _timestamp(given_up.at),
        **given_up.batch_info,
        "responsePayload": {
            "errorType": failure.type,
            "errorMessage": failure.message,
            "stackTrace": list(failure.stack),
        },
        "streamfaas": {
            "id": document_id(batch),
            "mapping": batch.lane.source,
            "lane": batch.lane.name,
            "first": batch.first,
            "last": batch.last,
        },
        "payload": None if given_up.payload is None else orjson.Fragment(given_up.payload),
    }
    return orjson.dumps(document)


def _invokes(batch: Batch) -> int:
    return max(batch.attempt, *(run.deliveries for run in batch.runs)) + 1


def _response_context(condition: str) -> dict[str, Any] | None:
    if condition == Condition.TOO_LARGE:  # it never ran
        return None
    return {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"}


def _timestamp(at: float) -> str:
    moment = datetime.fromtimestamp(at, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
