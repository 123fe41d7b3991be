import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamfaas.flow.json_text import DEPTH_MAX, Number, members, read

values = st.recursive(
    st.none() | st.booleans() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=30)
@given(values)
def test_what_holds_no_number_is_read_as_by_anybody(value):
    assert read(json.dumps(value)) == value


@pytest.mark.parametrize("text", ["0", "-0", "300", "300.0", "3.0e2", "3E+2", "1e999", "9" * 5_000])
def test_a_number_keeps_its_text_and_is_no_text(text):
    found = read(f"[{text}]")[0]
    assert type(found) is Number
    assert found == text
    assert type(read(f'["{text}"]')[0]) is str


def test_of_two_equal_keys_the_last_counts():
    assert read('{"a": true, "a": false}') == {"a": False}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1,]",
        "{'a': 1}",
        "NaN",
        "[-Infinity]",
        "01",
        '"\t"',
        "[] []",
        "\ufeff{}",
        "nul",
        "+1",
    ],
)
def test_what_is_not_json_is_refused(text):
    with pytest.raises(ValueError, match=r"JSON|Expecting|Extra|Invalid|BOM"):
        read(text)


@pytest.mark.parametrize(
    ("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]"), ("[1,", ",2]")]
)
def test_nesting_has_a_bound_that_does_not_depend_on_the_stack(opening, closing):
    def nested(times):
        return opening * times + "null" + closing * times

    fits = DEPTH_MAX // sum(map(opening.count, "[{"))
    assert read(nested(fits))
    for times in (fits + 1, 900, 5_000, 200_000):
        with pytest.raises(ValueError, match="deep"):
            read(nested(times))


def test_many_things_side_by_side_are_not_deep():
    assert len(read("[" + ",".join(["[{}]"] * 1_000) + "]")) == 1_000


blanks = st.text(" \t\n\r", max_size=2)


@given(
    st.dictionaries(st.text(max_size=3), values | st.floats(allow_nan=False, allow_infinity=False)),
    blanks,
)
def test_members_are_the_texts_that_they_were_written_in(value, blank):
    texts = {key: json.dumps(each, indent=1) for key, each in value.items()}
    pairs = [f"{json.dumps(key)}{blank}:{blank}{text}" for key, text in texts.items()]
    whole = f"{blank}{{{blank}{f'{blank},{blank}'.join(pairs)}{blank}}}{blank}"
    assert members(whole) == texts


@given(st.text('{}":,[]1 a\n', max_size=8))
def test_members_are_those_of_json_objects_and_of_nothing_else(text):
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if isinstance(value, dict):
        assert {key: json.loads(each) for key, each in members(text).items()} == value
    else:
        with pytest.raises(ValueError, match=r"."):
            members(text)


def test_what_is_no_json_number_is_no_member():
    with pytest.raises(ValueError, match="NaN"):
        members('{"a": {"b": NaN}}')
    with pytest.raises(ValueError, match="deep"):
        members('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}")
