import re
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamfaas.flow import checks

letters = st.text("aAbBßﬁΣςkK.ǅ*\n", max_size=6)
parts = st.lists(st.text("ab.", max_size=3), min_size=2, max_size=5)


@given(parts, st.text("ab.", max_size=12))
@example(["a", "a"], "a")
@example(["ab", "ba"], "aba")
def test_parts_are_found_as_an_expression_finds_them(wanted, text):
    expression = ".*".join(map(re.escape, wanted))
    assert checks.like(wanted)(text) is bool(re.fullmatch(expression, text, re.DOTALL))


def spellings(text):
    """Each way to write a text in upper and lower case, character by character."""
    found = [""]
    for character in text:
        found = [one + case for one in found for case in (character.lower(), character.upper())]
    return found


@given(letters, letters)
def test_case_is_ignored_character_by_character(wanted, text):
    spelt = spellings(wanted)
    assert checks.same_ignoring_case(wanted)(text) is (text in spelt)
    assert checks.begins_ignoring_case(wanted)(text) is any(map(text.startswith, spelt))
    assert checks.ends_ignoring_case(wanted)(text) is any(map(text.endswith, spelt))


@given(letters, letters)
def test_every_spelling_of_a_text_is_the_same_but_for_case(wanted, other):
    for text in spellings(wanted):
        assert checks.same_ignoring_case(wanted)(text)
        assert checks.begins_ignoring_case(wanted)(text + other)
        assert checks.ends_ignoring_case(wanted)(other + text)


@pytest.mark.slow
def test_no_character_has_a_case_that_is_a_part_of_its_other():
    """So an expression of both can decide at once, and never has to go back."""
    for point in range(sys.maxunicode + 1):
        lower, upper = chr(point).lower(), chr(point).upper()
        if lower != upper:
            assert not lower.startswith(upper), chr(point)
            assert not upper.startswith(lower), chr(point)
            assert not lower.endswith(upper), chr(point)
            assert not upper.endswith(lower), chr(point)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_double_can_be_compared(number):
    assert checks.comparable(repr(number)) == number


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("-0", 0),
        ("3.0e2", 300),
        ("123456789012345", 123456789012345),
        ("9007199254740993", None),  # 2^53 + 1
        ("0.1234567890123456789", None),
        ("1" + "0" * 300, 1e300),
        ("1" + "0" * 400, None),
        ("0." + "0" * 990 + "1", None),
        ("1." + "0" * 998, 1),
        ("1." + "0" * 999, None),
        ("2.0e422", None),
        ("1E-325", None),
        ("1e99999999999999999999", None),
        ("1e-99999999999999999999", None),
        ("0e99999999999999999999", None),
    ],
)
def test_a_number_is_compared_only_where_a_double_holds_what_is_written(text, value):
    assert checks.comparable(text) == value


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("10.0.0.1", (4, 0x0A000001)),
        ("010.000.000.001", (4, 0x0A000001)),
        ("256.0.0.1", None),
        ("10.0.0", None),
        ("10.0.0.0001", None),
        ("\u0661.0.0.1", None),
        ("::1", (6, 1)),
        ("0:0:0:0:0:0:0:1", (6, 1)),
        ("::ffff:a00:1", (4, 0x0A000001)),
        ("::ffff:10.0.0.1", None),
        ("fe80::1%eth0", None),
        (":".join(["ffff"] * 8), (6, 2**128 - 1)),
        (":".join(["ffff"] * 7) + ":0ffff", None),
        ("1:2", None),
        ("12:30:00", None),
        ("::" * 1_000_000, None),
        ("", None),
        ("a", None),
    ],
)
def test_an_address_is_one_however_it_is_written(text, found):
    assert checks.address(text) == found
