import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patterns_made import Choices
from streamfaas.flow import json_text
from streamfaas.flow.mismatch import Answer, Miss, answers
from streamfaas.flow.pattern import NonJson, compile_filter, data_of


def told(pattern, event, data=None, non_json=NonJson.IGNORED):
    """What is said of one pattern."""
    judged = compile_filter([pattern], "value", non_json)
    (answer,) = answers(judged, json_text.read(event), data_of(data))
    return answer


@pytest.mark.slow
@settings(max_examples=300)
@given(st.binary(min_size=30, max_size=60), st.binary(min_size=30, max_size=90))
def test_there_is_a_reason_exactly_where_a_record_is_not_wanted(one, other):
    pattern, event = Choices(one).pattern(), Choices(other).event()
    judged = compile_filter([pattern], None, NonJson.DROPPED)
    (answer,) = answers(judged, event, data_of(None))
    assert answer.matches is judged.wants(event, None)


@pytest.mark.parametrize(
    ("pattern", "event", "miss"),
    [
        (
            '{"a": ["x", {"prefix": "y"}], "b": [1]}',
            '{"a": "z"}',
            Miss("a", '"x" or a text that begins with "y"', '"z"'),
        ),
        (
            '{"a": [{"suffix": "y"}, {"suffix": {"equals-ignore-case": "Y"}}]}',
            '{"a": "x"}',
            Miss("a", 'a text that ends in "y" or a text that ends in "Y" in any case', '"x"'),
        ),
        ('{"a": [true], "b": [1]}', '{"a": true}', Miss("b", "1", "nothing")),
        ('{"a": [300]}', '{"a": 300.0}', Miss("a", "300", "300.0")),
        ('{"a": ["1"]}', '{"a": 1}', Miss("a", '"1"', "1")),
        (
            '{"a": {"b": [{"numeric": [">", 0, "<=", 5]}]}}',
            '{"a.b": 6}',
            Miss("a.b", "a number > 0 and <= 5", "6"),
        ),
        ('{"a": [{"exists": true}]}', '{"a": {"b": 1}}', Miss("a", "any value", "an object")),
        ('{"a": [{"exists": false}]}', '{"a": null}', Miss("a", "nothing there", "null")),
        ('{"a": [null]}', '{"a": [1, [2], "3", {}, 5]}', Miss("a", "null", '1, 2, "3", more')),
        (
            '{"a": [{"anything-but": ["x", "y"]}]}',
            '{"a": "y"}',
            Miss("a", 'anything but "x", "y"', '"y"'),
        ),
        (
            '{"e": {"z": [{"exists": false}], "n": ["A"], "m": ["B"]}}',
            '{"e": [{"n": "A", "z": 1}, {"m": "B"}]}',
            Miss("e.m", '"B"', '"B", in no element of a list that has the fields before it too'),
        ),
        ('{"a": ["x"]}', f'{{"a": "{"y" * 98}"}}', Miss("a", '"x"', f'"{"y" * 98}"')),
        ('{"a": ["x"]}', f'{{"a": "{"y" * 500}"}}', Miss("a", '"x"', '"' + "y" * 98 + "…")),
    ],
)
def test_the_first_field_that_fails_is_named_with_what_was_wanted_and_found(pattern, event, miss):
    assert told(pattern, event) == Answer(0, (miss,))


def test_each_alternative_has_its_own_miss():
    pattern = '{"$or": [{"a": ["x"]}, {"b": ["y"]}], "c": [1]}'
    assert told(pattern, '{"a": "x"}') == Answer(
        0, (Miss("c", "1", "nothing"), Miss("b", '"y"', "nothing"))
    )
    assert told(pattern, '{"b": "y", "c": 1}') == Answer(0)


def test_data_of_another_kind_is_the_reason_or_is_ignored():
    pattern = '{"topic": ["t"], "value": {"a": [1], "b": [2]}}'
    compared = told(pattern, '{"topic": "t"}', b"a=1", NonJson.COMPARED)
    assert compared == Answer(0, (Miss("value.a", "1", "plain text in value"),))
    assert told(pattern, '{"topic": "t"}', b"a=1") == Answer(0, ignored=True)
    assert told(pattern, '{"topic": "u"}', b"\xff") == Answer(0, (Miss("topic", '"t"', '"u"'),))
    assert told(pattern, '{"topic": "t"}', b'{"a": 1}').misses == (Miss("value.b", "2", "nothing"),)
    assert told(pattern, '{"topic": "t"}').misses == (Miss("value.a", "1", "nothing"),)
    assert told(pattern, '{"topic": "t"}', b'{"a": 1, "b": 2}') == Answer(0)
    assert told('{"value": [{"exists": false}]}', "{}") == Answer(0)
