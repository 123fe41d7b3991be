from __future__ import annotations

import json
import sys
from collections import Counter

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import naive_patterns
from parts import vectors
from patterns_made import Choices
from streamfaas.flow import json_text
from streamfaas.flow.errors import BadPattern
from streamfaas.flow.json_text import DEPTH_MAX as JSON_DEPTH_MAX
from streamfaas.flow.pattern import (
    ALTERNATIVES_MAX,
    CHARACTERS_MAX,
    DEPTH_MAX,
    FIELDS_MAX,
    PATTERNS_MAX,
    NonJson,
    compile_filter,
    compile_pattern,
)


def calls(function):
    """How many calls a function makes, its own included."""
    count = 0

    def tick(_frame, event, _argument):
        nonlocal count
        count += event == "call"

    sys.setprofile(tick)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


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


def ambiguous(event):
    """Whether one field is written both as `a.b` and as the `b` of an `a`."""
    if isinstance(event, list):
        return any(map(ambiguous, event))
    if not isinstance(event, dict):
        return False
    twice = any(name.partition(".")[0] in event for name in event if "." in name)
    return twice or any(map(ambiguous, event.values()))


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.parametrize(
    ("pattern", "where", "message"),
    [
        ('{"a": [1]', "", r"this is not JSON: .*line 1 column 10"),
        ("[]", "", "a pattern is an object"),
        ("{}", "", "an empty object matches nothing"),
        ('{"a": {"b": {}}}', "a.b", "an empty object matches nothing"),
        ('{"a": {"b": []}}', "a.b", "an empty list accepts nothing"),
        ('{"a": "x"}', "a", "a list of values or an object of fields is needed here"),
        ('{"a": [["x"]]}', "a[0]", "a list holds texts, numbers"),
        ('{"a": ["x", {"prefx": "y"}]}', "a[1]", "there is no operator 'prefx'"),
        ('{"a": [{}]}', "a[0]", "one operator is needed here, not 0"),
        ('{"a": [{"prefix": "x", "suffix": "y"}]}', "a[0]", "one operator is needed here, not 2"),
        ('{"a": [{"prefix": {"suffix": "y"}}]}', "a[0].prefix", "there is no 'suffix' here"),
        ('{"a": [{"exists": "yes"}]}', "a[0].exists", "exists is true or false"),
        (r'{"a": [{"wildcard": "a\\b"}]}', "a[0].wildcard", r"\\ before 'b' means nothing"),
        (r'{"a": [{"wildcard": "a\\"}]}', "a[0].wildcard", r"\\ before '' means nothing"),
        ('{"a": [{"wildcard": "a**b"}]}', "a[0].wildcard", r"two \* in a row"),
        ('{"a": [{"numeric": [">"]}]}', "a[0].numeric", "a comparison and a number"),
        ('{"a": [{"numeric": ["!=", 1]}]}', "a[0].numeric", "there is no comparison '!='"),
        ('{"a": [{"numeric": [[], 1]}]}', "a[0].numeric", "there is no comparison"),
        ('{"a": [{"numeric": [">", "1"]}]}', "a[0].numeric", "a number is needed here"),
        ('{"a": [{"numeric": [">", 1e400]}]}', "a[0].numeric", "1e400 cannot be compared"),
        ('{"a": [{"numeric": [">", 5, "<", 5]}]}', "a[0].numeric", "must be below"),
        ('{"a": [{"numeric": ["<", 5, ">", 1]}]}', "a[0].numeric", "a range is"),
        ('{"a": [{"numeric": [">", 1, ">", 5]}]}', "a[0].numeric", "a range is"),
        ('{"a": [{"numeric": ["<", 1, "<", 5]}]}', "a[0].numeric", "a range is"),
        ('{"a": [{"cidr": "10.0.0.0"}]}', "a[0].cidr", "is no block of addresses"),
        ('{"a": [{"cidr": "10.0.0.0/32"}]}', "a[0].cidr", "0 to 31 bits, not 32"),
        ('{"a": [{"cidr": "::/128"}]}', "a[0].cidr", "0 to 127 bits, not 128"),
        ('{"a": [{"anything-but": ["x", 1]}]}', "a[0].anything-but", "texts or numbers"),
        ('{"a": [{"anything-but": []}]}', "a[0].anything-but", "texts or numbers"),
        ('{"a": [{"anything-but": null}]}', "a[0].anything-but", "texts or numbers"),
        (
            '{"a": [{"anything-but": {"cidr": "x"}}]}',
            "a[0].anything-but",
            "there is no 'cidr' here",
        ),
        (
            '{"a": [{"anything-but": {"prefix": ["x", ""]}}]}',
            "a[0].anything-but.prefix",
            "at least one character",
        ),
        ('{"$or": {"a": [1]}}', "$or", "needs a list of two objects or more"),
        ('{"$or": [{"a": [1]}]}', "$or", "needs a list of two objects or more"),
        ('{"$or": [{"a": [1]}, 2]}', "$or[1]", "takes objects alone"),
        ('{"b": {"$or": [{"a": [1]}, {"prefix": ["x"]}]}}', "b.$or[1].prefix", "no field can be"),
    ],
)
def test_a_bad_pattern_is_refused_with_its_place(pattern, where, message):
    with pytest.raises(BadPattern, match=message) as caught:
        compile_pattern(pattern)
    assert caught.value.where == where


