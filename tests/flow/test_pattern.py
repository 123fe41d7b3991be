from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import naive_patterns
from parts import vectors
from streamfaas.flow import json_text
from streamfaas.flow.errors import BadPattern
from streamfaas.flow.pattern import NonJson, compile_filter, compile_pattern


def matches(pattern, event):
    """Whether an event (a JSON text) satisfies a pattern, as a record without data."""
    record = json_text.read(event)
    return compile_filter([pattern], None, NonJson.DROPPED).wants(record, None)


LEAVES = json_text.read(
    """["", "a", "A", "ab", "aB", "ba", "a*b", "é", "É", "1", "10.0.0.1", "10.9.0.1", "::ffff:a00:1",
    "::1", "0:0::1", 0, -0, 1, 1.0, 10e-1, 2, 2.5, -3, 1e400, 0.1234567890123456789, true, null]"""
)
ENTRIES = json_text.read(
    r"""["", "a", "ab", "10.0.0.1", "::1", 1, 1.0, true, null, {"exactly": "10.0.0.1"},
    {"prefix": ""}, {"prefix": "a"}, {"prefix": {"equals-ignore-case": "É"}},
    {"suffix": "b"}, {"suffix": {"equals-ignore-case": "Ab"}}, {"equals-ignore-case": "aB"},
    {"wildcard": "*"}, {"wildcard": "a*"}, {"wildcard": "a*b"}, {"wildcard": "*b*"},
    {"wildcard": "a\\*b"}, {"numeric": ["=", 1]}, {"numeric": [">", 0, "<=", 2.5]},
    {"numeric": ["<", 0]}, {"cidr": "10.0.0.0/24"}, {"cidr": "10.0.0.0/8"}, {"cidr": "::/64"},
    {"exists": true}, {"exists": false}, {"exists": false}, {"anything-but": "a"},
    {"anything-but": ["a", "ab"]}, {"anything-but": [1, 2]}, {"anything-but": {"prefix": "a"}},
    {"anything-but": {"suffix": ["a", "b"]}}, {"anything-but": {"wildcard": "*b*"}},
    {"anything-but": {"equals-ignore-case": ["AB", "É"]}}]"""
)
FEW = json_text.read("""["a", "ab", 1, null]""")
SOME = json_text.read("""["a", 1, {"exists": true}, {"exists": false}, {"anything-but": "a"}]""")
NAMES = ["a", "b", "c", "b.c", "a.b"]


class Choices:
    """Patterns and events, each made of bytes: much faster than drawing them part by part."""

    def __init__(self, data):
        self.bytes = iter(data)

    def among(self, options):
        return options[next(self.bytes, 0) % len(options)]

    def pattern(self, depth=3):
        names = [self.among(NAMES) for _ in range(self.among([1, 2, 3]))]
        pattern = {name: self.field(depth - 1) for name in names}
        if depth and self.among([0, 0, 0, 1]):
            pattern["$or"] = [self.pattern(depth - 1), self.pattern(depth - 1)]
        return pattern

    def field(self, depth):
        if depth and self.among([0, 1]):
            return self.pattern(depth)
        return [self.among(SOME) for _ in range(self.among([1, 2]))]

    def event(self, depth=4):
        names = [self.among(NAMES) for _ in range(self.among([1, 2, 3]))]
        return {name: self.value(depth - 1) for name in names}

    def value(self, depth):
        kind = self.among(["leaf", "object", "list", "list"] if depth else ["leaf"])
        if kind == "object":
            return self.event(depth)
        if kind == "list":
            return [self.value(depth - 1) for _ in range(self.among([1, 2, 3, 0]))]
        return self.among(FEW)


def ambiguous(event):
    """Whether one field is written both as `a.b` and as the `b` of an `a`."""
    if isinstance(event, list):
        return any(map(ambiguous, event))
    if not isinstance(event, dict):
        return False
    twice = any(name.partition(".")[0] in event for name in event if "." in name)
    return twice or any(map(ambiguous, event.values()))


@settings(max_examples=2_000)
@given(st.binary(min_size=30, max_size=60), st.binary(min_size=30, max_size=90))
def test_it_agrees_with_a_matcher_that_tries_everything(one, other):
    pattern, event = Choices(one).pattern(), Choices(other).event()
    assume(not ambiguous(event))  # which of the two is meant then, each may see in its own way
    found = compile_filter([pattern], None, NonJson.DROPPED).wants(event, None)
    assert found is naive_patterns.matches(pattern, event)


@pytest.mark.parametrize("entry", ENTRIES, ids=str)
def test_each_operator_agrees_with_the_other_matcher_on_each_value(entry):
    wants = compile_filter([{"a": [entry]}], None, NonJson.DROPPED).wants
    wrong = [
        value
        for value in LEAVES
        if wants({"a": value}, None) is not naive_patterns.matches({"a": [entry]}, {"a": value})
    ]
    assert wrong == []


