"""Events that run once more, marked so that a handler can tell them from a first delivery."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from streamfaas.flow.letters import REPLAYS_HEADER


def marked(event: bytes, replays: int) -> list[bytes]:
    """The event as events of one record each, in its order, with the number of their replays in
    each record: a header of Kafka's records (as all their headers, an array of bytes), a response
    element of an object store's. Where there is no such place the event stays as it is, and only
    the client context tells.

    One record each, so that one that fails again is tried again, and put aside, alone."""
    value: Any = orjson.loads(event)
    match value:
        case {"records": dict(lanes)} if all(isinstance(each, list) for each in lanes.values()):
            pairs = [(lane, record) for lane, records in lanes.items() for record in records]
            return [
                orjson.dumps({**value, "records": {lane: [_kafka_mark(record, replays)]}})
                for lane, record in pairs
            ] or [event]
        case {"Records": list(records)}:
            return [
                orjson.dumps({**value, "Records": [_object_mark(record, replays)]})
                for record in records
            ] or [event]
    return [event]


def context(replays: int, *, reports: bool) -> bytes:
    """The client context of such a call: `context.client_context.custom["streamfaas-replays"]`.
    `reports`: its answer is read as a report of failed items, as the trigger has it."""
    custom = {REPLAYS_HEADER: str(replays)}
    return orjson.dumps({"custom": custom | ({REPORTS: "true"} if reports else {})})


def reports(client_context: bytes) -> bool:
    """Whether the answer of such a call is read as a report."""
    return bool(client_context) and REPORTS in orjson.loads(client_context).get("custom", {})


def order_of(part: bytes, lane: str) -> str:
    """What such an event is run in order with, one at a time: others of its lane, or of the
    message group of a queue. Empty: nothing, since the queue has no order."""
    match orjson.loads(part):
        case {"Records": [{"eventSource": "aws:sqs", "attributes": dict(told)}]}:
            group = told.get("MessageGroupId")
            return f"{lane} {group}" if isinstance(group, str) else ""
    return lane


def locates(event: bytes, identifier: object) -> bool:
    """Whether an item identifier names the one record of an event, as its source has them."""
    match identifier, orjson.loads(event):
        case {"partition": str(lane), "offset": int(offset)}, {"records": {**lanes}}:
            found = lanes.get(lane)
            known = [each.get("offset") for each in found] if isinstance(found, list) else []
            return not isinstance(offset, bool) and offset in known
        case str(named), {"Records": [{**record}]}:
            return named in _names(record)
    return False


def _names(record: Mapping[Any, Any]) -> Iterator[Any]:
    """A message's id, or the sequence number of a record of a stream."""
    yield record.get("messageId")
    for place, key in (("kinesis", "sequenceNumber"), ("dynamodb", "SequenceNumber")):
        within = record.get(place)
        if isinstance(within, dict):
            yield within.get(key)


REPORTS = "streamfaas-partial-failures"


def _kafka_mark(record: Any, replays: int) -> Any:
    if not isinstance(record, dict):
        return record
    headers = record.get("headers")
    known = headers if isinstance(headers, list) else []
    others = [one for one in known if not (isinstance(one, dict) and REPLAYS_HEADER in one)]
    return {**record, "headers": [*others, {REPLAYS_HEADER: list(str(replays).encode())}]}


def _object_mark(record: Any, replays: int) -> Any:
    if not isinstance(record, dict) or not isinstance(record.get("s3"), dict):
        return record
    beside = record.get("responseElements")
    known = beside if isinstance(beside, dict) else {}
    return {**record, "responseElements": {**known, REPLAYS_HEADER: str(replays)}}
