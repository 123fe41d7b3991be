from __future__ import annotations

import dataclasses
import datetime as dt
import json
import math
from collections import OrderedDict
from decimal import Decimal
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guest_parts import libraries
from streamfaas.guest.python.marshalling import make_dumps, make_loads, make_measure

FAST = make_dumps(libraries().orjson)
SLOW = make_dumps(None)
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


class Point(NamedTuple):
    x: int
    y: int


ASKED = [FAST, SLOW]
READ = [make_loads(libraries().orjson), make_loads(None)]


@pytest.mark.parametrize("dumps", ASKED)
@given(value=JSON_VALUES)
def test_an_answer_comes_back_as_it_was(dumps, value):
    assert json.loads(dumps(value)) == value


@pytest.mark.parametrize("loads", READ)
@given(value=JSON_VALUES)
def test_an_event_is_what_the_standard_library_makes_of_it(loads, value):
    text = json.dumps(value).encode()
    assert loads(memoryview(text)) == json.loads(text)


@pytest.mark.parametrize("dumps", ASKED)
@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (None, b"null"),
        ({"n": 1 << 70}, b'{"n":1180591620717411303424}'),
        ({1: "a", 2.5: "b", None: "c"}, b'{"1":"a","2.5":"b","null":"c"}'),
        (Decimal("1.5"), b"1.5"),
        (Decimal(3), b"3"),
        ((1, 2), b"[1,2]"),
        (OrderedDict(a=1), b'{"a":1}'),
        (Point(1, 2), b"[1,2]"),
        ("\ud800", b'"\\ud800"'),
    ],
)
def test_what_python_s_json_accepts_is_accepted(dumps, answer, text):
    assert dumps(answer) == text


@pytest.mark.parametrize("dumps", ASKED)
def test_nan_is_nan_as_on_lambda_and_not_null(dumps):
    assert dumps({"a": math.nan, "b": None}) == b'{"a":NaN,"b":null}'


@dataclasses.dataclass
class Data:
    field: int


@pytest.mark.parametrize("dumps", ASKED)
@pytest.mark.parametrize(
    "answer",
    [b"bytes", {1, 2}, dt.datetime(2026, 1, 1), Data(1), object()],
    ids=lambda answer: type(answer).__name__,
)
def test_what_python_s_json_refuses_is_refused(dumps, answer):
    with pytest.raises(TypeError, match="is not JSON serializable"):
        dumps(answer)


@pytest.mark.parametrize("dumps", ASKED)
def test_an_answer_that_holds_itself_is_refused(dumps):
    answer = []
    answer.append(answer)
    with pytest.raises((ValueError, RecursionError)):
        dumps(answer)


@pytest.mark.parametrize("loads", READ)
@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"18446744073709551616123", 18446744073709551616123),
        (b'{"n":-99999999999999999999}', {"n": -99999999999999999999}),
        (b'"\\ud800"', "\ud800"),
        (b"Infinity", math.inf),
        (b'{"a":1,"a":2}', {"a": 2}),
    ],
)
def test_events_that_only_python_s_json_reads_are_read_as_it_does(loads, text, value):
    assert loads(text) == value


@pytest.mark.parametrize("loads", READ)
@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"{'a':1}"])
def test_nonsense_is_refused(loads, text):
    with pytest.raises(ValueError, match=r"."):
        loads(text)


def test_the_measure_is_that_of_the_text():
    value = {"a": [1, None, "\x7f", "ö"]}
    assert make_measure(None)(value) == make_measure(libraries().orjson)(value)