def nested(levels):
    pattern = {"a": [1]}
    for _ in range(levels - 1):
        pattern = {"a": pattern}
    return pattern


def choices(*counts):
    """A pattern of so many combinations as the product of the counts."""
    return {
        f"f{at}": {"$or": [{f"o{n}": [1]} for n in range(count)]} for at, count in enumerate(counts)
    }


@pytest.mark.parametrize(
    ("fits", "does_not", "message"),
    [
        ([{"a": [1]}] * PATTERNS_MAX, [{"a": [1]}] * 10_000, "10 may be"),
        (
            ['{"a": ["' + "x" * (CHARACTERS_MAX - 11) + '"]}'],
            ['{"a": ["' + "x" * (CHARACTERS_MAX - 10) + '"]}'],
            "4,096 characters",
        ),
        ([{"a": [1] * 1_000}], [{"a": [1] * 1_000_000}], "4,096 characters"),
        ([{"a": [{"wildcard": "a*" * 64}]}], [{"a": [{"wildcard": "a*" * 65}]}], r"64 \*"),
        ([nested(DEPTH_MAX)], [nested(DEPTH_MAX + 1)], "32 levels"),
        ([{"a." * (DEPTH_MAX - 1) + "a": [1]}], [{"a." * DEPTH_MAX + "a": [1]}], "32 levels"),
        ([nested(DEPTH_MAX)], [nested(600)], "32 levels"),
        ([nested(DEPTH_MAX)], [nested(100_000)], "4,096 characters"),
        (
            ['{"$or":[{"a":[1]},' * 16 + '{"a":[1]}' + "]}" * 16],
            ['{"$or":[{"a":[1]},' * 17 + '{"a":[1]}' + "]}" * 17],
            "32 levels",
        ),
        ([choices(10, 10, 10)], [choices(10, 10, 11)], "1,000 combinations"),
        ([choices(10, 10, 10)], [choices(10, 10, 10, 10)], "1,000 combinations"),
        (
            [choices(10, 10) | {f"g{n}": [1] for n in range(198)}],
            [choices(10, 10) | {f"g{n}": [1] for n in range(199)}],
            "20,000 fields",
        ),
    ],
)
def test_patterns_have_bounds(fits, does_not, message):
    found = [each for pattern in fits for each in compile_pattern(pattern)]
    assert len(found) <= ALTERNATIVES_MAX
    assert sum(map(len, found)) <= FIELDS_MAX
    with pytest.raises(BadPattern, match=message):
        compile_filter(does_not, "value", NonJson.IGNORED)


def test_of_several_patterns_the_bad_one_is_named():
    with pytest.raises(BadPattern) as caught:
        compile_filter([PAID, {"value": {"a": [{"prefix": 1}]}}], "value", NonJson.IGNORED)
    assert caught.value.where == "[1].value.a[0].prefix"


@pytest.mark.parametrize(
    ("pattern", "event", "wanted"),
    [
        ('{"n": [300]}', '{"n": 300}', True),
        ('{"n": [300]}', '{"n": 300.0}', False),
        ('{"n": [300]}', '{"n": 3.0e2}', False),
        ('{"n": [3.0e2]}', '{"n": 3.0e2}', True),
        ('{"n": [{"numeric": ["=", 300]}]}', '{"n": 3.0e2}', True),
        ('{"n": {"N": [{"numeric": ["=", 300]}]}}', '{"n": {"N": "300"}}', False),
        ('{"n": [{"exists": true}]}', '{"n": {"S": "x"}}', False),
        ('{"n": [{"exists": false}]}', '{"n": {"S": "x"}}', True),
        ('{"n": [{"anything-but": "x"}]}', '{"n": null}', True),
        ('{"n": [{"anything-but": "x"}]}', "{}", False),
        ('{"n": ["x"], "n": ["y"]}', '{"n": "y"}', True),
        ('{"n": ["x"], "n": ["y"]}', '{"n": "x"}', False),
        ('{"n": [""]}', '{"n": ""}', True),
        ('{"n": [null]}', '{"n": ""}', False),
        ('{"n": ["::1"]}', '{"n": "0:0:0:0:0:0:0:1"}', True),
        ('{"n": ["x"], "$or": [{"n": ["y"]}, {"m": [1]}]}', '{"n": "y"}', True),
    ],
)
def test_easily_got_wrong(pattern, event, wanted):
    assert matches(pattern, event) is wanted


