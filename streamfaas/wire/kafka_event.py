"""What Lambda says of self-managed Kafka records: the event, and the account of a lost batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
import pybase64

from streamfaas.flow.batch import Batch
from streamfaas.flow.record import Record

TIMESTAMP_TYPES = ("CREATE_TIME", "LOG_APPEND_TIME")


def kafka_event(topic: str, partition: int, servers: str, records: Iterable[Record]) -> bytes:
    """The event as JSON. `servers` are the bootstrap servers joined by commas. Keys and values are
    base64 or null, and header values are arrays of signed bytes, as recorded on AWS."""
    return orjson.dumps(
        {
            "eventSource": "SelfManagedKafka",
            "bootstrapServers": servers,
            "records": {
                f"{topic}-{partition}": [_record(topic, partition, record) for record in records]
            },
        }
    )


def kafka_face(topic: str, partition: int, record: Record) -> tuple[dict[str, Any], bytes | None]:
    """What a filter sees of a record: `value` is its data, and beyond what Lambda offers it may ask
    for topic, partition and offset, and for the key and the headers as far as they are text."""
    headers = {name: text for name, value in record.headers if (text := _text(value)) is not None}
    metadata: dict[str, Any] = {
        "topic": topic,
        "partition": partition,
        "offset": record.position,
        "timestamp": record.timestamp_ms,
        "timestampType": TIMESTAMP_TYPES[record.timestamp_type],
        "headers": headers,
    }
    if (key := _text(record.key)) is not None:
        metadata["key"] = key
    return metadata, record.value


def kafka_locate(batch: Batch, identifier: object) -> int | None:
    """Kafka's item identifiers are objects: `{"partition": "<topic>-<n>", "offset": <int>}`."""
    match identifier:
        case {"partition": batch.lane.name, "offset": offset} if type(offset) is int:
            return offset if batch.holds(offset) else None
    return None


def kafka_batch_info(batch: Batch, servers: str, records: Sequence[Record]) -> dict[str, Any]:
    """The `KafkaBatchInfo` of an on-failure document. `records` are the batch's, looked at; where
    there are none (their bytes are damaged) the batch itself says what it knows; the last one in a
    window has none to tell of. Offsets are strings, as Lambda documents them; there is no ARN of a
    cluster of one's own."""
    oldest, newest = batch.oldest * 1000, batch.newest * 1000
    if batch.final:
        return {
            "KafkaBatchInfo": {
                "batchSize": 0,
                "bootstrapServers": servers,
                "payloadSize": 0,
                "recordsInfo": {},
            }
        }
    return {
        "KafkaBatchInfo": {
            "batchSize": batch.count,
            "bootstrapServers": servers,
            "payloadSize": batch.size_bytes,
            "recordsInfo": {
                batch.lane.name: {
                    "firstRecordOffset": str(records[0].position if records else batch.first),
                    "lastRecordOffset": str(records[-1].position if records else batch.last),
                    "firstRecordTimestamp": _iso(records[0].timestamp_ms if records else oldest),
                    "lastRecordTimestamp": _iso(records[-1].timestamp_ms if records else newest),
                }
            },
        }
    }


def kafka_info_of_one(info: Mapping[str, Any], record: Record) -> dict[str, Any]:
    """The content of the `KafkaBatchInfo` of a record that is told of alone, out of its batch's."""
    rest = {name: told for name, told in info.items() if name != "recordsInfo"}
    return {
        **rest,
        "batchSize": 1,
        "payloadSize": record.size_bytes,
        "recordInfo": {"offset": str(record.position), "timestamp": _iso(record.timestamp_ms)},
    }


def _record(topic: str, partition: int, record: Record) -> dict[str, Any]:
    return {
        "topic": topic,
        "partition": partition,
        "offset": record.position,
        "timestamp": record.timestamp_ms,
        "timestampType": TIMESTAMP_TYPES[record.timestamp_type],
        "key": _base64(record.key),
        "value": _base64(record.value),
        "headers": [{name: _signed(value)} for name, value in record.headers],
    }


def _text(data: bytes | None) -> str | None:
    try:
        return None if data is None else data.decode()
    except UnicodeDecodeError:
        return None


def _base64(data: bytes | None) -> str | None:
    return None if data is None else pybase64.b64encode_as_string(data)


def _signed(value: bytes) -> list[int]:
    return memoryview(value).cast("b").tolist()


def _iso(milliseconds: float) -> str | None:
    if not 0 <= milliseconds < _YEAR_10000:  # a producer may write any number
        return None
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


_YEAR_10000 = 253_402_300_800_000
