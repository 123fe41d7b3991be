"""The filter matrix: what becomes of data that is not what a pattern expects (line 9.8; points
10.8 to 10.10). Kafka's and a bucket's patterns are those of a configuration."""

from __future__ import annotations

import pytest

from config_project import KAFKA, found, project, valid  # noqa: F401
from kafka_scene import KafkaScene
from lane_scene import WALL, scene
from listed import LANE
from sqs_scene import SqsScene
from streamfaas.config.filters import compiled
from streamfaas.flow.errors import BadPattern
from streamfaas.flow.outcome import Success
from streamfaas.flow.pattern import NonJson, compile_filter
from streamfaas.flow.record import Record, run_of_records

KINDS = {
    "kinesis": ("data", NonJson.DROPPED),
    "dynamodb": ("dynamodb", NonJson.DROPPED),
    "sqs": ("body", NonJson.COMPARED),
    "kafka": ("value", NonJson.IGNORED),
    "mq": ("data", NonJson.IGNORED),
}
"""Where each source has its data, and what becomes of data that is not as expected."""

METADATA = {"name": "a"}


def wants(kind, pattern, data, metadata=None):
    """Whether a record is wanted by a pattern on its data, `DATA` in the pattern."""
    key, non_json = KINDS[kind]
    made = compile_filter([pattern.replace("DATA", key)], key, non_json)
    return made.wants(METADATA if metadata is None else metadata, data)


# -- the matrix, row by row


@pytest.mark.parametrize("kind", KINDS)
def test_9_08_a_json_pattern_and_a_json_record_are_matched(kind):
    pattern = '{"DATA": {"total": [7]}}'

    assert wants(kind, pattern, b'{"total": 7}')
    assert not wants(kind, pattern, b'{"total": 8}')
    assert not wants(kind, pattern, b"{}")


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [("kinesis", False), ("sqs", False), ("kafka", True), ("mq", True)],
)
@pytest.mark.parametrize("data", [b"plain text", b'{"total": 7', b"7", b"\xff\xfe"])
def test_9_08_a_json_pattern_and_a_record_that_is_none_is_dropped_or_the_pattern_ignored(
    kind, wanted, data
):
    assert wants(kind, '{"DATA": {"total": [7]}}', data) is wanted


@pytest.mark.parametrize("kind", ["kafka", "mq"])
def test_9_08_where_the_data_part_is_ignored_the_metadata_part_still_decides(kind):
    pattern = '{"name": ["a"], "DATA": {"total": [7]}}'

    assert wants(kind, pattern, b"plain text", {"name": "a"})
    assert not wants(kind, pattern, b"plain text", {"name": "b"})


@pytest.mark.parametrize("kind", ["kinesis", "dynamodb"])
def test_9_08_a_pattern_of_plain_text_is_refused_where_data_is_json(kind):
    with pytest.raises(BadPattern):
        wants(kind, '{"DATA": ["text"]}', b"text")


def test_9_08_a_pattern_of_plain_text_is_compared_with_a_message_of_a_queue():
    pattern = '{"DATA": ["text"]}'

    assert wants("sqs", pattern, b"text")
    assert not wants("sqs", pattern, b"other")
    assert not wants("sqs", pattern, b'{"text": 1}')


@pytest.mark.parametrize("kind", ["kafka", "mq"])
def test_9_08_a_pattern_of_plain_text_is_compared_with_plain_text_and_ignored_for_json(kind):
    pattern = '{"DATA": ["text"]}'

    assert wants(kind, pattern, b"text")
    assert not wants(kind, pattern, b"other")
    assert wants(kind, pattern, b'{"text": 1}')


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("data", [b'{"total": 7}', b"plain text", b"\xff\xfe", None])
def test_9_08_without_the_data_in_the_pattern_only_metadata_is_looked_at(kind, data):
    assert wants(kind, '{"name": ["a"]}', data)
    assert not wants(kind, '{"name": ["b"]}', data)


@pytest.mark.parametrize("kind", KINDS)
def test_9_08_any_of_several_filters_is_enough_and_an_empty_list_wants_everything(kind):
    key, non_json = KINDS[kind]
    made = compile_filter(
        [f'{{"{key}": {{"a": [1]}}}}', f'{{"{key}": {{"b": [2]}}}}'], key, non_json
    )

    assert made.wants({}, b'{"b": 2}')
    assert not made.wants({}, b'{"a": 2, "b": 1}')
    assert compile_filter([], key, non_json).wants({}, b"anything")


# -- what a lane makes of it


def filtered(*values, pattern):
    """Offsets that a Kafka mapping runs of records with these values."""

    async def body(s):
        made = [
            Record(LANE, at, value, timestamp_ms=int(WALL * 1000))
            for at, value in enumerate(values)
        ]
        s.lane.offer(run_of_records(tuple(made)))
        await s.run_out()

    policy = {"filter": compiled([pattern], "record")}
    done = scene(body, lambda v, a: Success(b"null"), make=KafkaScene, policy=policy)
    assert done.checkpoint == len(values) - 1
    return [value for _, ran, _ in done.calls for value in ran]


