"""Which records are wanted: event patterns, and what they mean for data that is not JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, NamedTuple, TypeAlias

from streamfaas.flow import json_text
from streamfaas.flow.condition import Condition, Path, condition_of
from streamfaas.flow.errors import BadPattern
from streamfaas.flow.fields import Fields, fields_of, hold, hold_in_object, missing

PATTERNS_MAX = 10
CHARACTERS_MAX = 4_096
ALTERNATIVES_MAX = 1_000
"""Lambda's limits of patterns, of the text of one, and of the combinations of its `$or`s."""

DEPTH_MAX = 32
FIELDS_MAX = 20_000
"""Ours: how deep the fields of a pattern may be, and how many there may be in all combinations,
since each is looked at by itself."""

Alternative: TypeAlias = Mapping[str, Condition]
"""Fields, by their dotted names, that must hold together."""


class NonJson(Enum):
    """What becomes of a record whose data is not what a pattern expects of it.

    A pattern expects JSON of the data where it gives an object for it, and plain text where it
    gives a list. Data is JSON if it is an object or an array; text is UTF-8.
    """

    IGNORED = auto()
    """Kafka, MQ: that part of the pattern is ignored, and the rest decides."""
    DROPPED = auto()
    """Kinesis, DynamoDB: it is not wanted. A pattern that expects text is refused at once."""
    COMPARED = auto()
    """SQS: plain text is compared as text; else as dropped."""


class Form(Enum):
    """What the data of a record is."""

    ABSENT = "nothing"
    JSON = "JSON"
    TEXT = "plain text"
    BYTES = "bytes that are not UTF-8"


class Data(NamedTuple):
    """The data of a record, read: of JSON the tree, of text the text."""

    form: Form
    value: Any = None


def data_of(data: bytes | None) -> Data:
    """Reads data, of which nothing is known. It never fails."""
    if data is None:
        return _ABSENT
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return _BYTES
    if text.lstrip(_BLANKS)[:1] in _OPENINGS:
        try:
            return Data(Form.JSON, json_text.read(text))
        except ValueError:
            pass
    return Data(Form.TEXT, text)


_ABSENT, _BYTES = Data(Form.ABSENT), Data(Form.BYTES)
_BLANKS = " \t\r\n"
_OPENINGS = ("{", "[")


@dataclass(frozen=True, slots=True)
class Rule:
    """One alternative of a pattern (`number` in the filter), compiled: its fields of the record
    and those of the record's data."""

    number: int
    fields: Alternative
    record: Fields | None
    data: Fields | None


@dataclass(frozen=True, slots=True)
class Filter:
    """Patterns of which any may match. No pattern at all wants every record."""

    rules: tuple[Rule, ...]
    data_key: str | None
    non_json: NonJson

    def wants(self, metadata: Mapping[str, object], data: bytes | None) -> bool:
        """Whether a record is wanted, by what its source says of it (texts, numbers, booleans,
        None, and dicts and lists of them) and by its data. Data is read only if a pattern asks."""
        read = None
        for rule in self.rules:
            if rule.record is not None and not hold_in_object(rule.record, metadata):
                continue
            if rule.data is None:
                return True
            if read is None:
                read = data_of(data)
            if self.data_holds(rule.data, read):
                return True
        return not self.rules

    def data_holds(self, fields: Fields, data: Data) -> bool:
        """Whether data is wanted by the part of a pattern that is about it."""
        if data.form is Form.ABSENT:
            return missing(fields)
        if data.form is expected(fields):
            return hold(fields, data.value)
        return self.non_json is NonJson.IGNORED


def expected(fields: Fields) -> Form:
    """What a pattern takes data for."""
    return Form.JSON if fields.below else Form.TEXT


def compile_filter(patterns: Sequence[object], data_key: str | None, non_json: NonJson) -> Filter:
    """Compiles patterns, each a JSON text or decoded. They speak of a record's data under
    `data_key` (Kafka `value`, Kinesis `data`, SQS `body`, DynamoDB `dynamodb`; None where there is
    nothing but metadata). `BadPattern`, whose path begins with the pattern's number from 0, says
    what is wrong."""
    if len(patterns) > PATTERNS_MAX:
        raise BadPattern(f"there are {len(patterns)} patterns, and {PATTERNS_MAX} may be")
    rules: list[Rule] = []
    for number, pattern in enumerate(patterns):
        try:
            alternatives = compile_pattern(pattern)
            rules += (_rule(number, each, data_key, non_json) for each in alternatives)
        except BadPattern as bad:
            raise BadPattern(bad.message, (number, *bad.path), bad.hint) from bad
    return Filter(tuple(rules), data_key, non_json)


