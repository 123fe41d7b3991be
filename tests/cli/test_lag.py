"""`streamfaas lag`, `streamfaas triggers`: how far behind, and all of one trigger."""

import json

import pytest
from click.testing import CliRunner

from cli.test_status import LANE, TRIGGER, VIEW, lines
from status_server import answering
from streamfaas.cli.main import main


def asked(tmp_path, body, *arguments, env=None):
    socket = tmp_path / "s.sock"
    with answering(socket, json.dumps(body).encode()) as requests:
        result = CliRunner(env=env).invoke(main, [*arguments, "--socket", str(socket)])
    socket.unlink()
    return result, requests[0].split(b"\r\n")[0].decode()


def view(**triggers):
    return {**VIEW, "triggers": {f"f/{name}": each for name, each in triggers.items()}}


def lane(name, **other):
    return {**LANE, "name": name, **other}


def test_the_lanes_that_are_farthest_behind_come_first_with_when_they_are_caught_up(tmp_path):
    lanes = [
        lane("t-0", lag=0, caught_up_in_seconds=0.0),
        lane("t-1", lag=9310, caught_up_in_seconds=372.0),
        lane("t-2", lag=500, caught_up_in_seconds=None),
        lane(
            "t-3", lag=None, done_per_second=None, came_per_second=None, caught_up_in_seconds=None
        ),
        lane("t-4", lag=20, state="blocked"),
        lane("key", by_key=True),
    ]
    result, _ = asked(tmp_path, view(a={**TRIGGER, "lanes": lanes}), "lag", "f")
    assert lines(result) == [
        "LANE     POSITION    END    LAG    AGE  DONE/s  CAME/s  CAUGHT UP",
        "f/a t-1      1000  10310  9,310  400ms     412     400  in 6m 12s",
        "f/a t-2      1000   1500    500  400ms     412     400  never, at this rate",
        "f/a t-4      1000   1020     20  400ms     412     400  blocked",
        "f/a t-0      1000   1000      0  400ms     412     400  now",
        "f/a t-3      1000      ?      ?  400ms       -       -  ?",
    ]


def test_a_queue_is_one_line_and_a_paused_trigger_is_not_caught_up(tmp_path):
    slots = [lane(f"slot-{at}", position=None, lag=2) for at in range(10)]
    triggers = view(
        inbox={**TRIGGER, "kind": "directory", "lanes": slots},
        orders={**TRIGGER, "paused": {"by": "ada", "since_ms": 0}},
    )
    told = lines(asked(tmp_path, triggers, "lag")[0])
    assert [line.split()[0] for line in told[1:]] == ["f/inbox", "f/orders"]
    assert "(10 at a time)" in told[1]
    assert " 20 " in told[1]
    assert told[2].endswith("paused")


def test_only_what_is_asked_for_is_shown_and_nothing_is_told(tmp_path):
    triggers = view(a=TRIGGER, asynchronous={**TRIGGER, "kind": "backlog"})
    for what, names in (
        ("f/a", ["f/a"]),
        ("f/async", ["f/asynchronous"]),
        ("", ["f/a", "f/asynchronous"]),
    ):
        result, _ = asked(tmp_path, triggers, "lag", what, "-o", "json")
        assert [row["trigger"] for row in json.loads(result.output)["lanes"]] == names


def test_what_there_is_none_of_is_told_with_what_there_is(tmp_path):
    body = {**view(a=TRIGGER), "functions": {"f": {}, "g": {}}}
    for what, code, told in (
        ("nofn", 2, "there is no function 'nofn'; there are: f, g"),
        ("nofn/x", 2, "there is no function 'nofn'; there are: f, g"),
        ("f/x", 2, "f has no trigger 'x'; it has: a"),
        ("g", 1, "no lanes of g: streamfaas triggers"),
        ("f/async", 1, "no lanes of f/async: streamfaas triggers"),
    ):
        result, _ = asked(tmp_path, body, "lag", what)
        assert (result.exit_code, result.output) == (code, f"streamfaas: {told}\n")


def test_triggers_are_listed(tmp_path):
    told = lines(asked(tmp_path, VIEW, "triggers")[0])
    assert told[1].startswith("enrich/orders  kafka orders.v1  running    7")
    assert lines(asked(tmp_path, view(), "triggers")[0]) == ["there are no triggers"]
    found = json.loads(asked(tmp_path, VIEW, "triggers", "-o", "json")[0].output)
    assert found == {"triggers": VIEW["triggers"]}


FULL = {
    "name": "enrich/orders",
    **TRIGGER,
    "filtered": 1,
    "expired": 0,
    "details": {
        "source": {"group": "g", "instance": None, "brokers": ["k1:9092", "k2:9092"]},
        "batch": {},
        "retries": {"retries_max": 5, "bisect": True},
        "on_failure": "orders.dlq on k1:9092",
        "on_success": None,
        "dead_letter": None,
        "strands": 4,
        "partial": False,
    },
    "config": {"type": "kafka", "batch": {"size": 500}, "secret": "***"},
    "errors": [
        {"at_ms": 0, "lane": "orders.v1-0", "first": 3, "last": 7, "attempt": 1,
         "request_id": "r", "type": "KeyError", "message": "\x1b[2J'total'"},
    ],
}  # fmt: skip


def test_a_trigger_is_shown_with_all_that_is_known_of_it(tmp_path):
    full = {**FULL, "set_aside": 2}
    result, request = asked(tmp_path, full, "triggers", "show", "enrich/orders")
    assert request == "GET /triggers/enrich/orders HTTP/1.1"
    told = lines(result)
    assert "source       group g  brokers k1:9092, k2:9092" in told
    assert "records      1,234,567 records  2 set aside  1 filtered  0 expired" in told
    assert "retries      retries_max 5  bisect True" in told
    assert "  batch: {size: 500}" in told
    assert any("orders.v1-0 @3..7  attempt 2  KeyError: \\x1b[2J'total'" in line for line in told)
    assert told[-3:] == [
        "  streamfaas pause enrich/orders               # read and run nothing more of it",
        "  streamfaas lag enrich/orders                 # lane by lane, and when it will be caught up",
        "  streamfaas dlq list --mapping enrich/orders  # what was put aside of it",
    ]


@pytest.mark.parametrize(
    ("others", "told"),
    [({"s-1": "vm/a", "s-2": "vm/b"}, "s-1 by vm/a, s-2 by vm/b"), ({}, "nothing")],
)
def test_of_a_shared_stream_is_shown_who_reads_what_elsewhere(tmp_path, others, told):
    details = {**FULL["details"], "source": {"worker": "vm/c", "elsewhere": others}}
    result, _ = asked(tmp_path, {**FULL, "details": details}, "triggers", "show", "enrich/orders")
    assert f"source       worker vm/c  elsewhere {told}" in lines(result)


def test_a_name_that_is_no_trigger_is_refused(tmp_path):
    for wrong in ("enrich", "a/b/c", "/x"):
        assert CliRunner().invoke(main, ["triggers", "show", wrong]).exit_code == 2