def test_9_08_a_kafka_record_that_no_filter_wants_is_not_run_and_is_committed_with_the_next():
    ran = filtered(b'{"t": 1}', b'{"t": 2}', b"no json", b'{"t": 1}', b'{"t": 2}', pattern='{"value": {"t": [1]}}')  # fmt: skip

    assert ran == [0, 2, 3]


@pytest.mark.parametrize(
    "pattern",
    ['{"topic": ["topic"]}', '{"partition": [0]}', '{"offset": [{"numeric": ["<", 1]}]}'],
)
def test_9_08_a_kafka_filter_may_ask_for_metadata_whatever_the_value_is(pattern):
    assert 0 in filtered(b"\xff", pattern=pattern)


# -- numbers, and fields that may be missing


@pytest.mark.parametrize(("number", "wanted"), [("300", True), ("300.0", False), ("3.0e2", False)])
def test_9_08_equal_numbers_are_those_of_equal_text(number, wanted):
    pattern = '{"DATA": {"n": [300]}}'

    assert wants("kafka", pattern, b'{"n": %s}' % number.encode()) is wanted


@pytest.mark.parametrize("number", ["300", "300.0", "3.0e2"])
def test_9_08_numeric_compares_values(number):
    pattern = '{"DATA": {"n": [{"numeric": ["=", 300]}]}}'

    assert wants("kafka", pattern, b'{"n": %s}' % number.encode())


@pytest.mark.parametrize(
    ("record", "there"),
    [(b'{"a": 1}', True), (b'{"a": null}', True), (b"{}", False), (b'{"a": {"b": 1}}', False)],
    ids=["leaf", "null", "missing", "object"],
)
def test_9_08_exists_is_about_leaves(record, there):
    assert wants("kafka", '{"DATA": {"a": [{"exists": true}]}}', record) is there
    assert wants("kafka", '{"DATA": {"a": [{"exists": false}]}}', record) is not there


def test_10_08_numbers_of_dynamodb_are_texts_and_numeric_never_matches_them():
    image = b'{"NewImage": {"n": {"N": "7"}}, "ApproximateCreationDateTime": 1700000000}'

    assert not wants("dynamodb", '{"DATA": {"NewImage": {"n": {"N": [{"numeric": [">", 0]}]}}}}', image)  # fmt: skip
    assert wants("dynamodb", '{"DATA": {"NewImage": {"n": {"N": ["7"]}}}}', image)
    assert wants("dynamodb", '{"DATA": {"ApproximateCreationDateTime": [{"numeric": [">", 0]}]}}', image)  # fmt: skip


def test_10_08_an_attribute_of_dynamodb_is_no_leaf():
    image = b'{"NewImage": {"name": {"S": "x"}}}'

    assert not wants("dynamodb", '{"DATA": {"NewImage": {"name": [{"exists": true}]}}}', image)
    assert wants("dynamodb", '{"DATA": {"NewImage": {"name": [{"exists": false}]}}}', image)


def test_10_08_anything_but_matches_null_and_no_missing_field():
    pattern = '{"DATA": {"a": [{"anything-but": ["x"]}]}}'

    assert wants("kafka", pattern, b'{"a": null}')
    assert wants("kafka", pattern, b'{"a": "y"}')
    assert not wants("kafka", pattern, b'{"a": "x"}')
    assert not wants("kafka", pattern, b"{}")


def test_10_08_of_equal_keys_in_a_pattern_the_last_counts():
    pattern = '{"DATA": {"a": [1], "a": [2]}}'

    assert wants("kafka", pattern, b'{"a": 2}')
    assert not wants("kafka", pattern, b'{"a": 1}')


# -- at the configuration


def test_10_09_an_empty_list_of_filters_is_accepted_and_wants_everything(project):  # noqa: F811
    assert valid(KAFKA + ", filter: []}", project)


@pytest.mark.parametrize(
    ("pattern", "place"),
    [
        ("{value: {a: 1}}", "t.filter.value.a:"),
        ("{value: {a: [{nope: 1}]}}", "t.filter.value.a.0:"),
        ("'{'", "t.filter:"),
    ],
)
def test_10_09_a_bad_filter_is_refused_with_its_place(project, pattern, place):  # noqa: F811
    (told,) = found(KAFKA + f", filter: {pattern}}}", project)
    assert "SF1080" in told
    assert place in told


def test_10_10_a_message_that_no_filter_wants_is_deleted_and_one_that_is_no_json_too():
    async def body(s):
        s.send('{"t": 1}', '{"t": 2}', "no json", '{"t": 1}')
        await s.run_out()

    policy = {"filter": compiled(['{"body": {"t": [1]}}'], "body")}
    done = scene(body, lambda v, a: Success(b"null"), make=SqsScene, policy=policy)

    assert [ran for _, ran, _ in done.calls] == [[0, 3]]
    finished = sorted(each for settled in done.source.settled for each in settled.finished)
    assert finished == [(0, 0), (1, 2), (3, 3)]
    assert (done.lane.status.records, done.lane.status.filtered) == (2, 2)
