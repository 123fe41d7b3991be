"""How problems look when they are printed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamfaas.config.document import BLOT
from streamfaas.config.report import LINE_MAX, report, summary
from streamfaas.flow.errors import Problem

TEXT = "a: 1\n" * 22 + "      batch: {size: 500, window: 600s}\n"
PROBLEM = Problem(
    "SF1042", "triggers.orders.batch.window", 23, 34, "600s is over the limit of 300s", "try 60s"
)


def test_a_problem_is_shown_with_its_line_and_a_mark_below():
    assert report([PROBLEM], "streamfaas.yaml", TEXT) == (
        "streamfaas.yaml:23:34: error SF1042: triggers.orders.batch.window: 600s is over the limit of 300s\n"
        "   23 |       batch: {size: 500, window: 600s}\n"
        "      |                                  ^^^^ try 60s   (streamfaas explain SF1042)"
    )


def test_a_warning_says_so():
    assert summary(
        Problem("SF1093", "connections.a", 2, 3, "no trigger uses it", warning=True), "f"
    ) == ("f:2:3: warning SF1093: connections.a: no trigger uses it")


def test_a_problem_without_a_place_has_no_line():
    assert report([Problem("SF1001", "", 0, 0, "the file cannot be read")], "f", TEXT) == (
        "f: error SF1001: the file cannot be read\n      (streamfaas explain SF1001)"
    )


def test_a_secret_is_shown_in_a_length_that_tells_nothing_and_the_mark_stays_below():
    for length in (1, 3, 30):
        text = f"a: {{password: {BLOT * length}, x: 1}}"
        told = report([Problem("SF1040", "a.x", 1, 17 + length, "no")], "f", text)
        assert told.splitlines()[1:] == [
            "    1 | a: {password: ***, x: 1}",
            "      |                    ^ (streamfaas explain SF1040)",
        ]


@pytest.mark.parametrize(
    ("line", "column", "marks"),
    [
        ("a: 'b c', d", 4, "^^^^^"),
        ('a: "b', 4, "^^"),
        ("key: v", 1, "^^^"),
        ("a: [b, c]", 5, "^"),
        ("a:", 9, "^"),
    ],
)
def test_the_mark_is_as_long_as_the_word(line, column, marks):
    shown = report([Problem("SF1044", "", 1, column, "m")], "f", line).splitlines()[2]
    assert shown == f"      | {' ' * len(line[: column - 1])}{marks} (streamfaas explain SF1044)"


def test_wide_characters_move_the_mark_as_they_move_the_text():
    shown = report([Problem("SF1044", "", 1, 6, "m")], "f", "日本: x").splitlines()[2]
    assert shown.index("^") == len("      | ") + 7


def test_a_long_line_is_cropped_around_its_place():
    line = "a" * 500 + " here " + "b" * 500
    shown = report([Problem("SF1044", "", 1, 502, "m")], "f", line).splitlines()
    assert shown[1].startswith("    1 | …a")
    assert shown[1].endswith("b…")
    assert len(shown[1]) <= LINE_MAX + 8
    assert shown[1].index("here") == shown[2].index("^")


def test_more_problems_than_anybody_reads_are_counted():
    told = report([PROBLEM] * 130, "f", TEXT)
    assert told.endswith("… and 30 more")
    assert told.count("error SF1042") == 100


@given(st.text(max_size=300), st.text(max_size=50), st.integers(0, 5), st.integers(1, 400))
def test_no_text_can_forge_a_line_or_move_the_cursor(text, message, line, column):
    told = report([Problem("SF1044", message, line, column, message, message)], "f", text)
    assert all(c.isprintable() or c == "\n" for c in told)
    assert told.count("\n") <= 2
