"""Events that run once more, marked so that a handler can tell them from a first delivery."""

from __future__ import annotations

from typing import Any

import orjson

from streamfaas.flow.letters import REPLAYS_HEADER


def marked(event: bytes, replays: int) -> bytes:
    """The event with the number of its replays in each record: a header of Kafka's records (as all
    their headers, an array of bytes), a response element of an object store's. Where there is no
    such place the event stays as it is, and only the client context tells."""
    value: Any = orjson.loads(event)
    match value:
        case {"records": dict()}:
            for records in value["records"].values():
                for record in records if isinstance(records, list) else ():
                    _mark_kafka(record, replays)
        case {"Records": list()}:
            for record in value["Records"]:
                _mark_object(record, replays)
        case _:
            return event
    return orjson.dumps(value)


def context(replays: int) -> bytes:
    """The client context of such a call: `context.client_context.custom["streamfaas-replays"]`."""
    return orjson.dumps({"custom": {REPLAYS_HEADER: str(replays)}})


def _mark_kafka(record: Any, replays: int) -> None:
    if isinstance(record, dict):
        headers = record.get("headers")
        known = headers if isinstance(headers, list) else []
        others = [one for one in known if not (isinstance(one, dict) and REPLAYS_HEADER in one)]
        record["headers"] = [*others, {REPLAYS_HEADER: list(str(replays).encode())}]


def _mark_object(record: Any, replays: int) -> None:
    if isinstance(record, dict) and isinstance(record.get("s3"), dict):
        beside = record.get("responseElements")
        known = beside if isinstance(beside, dict) else {}
        record["responseElements"] = {**known, REPLAYS_HEADER: str(replays)}
