"""What Lambda says of changes of DynamoDB items: the event, and the account of a lost batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from streamfaas.flow.batch import Batch
from streamfaas.flow.record import Lane, Record
from streamfaas.wire.shards import Origin

BESIDE = "beside"
"""Header of a change that was looked at: what is said of it beside `dynamodb`, as JSON."""

ARN_BYTES = 24
"""What naming the stream adds to a record, without its ARN."""


def dynamodb_event(origin: Origin, records: Iterable[Mapping[str, Any]]) -> bytes:
    """The event as JSON. `records` are as the service gives them."""
    return orjson.dumps({"Records": [{**each, "eventSourceARN": origin.arn} for each in records]})


def sequence_of(told: Mapping[str, Any]) -> str:
    """What a partial answer names a change by."""
    return str(told["dynamodb"]["SequenceNumber"])


def seconds_of(told: Mapping[str, Any]) -> float:
    """When it was made, about."""
    return float(told["dynamodb"].get("ApproximateCreationDateTime", 0))


def record_of(lane: Lane, position: int, told: Mapping[str, Any]) -> Record:
    """A change, looked at. Its key is that of its item: order is kept for each item."""
    change = told["dynamodb"]
    beside = {name: each for name, each in told.items() if name != "dynamodb"}
    return Record(
        lane,
        position,
        orjson.dumps(change),
        orjson.dumps(change.get("Keys", {}), option=orjson.OPT_SORT_KEYS),
        int(seconds_of(told) * 1000),
        headers=((BESIDE, orjson.dumps(beside)),),
    )


def told_of(record: Record) -> dict[str, Any]:
    """The change as the service gave it."""
    beside: dict[str, Any] = orjson.loads(dict(record.headers)[BESIDE])
    return {**beside, "dynamodb": orjson.loads(record.value or b"{}")}


def dynamodb_face(record: Record) -> tuple[dict[str, Any], bytes | None]:
    """What a filter sees of a change: `dynamodb` is its data."""
    return orjson.loads(dict(record.headers)[BESIDE]), record.value


def dynamodb_batch_info(
    batch: Batch, origin: Origin, records: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The `DDBStreamBatchInfo` of an on-failure document."""
    if not records:  # the last invocation in a window
        shard = {"shardId": batch.lane.name, "batchSize": 0, "streamArn": origin.arn}
        return {"DDBStreamBatchInfo": shard}
    first, last = records[0], records[-1]
    return {
        "DDBStreamBatchInfo": {
            "shardId": batch.lane.name,
            "startSequenceNumber": sequence_of(first),
            "endSequenceNumber": sequence_of(last),
            "approximateArrivalOfFirstRecord": _iso(seconds_of(first)),
            "approximateArrivalOfLastRecord": _iso(seconds_of(last)),
            "batchSize": len(records),
            "streamArn": origin.arn,
        }
    }


def dynamodb_info_of_one(info: Mapping[str, Any], record: Record) -> dict[str, Any]:
    """The content of the `DDBStreamBatchInfo` of a change alone, out of its batch's."""
    told = told_of(record)
    sequence, made = sequence_of(told), _iso(seconds_of(told))
    return {
        **info,
        "startSequenceNumber": sequence,
        "endSequenceNumber": sequence,
        "approximateArrivalOfFirstRecord": made,
        "approximateArrivalOfLastRecord": made,
        "batchSize": 1,
    }


def _iso(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