DISAGREEMENTS = {}
"""Cases of the reference matcher that are answered otherwise on purpose, by id, with the reason."""


def cases(name):
    text = (vectors("patterns") / f"{name}.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_it_answers_as_the_reference_matcher_did():
    seen = cases("event_ruler_match")
    wrong = {
        case["id"]
        for case in seen
        if matches(case["pattern"], case["event"]) is not case["expected"]
    }
    assert wrong == set(DISAGREEMENTS)
    assert len(seen) > 1_600
    assert min(Counter(case["expected"] for case in seen).values()) > 500


def is_valid(pattern):
    try:
        return bool(compile_pattern(pattern))
    except BadPattern:
        return False


def test_it_takes_and_refuses_the_patterns_that_the_reference_matcher_does():
    seen = cases("event_ruler_validity")
    assert {case["id"] for case in seen if is_valid(case["pattern"]) is not case["valid"]} == set()
    assert sum(not case["valid"] for case in seen) == 100


JSON = b'{"status": "paid", "total": 3.0e2, "lines": [{"sku": "x"}]}'
TEXT = b"a line of text"
BYTES = b"\xff\xfe"
PAID, UNPAID = {"value": {"status": ["paid"]}}, {"value": {"status": ["new"]}}
A_LINE, NO_LINE = {"value": [{"prefix": "a line"}]}, {"value": [{"prefix": "b"}]}
ON_TOPIC, OFF_TOPIC = {"topic": ["orders"]}, {"topic": ["others"]}


@pytest.mark.parametrize(
    ("pattern", "data", "ignored", "compared", "dropped"),
    [
        (PAID, JSON, True, True, True),
        (UNPAID, JSON, False, False, False),
        (PAID, TEXT, True, False, False),
        (UNPAID, TEXT, True, False, False),
        (PAID, b'"paid"', True, False, False),
        (PAID, b"12", True, False, False),
        (PAID, b"", True, False, False),
        (PAID, b'{"status": "paid"', True, False, False),
        (PAID, BYTES, True, False, False),
        (A_LINE, TEXT, True, True, None),
        (NO_LINE, TEXT, False, False, None),
        (A_LINE, JSON, True, False, None),
        (NO_LINE, JSON, True, False, None),
        (NO_LINE, BYTES, True, False, None),
        (ON_TOPIC, JSON, True, True, True),
        (ON_TOPIC, TEXT, True, True, True),
        (ON_TOPIC, BYTES, True, True, True),
        (OFF_TOPIC, JSON, False, False, False),
        (PAID | OFF_TOPIC, BYTES, False, False, False),
        (PAID | ON_TOPIC, BYTES, True, False, False),
        (PAID, None, False, False, False),
        (NO_LINE, None, False, False, None),
        ({"value": {"status": [{"exists": False}]}}, None, True, True, True),
        ({"value": [{"exists": False}]}, None, True, True, None),
        ({"value": [{"exists": True}]}, None, False, False, None),
    ],
)
def test_data_that_is_not_as_expected_is_ignored_compared_or_dropped_by_source(
    pattern, data, ignored, compared, dropped
):
    for non_json, wanted in zip(NonJson, [ignored, dropped, compared], strict=True):
        if wanted is None:
            with pytest.raises(BadPattern, match="an object is needed"):
                compile_filter([pattern], "value", non_json)
        else:
            filter_ = compile_filter([pattern], "value", non_json)
            assert filter_.wants({"topic": "orders"}, data) is wanted


def test_a_kafka_record_is_matched_by_its_metadata_too():
    record = {
        "topic": "orders",
        "partition": 3,
        "offset": 12,
        "timestamp": 1_700_000_000_000,
        "key": "customer-7",
        "headers": {"source": "web", "trace.id": "t1"},
    }

    def wants(pattern):
        return compile_filter([pattern], "value", NonJson.IGNORED).wants(record, BYTES)

    assert wants({"partition": [2, 3], "offset": [{"numeric": [">=", 12]}]})
    assert wants({"key": [{"prefix": "customer-"}], "headers": {"source": ["web"]}})
    assert wants({"headers": {"trace.id": ["t1"]}})
    assert wants({"headers.trace.id": ["t1"]})
    assert not wants({"headers": {"source": ["app"]}})
    assert not wants({"partition": ["3"]})
    assert not wants({"schema": [{"exists": True}]})


def test_any_of_several_patterns_is_enough_and_none_at_all_want_everything():
    both = compile_filter([OFF_TOPIC, json.dumps(PAID)], "value", NonJson.DROPPED)
    assert both.wants({"topic": "orders"}, JSON)
    assert not both.wants({"topic": "orders"}, TEXT)
    assert compile_filter([], "value", NonJson.DROPPED).wants({}, None)
