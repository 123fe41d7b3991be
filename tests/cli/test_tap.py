import json

import pytest
from click.testing import CliRunner

from daemon_process import DaemonProcess, write_project
from status_server import answering
from streamfaas.cli.main import main
from streamfaas.cli.tap import lines

ATTEMPT = {
    "what": "attempt", "time": "2026-11-25T21:00:37.728+00:00", "function": "hello",
    "trigger": "orders", "lane": "orders-0", "first": 0, "last": 9, "records": 10, "attempt": 1,
    "attempts_max": None, "ok": True, "duration_ms": 3.14, "init_ms": None, "worker": "hello#1",
    "request_id": "cb22ec72-2567-4de2-be2d-000000000004",
}  # fmt: skip
FAILED = ATTEMPT | {
    "ok": False, "attempt": 2, "attempts_max": 3, "error_type": "KeyError",
    "error_message": "'total'", "place": "handler.py:6", "init_ms": 61.2,
}  # fmt: skip
WHERE = {key: ATTEMPT[key] for key in ("time", "function", "trigger", "lane", "first", "last")}

CONFIG = """
version: 1
state: {path: ./state}
functions:
  hello:
    code: hello
    handler: app.main
    isolation: best-effort
    triggers:
      orders: {type: memory, topic: orders, rate: 50, batch: {size: 10}}
"""
HANDLER = """
def main(event, context):
    if any(record["offset"] == 3 for record in event["records"]["orders-0"]):
        raise KeyError("total")
"""


def shown(row, width=200):
    return [line[13:] for line, _ in lines(row, width)]


def tap(*arguments):
    return CliRunner().invoke(main, ["tap", *map(str, arguments)])


def test_an_attempt_is_one_line():
    assert shown(ATTEMPT) == [
        f"✓ hello/orders orders-0@0..9  10 records  3.1 ms  hello#1  {ATTEMPT['request_id']}"
    ]


def test_a_failure_tells_what_where_and_which_attempt_it_was():
    assert shown(FAILED, 120) == [
        "✗ hello/orders orders-0@0..9  10 records  3.1 ms (init 61)  attempt 2 of 3  hello#1",
        "  KeyError: 'total'  handler.py:6",
    ]


@pytest.mark.parametrize("row", [ATTEMPT, FAILED])
@pytest.mark.parametrize("width", [80, 120])
def test_a_narrow_terminal_is_shown_less(row, width):
    assert all(len(line) <= width for line, _ in lines(row, width))


def test_what_becomes_of_a_batch_is_a_line_each():
    retrying = {**WHERE, "what": "retrying", "attempt": 5, "wait_seconds": 2.0, "blocked": True}
    parted = {**WHERE, "what": "split", "parts": [5, 5]}
    aside = {
        **WHERE, "what": "set aside", "records": 10, "destination": "dead.jsonl",
        "condition": "RetryAttemptsExhausted",
    }  # fmt: skip
    assert [line for row in (retrying, parted, aside) for line in shown(row)] == [
        "↻ hello/orders orders-0@0..9  blocked, failure 5, again in 2.0 s",
        "÷ hello/orders orders-0@0..9  split into 5 + 5 records",
        "⇥ hello/orders orders-0@0..9  set aside: 10 → dead.jsonl (RetryAttemptsExhausted)",
    ]
    assert shown({"missed": 1_234}) == ["… 1,234 not shown"]


def test_what_a_function_says_cannot_move_the_cursor():
    row = FAILED | {"error_message": "\x1b[2J\nforged", "place": "a\x07.py:1"}
    assert shown(row)[1] == "  KeyError: \\x1b[2J\\nforged  a\\x07.py:1"


def test_a_payload_is_shown_below_its_attempt():
    payload = ATTEMPT | {"payload": {"records": {"ä": "\x1b"}}, "payload_records": 3}
    assert [line for line, _ in lines(payload, 200)][1:] == [
        "  {",
        '    "records": {',
        '      "ä": "\\u001b"',
        "    }",
        "  }",
        "  … of 10 records the first 3",
    ]


def test_the_help_has_examples():
    result = tap("--help")
    assert result.exit_code == 0
    assert "streamfaas tap hello/orders --errors" in result.output


def test_where_there_is_no_daemon_it_says_so(tmp_path):
    result = tap("--socket", tmp_path / "s")
    assert result.exit_code == 69


def test_json_is_one_object_a_line_and_ends_after_as_many_attempts_as_asked(tmp_path):
    rows = [{**WHERE, "what": "split", "parts": [1, 1]}, ATTEMPT, FAILED, ATTEMPT]
    told = [{"what": "watching"}, *rows]
    body = b"".join(json.dumps(row).encode() + b"\n" for row in told)
    with answering(tmp_path / "s", body) as asked:
        result = tap("hello", "-o", "json", "-n", 2, "--socket", tmp_path / "s")
    assert [json.loads(line) for line in result.output.splitlines()] == rows[:3]
    assert result.exit_code == 0
    assert asked[0].startswith(b"GET /tap?target=hello HTTP/1.1")


@pytest.mark.slow
def test_the_events_of_a_daemon_are_seen_to_pass(tmp_path):
    config = write_project(tmp_path, CONFIG, hello=HANDLER)
    with DaemonProcess(config) as daemon:
        daemon.wait_ready()
        daemon.wait_for(lambda status: status["triggers"]["hello/orders"]["failures"] > 0)
        failing = tap("hello", "--errors", "-n", 1, "-c", config)
        assert "KeyError: 'total'  app.py:4" in failing.output
        last = tap("hello/orders", "--last", "-c", config, "-o", "json").output.splitlines()
        assert json.loads(last[0])["first"] == 0
        whole = tap("-p", "-n", 1, "-o", "json", "-c", config)
        payload = json.loads(whole.output.splitlines()[-1])["payload"]
        assert 3 in [record["offset"] for record in payload["records"]["orders-0"]]
        unknown = tap("hallo", "-c", config)
        assert unknown.exit_code == 2
        assert "did you mean hello?" in unknown.output
        daemon.stop()
