"""One pattern of a filter: a mapping, or the JSON text that Lambda takes, as which it is kept."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from streamfaas.config.document import Hidden
from streamfaas.config.forms import Form, fail, nearest
from streamfaas.flow import json_text
from streamfaas.flow.errors import BadPattern
from streamfaas.flow.pattern import CHARACTERS_MAX, OR, Filter, NonJson, compile_filter

Of: TypeAlias = Literal["record", "data", "change", "body", "event"]

FIELDS: Mapping[Of, tuple[str, ...]] = {
    "record": (
        *("value", "key", "headers", "topic", "partition", "offset"),
        *("timestamp", "timestampType"),
    ),
    "data": (
        *("data", "partitionKey", "sequenceNumber", "kinesisSchemaVersion"),
        "approximateArrivalTimestamp",
    ),
    "body": (
        *("body", "messageId", "receiptHandle", "attributes", "messageAttributes", "md5OfBody"),
        *("eventSource", "eventSourceARN", "awsRegion"),
    ),
    "change": (
        *("dynamodb", "eventName", "eventID", "eventSource", "eventVersion", "awsRegion"),
        "userIdentity",
    ),
    "event": (
        *("s3", "eventName", "eventTime", "eventSource", "eventVersion", "awsRegion"),
        *("userIdentity", "requestParameters", "responseElements"),
    ),
}
"""What a pattern may ask for: the fields of a Kafka record, of a Kinesis record, of an SQS message,
of a change of a DynamoDB item, and of a directory's event."""

_EXAMPLES: Mapping[Of, str] = {
    "record": "{value: {status: [paid]}}",
    "data": "{data: {status: [paid]}}",
    "body": "{body: {status: [paid]}}",
    "change": "{eventName: [INSERT]}",
    "event": "{s3: {object: {key: [{suffix: .jpg}]}}}",
}

_THING: Mapping[Of, str] = {
    "record": "record", "data": "record", "change": "change", "body": "message", "event": "event",
}  # fmt: skip

_HINTS: Mapping[Of, str] = {
    "record": "what is in a record's JSON stands below value: {{value: {{{}: …}}}}",
    "data": "what is in a record's JSON stands below data: {{data: {{{}: …}}}}",
    "body": "what is in a message's JSON stands below body: {{body: {{{}: …}}}}",
    "change": "what is in a change stands below dynamodb: {{dynamodb: {{{}: …}}}}",
    "event": f"known here: {', '.join(FIELDS['event'])}",
}


def pattern(of: Of) -> Form:
    """A pattern of the records, or events, that are wanted."""
    says = f"a pattern, as in {_EXAMPLES[of]}, or its JSON"

    def check(value: Any, _base: Path) -> str:
        if not isinstance(value, dict | str):
            fail("SF1080", f"is not {says}")
        text = value if isinstance(value, str) else _written(value)
        try:
            _judge(text, of)
        except BadPattern as bad:
            _refuse(value, bad)
        return Hidden(text) if any(isinstance(each, Hidden) for each in _values(value)) else text

    text = {"type": "string", "minLength": 2, "maxLength": CHARACTERS_MAX}
    return Form(says, check, {"anyOf": [{"type": "object"}, text]})


def compiled(patterns: Sequence[str], of: Of) -> Filter:
    """The filter that patterns make. An event is nothing but JSON, a record has JSON in it."""
    if of == "record":
        return compile_filter([str(each) for each in patterns], "value", NonJson.IGNORED)
    if of == "data":
        return compile_filter([str(each) for each in patterns], "data", NonJson.DROPPED)
    if of == "body":
        return compile_filter([str(each) for each in patterns], "body", NonJson.COMPARED)
    if of == "change":
        return compile_filter([str(each) for each in patterns], "dynamodb", NonJson.DROPPED)
    events = [{_WHOLE: json_text.read(each)} for each in patterns]
    return compile_filter(events, _WHOLE, NonJson.DROPPED)


_WHOLE = "event"


def _written(value: dict[str, Any]) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except ValueError:
        fail("SF1080", "holds a number that JSON has not", "leave .inf and .nan out")


class _NoField(BadPattern):
    """A field that no record, or event, has."""


def _judge(text: str, of: Of) -> None:
    try:
        pattern = json_text.read(text)
    except ValueError as cause:
        raise BadPattern(f"this is not JSON: {cause}") from cause
    if not isinstance(pattern, dict):
        raise BadPattern("a pattern is an object", (), f"begin with a field, as in {_EXAMPLES[of]}")
    try:
        compiled((text,), of)
    except BadPattern as bad:
        path = bad.path[2:] if of == "event" else bad.path[1:]
        raise BadPattern(bad.message, path, bad.hint) from bad
    for path in _asked(pattern, ()):
        field = str(path[-1]).partition(".")[0]
        if field not in FIELDS[of]:
            hint = nearest(field, FIELDS[of]) or _HINTS[of].format(field)
            raise _NoField(f"no {_THING[of]} has a field {field}", path, hint)


def _refuse(value: Any, bad: BadPattern) -> None:
    """In a mapping the path leads to the place in the file; in a text it can only be told."""
    code: Literal["SF1080", "SF1085"] = "SF1085" if isinstance(bad, _NoField) else "SF1080"
    if isinstance(value, dict):
        fail(code, bad.message, bad.hint, inside=bad.path)
    fail(code, f"{bad.where}: {bad.message}".removeprefix(": "), bad.hint, inside=())


def _asked(
    fields: Mapping[str, Any], path: tuple[str | int, ...]
) -> Iterator[tuple[str | int, ...]]:
    """The paths of the outermost fields that a pattern asks for."""
    for key, inner in fields.items():
        if key == OR:
            for at, each in enumerate(inner):
                yield from _asked(each, (*path, key, at))
        else:
            yield *path, key


def _values(value: Any) -> Iterator[Any]:
    """All values inside of one."""
    match value:
        case dict():
            for each in value.values():
                yield from _values(each)
        case list():
            for each in value:
                yield from _values(each)
        case _:
            yield value
