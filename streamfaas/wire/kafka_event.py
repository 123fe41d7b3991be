"""The self-managed Kafka event as AWS Lambda hands it to a handler, out of records looked at."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson
import pybase64

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


def _base64(data: bytes | None) -> str | None:
    return None if data is None else pybase64.b64encode_as_string(data)


def _signed(value: bytes) -> list[int]:
    return memoryview(value).cast("b").tolist()