def _rule(number: int, fields: Alternative, data_key: str | None, non_json: NonJson) -> Rule:
    data = {name: each for name, each in fields.items() if name.partition(".")[0] == data_key}
    record = {name: each for name, each in fields.items() if name not in data}
    if data_key in data and non_json is NonJson.DROPPED:
        hint = "the data of this source is JSON: give an object with its fields"
        raise BadPattern("an object is needed here", (data_key,), hint)
    return Rule(
        number,
        fields,
        record=fields_of(record) if record else None,
        data=fields_of(data).below[0][1] if data else None,
    )


def compile_pattern(pattern: object) -> tuple[Alternative, ...]:
    """One pattern's alternatives: more than one only by `$or`. A pattern is a JSON text, or what
    one stands for, decoded by `json_text.read` or anything else (then numbers are as Python writes
    them)."""
    decoded = _decoded(pattern) if isinstance(pattern, str) else pattern
    if not isinstance(decoded, Mapping):
        raise BadPattern("a pattern is an object", (), 'begin with a field: {"value": {…}}')
    if _characters(decoded) > CHARACTERS_MAX:
        raise BadPattern(_TOO_LONG)
    alternatives = _compiled(decoded, [{}], "", ())
    if sum(map(len, alternatives)) > FIELDS_MAX:
        hint = "make several patterns of it, or name fewer fields beside"
        raise BadPattern(f"the combinations of {OR} have more than {FIELDS_MAX:,} fields", (), hint)
    return tuple(alternatives)


_TOO_LONG = f"a pattern has {CHARACTERS_MAX:,} characters at the most"
_TOO_DEEP = f"a pattern nests {DEPTH_MAX} levels deep at the most"

_Fields: TypeAlias = dict[str, Condition]


def _decoded(text: str) -> Any:
    if len(text) > CHARACTERS_MAX:
        raise BadPattern(_TOO_LONG)
    try:
        return json_text.read(text)
    except ValueError as cause:
        raise BadPattern(f"this is not JSON: {cause}") from cause


def _characters(pattern: object) -> int:
    """About how long the JSON text of a decoded pattern is, as short as it can be written."""
    total, todo = 0, [pattern]
    while todo and total <= CHARACTERS_MAX:
        value = todo.pop()
        if isinstance(value, Mapping):
            total += 1 + sum(len(str(key)) + 4 for key in value)
            todo += value.values()
        elif isinstance(value, list | tuple):
            total += 1 + len(value)
            todo += value
        else:
            total += len(str(value))
    return total


OR = "$or"
RESERVED = frozenset({
    "exactly", "equals-ignore-case", "prefix", "suffix", "anything-but", "exists", "wildcard",
    "numeric", "cidr", "=", "<", "<=", ">", ">=", "regex", "not-wildcard",
    "not-equals-ignore-case", "date-after", "date-on-or-after", "date-before",
    "date-on-or-before", "in-date-range", "ip-address-in-range", "ip-address-not-in-range",
})  # fmt: skip
"""What a field in an alternative of `$or` cannot be named: it would be taken for an operator."""


def _compiled(
    pattern: Mapping[Any, object], found: list[_Fields], prefix: str, place: Path
) -> list[_Fields]:
    """The alternatives found so far, each with the fields of an object put into it: `prefix` is
    before their names, `place` is where they stand in the pattern. Of equal names the last counts.
    """
    if not pattern:
        raise BadPattern("an empty object matches nothing", place, "name a field")
    if len(place) > DEPTH_MAX:
        raise BadPattern(_TOO_DEEP, place[:1])
    for key, inner in pattern.items():
        at = (*place, key)
        name = f"{prefix}{key}"
        if key == OR:
            found = _forked(inner, found, prefix, at)
        elif OR in place and key in RESERVED:
            raise BadPattern(f"within {OR} no field can be called {key}", at)
        elif name.count(".") >= DEPTH_MAX:
            raise BadPattern(_TOO_DEEP, place[:1])
        elif isinstance(inner, Mapping):
            found = _compiled(inner, found, f"{name}.", at)
        elif isinstance(inner, list | tuple):
            condition = condition_of(inner, at)
            for fields in found:
                fields[name] = condition
        else:
            hint = "put what is wanted into a list, also where it is one value"
            raise BadPattern("a list of values or an object of fields is needed here", at, hint)
    return found


def _forked(inner: object, found: list[_Fields], prefix: str, place: Path) -> list[_Fields]:
    """Each alternative found so far, once with the fields of each object of an `$or`."""
    if not isinstance(inner, list | tuple) or len(inner) < 2:
        raise BadPattern(f"{OR} needs a list of two objects or more", place)
    forked: list[_Fields] = []
    for number, each in enumerate(inner):
        at = (*place, number)
        if not isinstance(each, Mapping):
            raise BadPattern(f"{OR} takes objects alone", at)
        forked += _compiled(each, [dict(fields) for fields in found], prefix, at)
        if len(forked) > ALTERNATIVES_MAX:
            raise BadPattern(f"{OR} makes more than {ALTERNATIVES_MAX:,} combinations", place)
    return forked
