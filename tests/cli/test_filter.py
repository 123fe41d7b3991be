"""`streamfaas filter test`."""

import json
import subprocess
import sys

import pytest
import yaml
from click.testing import CliRunner

from streamfaas.cli.main import main
from streamfaas.docs import topics
from streamfaas.flow.pattern import compile_pattern

PAID = '{"value": {"status": ["paid"], "total": [{"numeric": [">", 100]}]}}'


def filter_test(*arguments):
    result = CliRunner().invoke(main, ["filter", "test", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


def test_a_match_is_said_in_one_word():
    event = '{"topic": "orders", "value": {"status": "paid", "total": 101}}'
    assert filter_test(PAID, event) == (0, "matches\n", "")
    assert filter_test(PAID, event, "--source", "kafka") == (0, "matches\n", "")


def test_where_nothing_matches_each_pattern_says_what_fails():
    assert filter_test(PAID, '{"value": {"status": "paid", "total": 42}}') == (
        1,
        "no match\n  value.total: wanted a number > 100, found 42\n",
        "",
    )
    several = f'[{PAID}, {{"$or": [{{"topic": ["a"]}}, {{"key": [{{"prefix": "k"}}]}}]}}]'
    status, out, _ = filter_test(several, '{"value": {"status": "new"}, "topic": "b"}')
    assert status == 1
    assert out.splitlines() == [
        "no match",
        '  pattern 1, value.status: wanted "paid", found "new"',
        '  pattern 2, $or 1 of 2, topic: wanted "a", found "b"',
        '  pattern 2, $or 2 of 2, key: wanted a text that begins with "k", found nothing',
    ]


def test_of_several_patterns_those_that_match_are_named():
    assert filter_test(f'[{PAID}, {{"topic": ["b"]}}]', '{"topic": "b", "value": {}}') == (
        0,
        '  pattern 1, value.status: wanted "paid", found nothing\npattern 2 matches\n',
        "",
    )
    criteria = json.dumps({"Filters": [{"Pattern": PAID}, {"Pattern": '{"topic": ["b"]}'}]})
    assert filter_test(criteria, '{"topic": "b", "value": {}}')[0] == 0
    assert filter_test('{"Filters": []}', "{}") == (
        0,
        "matches: without a pattern every event is wanted\n",
        "",
    )


@pytest.mark.parametrize(
    ("source", "pattern", "event", "status", "said"),
    [
        ("kafka", PAID, {"value": "a text"}, 0, "value is not what it expects, and is ignored"),
        ("kafka", {"value": ["x"]}, {"value": {}}, 0, "value is not what it expects"),
        ("kafka", PAID, {"value": '{"status": "paid", "total": 1e3}'}, 0, "matches\n"),
        ("kafka", PAID, {"value": None}, 1, 'value.status: wanted "paid", found nothing'),
        ("kafka", {"value": ["42"]}, {"value": 42}, 0, "matches\n"),
        ("sqs", {"body": [{"prefix": "a"}]}, {"body": "a text"}, 0, "matches\n"),
        ("sqs", {"body": {"a": [1]}}, {"body": "a text"}, 1, "wanted 1, found plain text in body"),
        ("sqs", {"body": ["x"]}, {"body": "[]"}, 1, 'wanted "x", found JSON in body'),
        ("kinesis", {"data": {"a": [1]}}, {"data": {"a": 1}}, 0, "matches\n"),
        ("kinesis", {"data": ["x"]}, {"data": "x"}, 2, "data: an object is needed here"),
        ("dynamodb", {"dynamodb": {"Keys": {"id": {"N": ["7"]}}}}, {"dynamodb": {"Keys": {"id": {"N": "7"}}}}, 0, "matches\n"),
        ("s3", {"s3": {"object": {"key": [{"suffix": ".jpg"}]}}}, {"s3": {"object": {"key": "a.jpg"}}}, 0, "matches\n"),
    ],
)  # fmt: skip
def test_data_means_what_it_means_to_the_source(source, pattern, event, status, said):
    pattern = pattern if isinstance(pattern, str) else json.dumps(pattern)
    found = filter_test(pattern, json.dumps(event), "--source", source)
    assert found[0] == status
    assert said in found[1] + found[2]


@pytest.mark.parametrize(
    ("pattern", "event", "said"),
    [
        ('{"a": "x"}', "{}", "the pattern: a: a list of values or an object of fields is needed"),
        ('[{"a": [1]}, {"b": []}]', "{}", "pattern 2: b: an empty list accepts nothing; list the"),
        ("{", "{}", "the pattern is not JSON: Expecting property name"),
        ('{"a": [1]}', "{", "the event is not JSON: Expecting property name"),
        ('{"a": [1]}', "[]", "the event is not an object"),
        ('{"\\u001b": 1}', "{}", "the pattern: \\x1b: a list of values"),
        ("[" + "{}," * 10 + "{}]", "{}", "the pattern: there are 11 patterns, and 10 may be"),
        ("7", "{}", "the pattern: a pattern is an object"),
        ("@/no/such/file", "{}", "the pattern: /no/such/file: No such file or directory"),
        ('{"Filters": [{"Patern": "{}"}]}', "{}", "the pattern: a pattern is an object"),
    ],
)
def test_what_cannot_be_understood_is_told_in_one_line(pattern, event, said):
    status, out, err = filter_test(pattern, event)
    assert (status, out) == (2, "")
    assert err.startswith(f"streamfaas: {said}")
    assert err.count("\n") == 1


def test_nothing_in_an_event_moves_the_cursor():
    status, out, _ = filter_test('{"a": ["x"]}', r'{"a": "\u001b[2J\n\ud800"}')
    assert status == 1
    assert out == 'no match\n  a: wanted "x", found "\\x1b[2J\\n\\ud800"\n'


@pytest.mark.slow
def test_as_a_process_it_reads_files_and_answers_by_its_status(tmp_path):
    (tmp_path / "pattern.json").write_text(PAID)
    (tmp_path / "record.json").write_text('{"value": {"status": "paid", "total": 1e2}}')
    done = subprocess.run(
        [sys.executable, "-m", "streamfaas", "filter", "test", "@pattern.json", "@record.json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == "no match\n  value.total: wanted a number > 100, found 1e2\n"


def test_the_page_on_filters_shows_patterns_that_can_be_used():
    rows = [row.split(" | ") for row in topics()["filters"].splitlines() if row.startswith("| `")]
    told = [entry for first, *_ in rows for entry in first.removeprefix("| ").split("`")[1::2]]
    entries = [yaml.safe_load(entry) for entry in told]
    assert len(entries) > 12
    assert compile_pattern({"a": entries})
    examples = [line for line in topics()["filters"].splitlines() if line.startswith("    ")]
    assert all(map(compile_pattern, yaml.safe_load("\n".join(examples[:3]))["filter"]))
    assert compile_pattern(yaml.safe_load(examples[3]))
