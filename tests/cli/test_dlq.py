"""`streamfaas dlq`: what is asked of the daemon, and how its answers are shown."""

import json

import pytest
from click.testing import CliRunner

from status_server import answering
from streamfaas.cli.main import main

ENTRY = {
    "id": "0123456789abcdef0123456789abcdef", "mapping": "shop/orders", "lane": "orders-0",
    "ranges": [[5, 5], [7, 12]], "records": 1700, "kind": "failure",
    "condition": "RetryAttemptsExhausted", "state": "settled", "destination": "dead.jsonl",
    "made_ms": 1_700_000_000_000, "hops": 1, "replays": 2, "bytes": 900,
}  # fmt: skip
WHOLE = {
    **ENTRY,
    "event": {"records": {"orders-0": [1, 2]}},
    "letters": [
        {
            "id": "letter-1",
            "key": "k\x1b[2J",
            "attributes": {"RequestID": "r-1"},
            "document": {"version": "1.0"},
        },
        {"id": "letter-2", "key": None, "attributes": {}, "document": list(range(100))},
    ],
}


def dlq(tmp_path, answer, *arguments, status=200):
    socket = tmp_path / "s.sock"
    with answering(socket, json.dumps(answer).encode(), status=status) as asked:
        result = CliRunner().invoke(main, ["dlq", *arguments, "--socket", str(socket)])
    socket.unlink()
    return result, asked


def test_what_was_put_aside_is_listed_in_a_table(tmp_path):
    found = {"entries": [ENTRY, {**ENTRY, "id": "b", "state": "intended"}], "next": "1.b"}
    result, asked = dlq(tmp_path, found, "list", "-m", "shop/orders", "--limit", "2")
    assert result.exit_code == 0
    assert [line.rstrip() for line in result.output.splitlines()] == [
        "ID                                WHEN                  TRIGGER      LANE      RECORDS  STATE     REPLAYS  CONDITION",
        "0123456789abcdef0123456789abcdef  2023-11-14 22:13:20Z  shop/orders  orders-0    1,700  settled         2  RetryAttemptsExhausted",
        "b                                 2023-11-14 22:13:20Z  shop/orders  orders-0    1,700  intended        2  RetryAttemptsExhausted",
        "… and older ones: --before 1.b",
    ]
    assert asked[0].startswith(b"GET /dlq?limit=2&mapping=shop%2Forders HTTP/1.1\r\n")


def test_the_next_page_is_asked_for_by_its_place(tmp_path):
    result, asked = dlq(tmp_path, {"entries": [], "next": None}, "list", "--before", "1.a+3")
    assert result.output == "nothing was put aside\n"
    assert asked[0].startswith(b"GET /dlq?limit=50&before=1.a%2B3 HTTP/1.1\r\n")


def test_an_entry_is_shown_with_its_event_and_its_letters(tmp_path):
    result, asked = dlq(tmp_path, WHOLE, "show", "a+1/b")
    assert asked[0].startswith(b"GET /dlq/a%2B1%2Fb HTTP/1.1\r\n")
    lines = result.output.splitlines()
    assert lines[:9] == [
        "id        0123456789abcdef0123456789abcdef",
        "why       RetryAttemptsExhausted",
        "where     shop/orders orders-0 at 5, 7..12",
        "records   1,700",
        "when      2023-11-14 22:13:20Z",
        "state     settled, to dead.jsonl",
        "replays   2 (hops: 1)",
        "",
        "event",
    ]
    assert "letter 1 of 2: letter-1, key k\\x1b[2J" in lines
    assert "  RequestID r-1" in lines
    assert "letter 2 of 2: letter-2" in lines
    assert lines[-1] == "  … and 62 more lines (all: -o json)"


@pytest.mark.parametrize("arguments", [("list",), ("show", "a"), ("purge", "a")])
def test_json_and_yaml_say_all_of_it(tmp_path, arguments):
    import yaml

    assert json.loads(dlq(tmp_path, WHOLE, *arguments, "-o", "json")[0].output) == WHOLE
    assert yaml.safe_load(dlq(tmp_path, WHOLE, *arguments, "-o", "yaml")[0].output) == WHOLE


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        (("a", "b"), {"force": False, "ids": ["a", "b"]}),
        (("--older-than", "7d"), {"force": False, "older_than_seconds": 604800.0}),
        (("-m", "shop/orders", "--force"), {"force": True, "mapping": "shop/orders"}),
    ],
)
def test_what_is_to_be_purged_is_said(tmp_path, arguments, asked):
    result, sent = dlq(tmp_path, {"purged": 3}, "purge", *arguments)
    assert result.output == "purged 3\n"
    head, _, body = sent[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /dlq/purge HTTP/1.1\r\n")
    assert json.loads(body) == asked


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("purge",), "which ones?"),
        (("purge", "--older-than", "soon"), "'soon' is not a duration"),
        (("list", "--limit", "0"), "--limit"),
        (("list", "-c", "x", "--socket", "y"), "not both"),
    ],
)
def test_a_mistake_is_told_before_anybody_is_asked(arguments, told):
    result = CliRunner().invoke(main, ["dlq", *arguments])
    assert result.exit_code == 2
    assert told in result.output


@pytest.mark.parametrize(("status", "code"), [(404, 1), (400, 2), (503, 1)])
def test_what_the_daemon_refuses_is_one_line(tmp_path, status, code):
    result, _ = dlq(tmp_path, {"error": "there is no entry 'a'"}, "show", "a", status=status)
    assert (result.exit_code, result.stderr) == (code, "streamfaas: there is no entry 'a'\n")


def test_no_daemon_is_one_line_with_the_remedy(tmp_path):
    result = CliRunner().invoke(main, ["dlq", "list", "--socket", str(tmp_path / "s.sock")])
    assert result.exit_code == 69
    assert "start one: streamfaas run" in result.stderr