def test_numbers_of_python_are_what_python_writes():
    wants = compile_filter([{"n": [300, 2.5]}], None, NonJson.DROPPED).wants
    assert wants({"n": 300}, None)
    assert wants({"n": 2.5}, None)
    assert not wants({"n": 300.0}, None)
    assert not wants({"n": True}, None)


def side_by_side(size):
    """Arrays beside each other, in which all is found but the last field."""
    return {name: [{"x": f"{name}{n}"} for n in range(size)] for name in "abcd"}


def within_each_other(size):
    """One array with all that is looked for, but never in one element."""
    return {"a": [{"x": "1"}, {"y": "2"}, [{"z": "3"}]] * size}


def deep(size):
    """Arrays within arrays, each with a value beside it."""
    value = {"y": "2"}
    for _ in range(40):
        value = ["0", value, "1"]
    return {"a": [{"x": value} for _ in range(size)]}


@pytest.mark.parametrize(
    ("pattern", "event"),
    [
        ({name: {"x": [{"exists": True}]} for name in "abc"} | {"d": {"x": ["no"]}}, side_by_side),
        ({"a": {"x": ["1"], "y": ["2"], "z": ["3"]}}, within_each_other),
        ({"a": {"x": ["1"], "y": ["no"], "z": [{"exists": False}]}}, within_each_other),
        ({"a": {"w": [{"exists": False}], "z": [{"exists": False}]}}, within_each_other),
        ({"a": {"x": {"y": ["no"]}}}, deep),
        ({"a": {"x": {"w": [{"exists": False}], "y": ["no", {"exists": False}]}}}, deep),
    ],
)
@pytest.mark.slow
def test_the_work_grows_with_the_event_and_never_with_its_combinations(pattern, event):
    wants = compile_filter([pattern], None, NonJson.DROPPED).wants
    once, twice = event(100), event(200)
    assert not wants(twice, None)
    assert calls(lambda: wants(twice, None)) < 2.1 * calls(lambda: wants(once, None)) + 50


def test_data_of_the_greatest_depth_is_looked_through():
    data = (
        b'{"a": ' + b"[" * (JSON_DEPTH_MAX - 2) + b'{"b": 1}' + b"]" * (JSON_DEPTH_MAX - 2) + b"}"
    )
    pattern = {"value": {"a": {"b": [1], "a": [{"exists": False}]}}}

    def wanted(frames):
        if frames:
            return wanted(frames - 1)
        return compile_filter([pattern], "value", NonJson.DROPPED).wants({}, data)

    assert wanted(200)  # far down a stack, too


def test_stars_are_not_tried_again():
    wants = compile_filter(
        [{"value": [{"wildcard": "*a" * 60 + "*b"}]}], "value", NonJson.COMPARED
    ).wants
    assert not wants({}, b"a" * 1_000_000)
    assert wants({}, b"a" * 1_000_000 + b"b")


ANY_BYTES = st.binary(max_size=40) | st.text(
    '[]{}:,"\\au0123.eE-+ntf \ufeff\ud7ff', max_size=40
).map(str.encode)


def is_plain_text(data):
    try:
        found = json.loads(data.decode(), parse_constant=lambda _: 1 / 0)
    except UnicodeDecodeError:
        return False
    except (ValueError, ZeroDivisionError):
        return True
    return not isinstance(found, dict | list)


@given(ANY_BYTES)
def test_no_data_is_an_error(data):
    for non_json, wanted in ((NonJson.IGNORED, True), (NonJson.COMPARED, is_plain_text(data))):
        judged = compile_filter([{"value": [{"exists": True}]}], "value", non_json)
        assert judged.wants({}, data) is wanted


def test_data_is_read_only_if_a_pattern_asks_for_it():
    class Untouched(bytes):
        def decode(self, *_):
            raise AssertionError

    judged = compile_filter([ON_TOPIC, OFF_TOPIC | PAID], "value", NonJson.IGNORED)
    assert judged.wants({"topic": "orders"}, Untouched())
    assert not judged.wants({"topic": "neither"}, Untouched())
    with pytest.raises(AssertionError):
        judged.wants({"topic": "others"}, Untouched())
