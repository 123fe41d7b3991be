"""YAML 1.2 with a place for every word."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamfaas.config import document

SAFE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=10)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(10**18), 10**18), SAFE),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(SAFE.filter(bool), inner, max_size=4)
    ),
    max_leaves=15,
)


@given(VALUES)
def test_json_is_read_as_what_it_says(value):
    root, problems = document.parse(json.dumps({"a": value}))
    assert document.plain(root) == {"a": value}
    assert problems == []


@given(st.dictionaries(SAFE.filter(bool), VALUES, min_size=1, max_size=4))
def test_every_key_and_value_knows_its_place(value):
    text = json.dumps(value, indent=2)
    lines = text.split("\n")
    root, _ = document.parse(text)
    for key, (line, column) in root.keys.items():
        assert lines[line - 1][column - 1 :].startswith(json.dumps(key))
    for _, scalar in document.scalars(root):
        written = json.dumps(scalar.value)
        assert lines[scalar.line - 1][scalar.column - 1 :].startswith(written)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("", None), ("~", None), ("null", None), ("NULL", None), ("true", True), ("False", False),
        ("7", 7), ("-7", -7), ("+7", 7), ("0", 0), ("0x1F", 31), ("1e3", 1000.0), ("1.5", 1.5), (".5", 0.5),
        ("-.inf", -math.inf), ("y", "y"), ("n", "n"), ("1:x", "1:x"), ("nul", "nul"), ("1.2.3", "1.2.3"),
        ("2026-01-01", "2026-01-01"), ("k1:9092", "k1:9092"), ("127.0.0.1:9092", "127.0.0.1:9092"), ("9" * 40, "9" * 40),
    ],
)  # fmt: skip
def test_words_without_quotes_mean_what_yaml_1_2_says(word, value):
    root, problems = document.parse(f"a: {word}\n")
    assert document.plain(root) == {"a": value}
    assert problems == []


def test_nan_is_a_number_that_no_limit_lets_pass():
    root, _ = document.parse("a: .nan")
    assert math.isnan(document.plain(root)["a"])


@pytest.mark.parametrize(
    "word",
    ["yes", "No", "ON", "off", "0755", "-01", "0o17", "0b1", "1:30", "12:30:45", "1_000", "00.5"],
)
def test_words_that_programs_read_differently_are_told(word):
    root, problems = document.parse(f"a: {word}\n")
    assert [problem.code for problem in problems] == ["SF1010"]
    assert document.plain(root) == {"a": word}
    assert document.parse(f"a: '{word}'\n")[1] == []


def test_colons_in_brackets_need_no_quotes():
    root, problems = document.parse(
        "{brokers: [k1:9092, k2:9092], at: 2026-01-01T00:00:00Z, e: [s3:ObjectCreated:*]}"
    )
    assert problems == []
    assert document.plain(root)["brokers"] == ["k1:9092", "k2:9092"]
    assert document.plain(root)["at"] == "2026-01-01T00:00:00Z"


def test_one_document_may_begin_and_end_with_marks():
    root, problems = document.parse("%YAML 1.2\n---\na: 1\n...\n")
    assert (document.plain(root), problems) == ({"a": 1}, [])


def test_64_levels_are_read_and_65_are_not():
    root, _ = document.parse("a: " + "[" * 63 + "]" * 63)
    assert isinstance(root, document.Table)
    with pytest.raises(document.Unreadable):
        document.parse("a: " + "[" * 64 + "]" * 64)


def test_a_path_is_written_so_that_it_stays_on_one_line():
    assert document.dotted(("functions", "a b", 3, "x\ny")) == 'functions."a b".3."x\\ny"'


def test_a_place_that_is_not_there_is_that_of_what_is_around_it():
    root, _ = document.parse("a:\n  b: {c: 1}\n")
    assert document.place(root, ("a", "b", "c")) == (2, 10)
    assert document.place(root, ("a", "b", "c"), key=True) == (2, 7)
    assert document.place(root, ("a", "b", "d")) == (2, 3)
    assert document.place(root, ("x", "y")) == (1, 1)
