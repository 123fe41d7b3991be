"""What Lambda says of Kinesis records: the event, and the account of a lost batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
import pybase64

from streamfaas.flow.batch import Batch
from streamfaas.flow.record import Headers, Lane, Record
from streamfaas.wire.shards import Origin

SEQUENCE = "sequenceNumber"
ARRIVAL = "approximateArrivalTimestamp"
SUBSEQUENCE = "subSequenceNumber"
"""Headers of a record that was looked at: what an event says of it beside key and data."""

RECORD_BYTES = 480
"""What a record adds to an event beside its key, its data and the names of its origin, about."""


def kinesis_event(origin: Origin, shard: str, records: Iterable[Mapping[str, Any]]) -> bytes:
    """The event as JSON. `records` are as the service gives them: their data is base64 already."""
    return orjson.dumps({"Records": [_record(origin, shard, each) for each in records]})


def record_of(lane: Lane, position: int, told: Mapping[str, Any]) -> Record:
    """A record of the service, looked at."""
    arrival = float(told["ApproximateArrivalTimestamp"])
    headers: Headers = (
        (SEQUENCE, told["SequenceNumber"].encode()),
        (ARRIVAL, orjson.dumps(arrival)),
    )
    if (sub := told.get("SubSequenceNumber")) is not None:
        headers += ((SUBSEQUENCE, b"%d" % sub),)
    return Record(
        lane,
        position,
        pybase64.b64decode(told["Data"]),
        told["PartitionKey"].encode(),
        int(arrival * 1000),
        headers=headers,
    )


def told_of(record: Record) -> dict[str, Any]:
    """The record as the service gave it."""
    headers = dict(record.headers)
    told: dict[str, Any] = {
        "SequenceNumber": headers[SEQUENCE].decode(),
        "PartitionKey": (record.key or b"").decode(),
        "Data": pybase64.b64encode_as_string(record.value or b""),
        "ApproximateArrivalTimestamp": orjson.loads(headers[ARRIVAL]),
    }
    if SUBSEQUENCE in headers:
        told["SubSequenceNumber"] = int(headers[SUBSEQUENCE])
    return told


def kinesis_face(record: Record) -> tuple[dict[str, Any], bytes | None]:
    """What a filter sees of a record: `data` is its data."""
    told = told_of(record)
    return {
        "kinesisSchemaVersion": "1.0",
        "partitionKey": told["PartitionKey"],
        "sequenceNumber": told["SequenceNumber"],
        "approximateArrivalTimestamp": told["ApproximateArrivalTimestamp"],
    }, record.value


def kinesis_batch_info(
    batch: Batch, origin: Origin, records: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The `KinesisBatchInfo` of an on-failure document."""
    if not records:  # the last invocation in a window
        shard = {"shardId": batch.lane.name, "batchSize": 0, "streamArn": origin.arn}
        return {"KinesisBatchInfo": shard}
    first, last = records[0], records[-1]
    return {
        "KinesisBatchInfo": {
            "shardId": batch.lane.name,
            "startSequenceNumber": first["SequenceNumber"],
            "endSequenceNumber": last["SequenceNumber"],
            "approximateArrivalOfFirstRecord": _iso(first["ApproximateArrivalTimestamp"]),
            "approximateArrivalOfLastRecord": _iso(last["ApproximateArrivalTimestamp"]),
            "batchSize": len(records),
            "streamArn": origin.arn,
        }
    }


def kinesis_info_of_one(info: Mapping[str, Any], record: Record) -> dict[str, Any]:
    """The content of the `KinesisBatchInfo` of a record alone, out of its batch's."""
    told = told_of(record)
    sequence, arrival = told["SequenceNumber"], _iso(told["ApproximateArrivalTimestamp"])
    return {
        **info,
        "startSequenceNumber": sequence,
        "endSequenceNumber": sequence,
        "approximateArrivalOfFirstRecord": arrival,
        "approximateArrivalOfLastRecord": arrival,
        "batchSize": 1,
    }


def _record(origin: Origin, shard: str, told: Mapping[str, Any]) -> dict[str, Any]:
    sequence = told["SequenceNumber"]
    return {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": told["PartitionKey"],
            "sequenceNumber": sequence,
            "data": told["Data"],
            "approximateArrivalTimestamp": told["ApproximateArrivalTimestamp"],
        },
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": f"{shard}:{sequence}",
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": origin.role,
        "awsRegion": origin.region,
        "eventSourceARN": origin.arn,
    }


def _iso(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
