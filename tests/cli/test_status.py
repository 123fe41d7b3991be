"""`streamfaas status`: screens, forms, and a daemon that is not there."""

import json
import os
from datetime import datetime

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from status_server import answering
from streamfaas.cli import screens
from streamfaas.cli.main import main
from streamfaas.cli.screens import rate, seconds, span

LANE = {
    "name": "orders.v1-0", "by_key": False, "state": "running", "position": 1000, "lag": 7, "age_seconds": 0.4,
    "held_records": 3, "held_bytes": 300, "in_flight": 1, "held_up_by": "", "attempt": 0, "reason": "",
    "next_in_seconds": None, "done_per_second": 412.4, "came_per_second": 400.0, "caught_up_in_seconds": 0.6,
}  # fmt: skip
RECENT = {
    "invocations_per_second": 4.2, "records_per_second": 899.0, "errors_percent": 0.02, "batch_records": 214.2,
    "p50_seconds": 0.0031, "p99_seconds": 1.9, "cold_starts_per_hour": 3,
}  # fmt: skip
TRIGGER = {
    "kind": "kafka", "reads": "orders.v1", "state": "running", "reason": "", "paused": None, "lanes": [LANE],
    "records": 1234567, "batches": 12345, "failures": 0, "set_aside": 0, "recent": RECENT,
    "on_failure": "orders.dlq on k1:9092",
}  # fmt: skip
FUNCTION = {
    "isolation": "full", "missing": [], "workers": {"starting": 0, "idle": 1, "busy": 2, "draining": 0},
    "waiting": 3, "throttled": 0, "invocations": 123456, "errors": 7, "last_error": None, "max": 16,
    "recent": RECENT,
}  # fmt: skip
VIEW = {
    "version": "0.1.0", "uptime_seconds": 273600.5, "config": "/srv/streamfaas.yaml", "state": "running",
    "configuration": {"digest": "9f31c2aa", "loaded": "2026-01-01T10:02:00+00:00", "differs": False,
                      "last_reload": None, "reason": ""},
    "rss_bytes": 88 << 20, "cpu": 0.314, "functions": {"enrich": FUNCTION}, "triggers": {"enrich/orders": TRIGGER},
}  # fmt: skip
HEAD = "running  streamfaas 0.1.0  up 3d 4h  config 9f31c2 (loaded {}, clean)  RSS 88 MB  cpu 0.31"
LOADED = datetime.fromisoformat("2026-01-01T10:02:00+00:00").astimezone().strftime("%H:%M")


def status(tmp_path, view, *arguments, env=None, answer=200):
    socket = tmp_path / "s.sock"
    body = json.dumps(view).encode()
    with answering(socket, body, status=answer) as asked:
        result = CliRunner(env=env).invoke(main, ["status", "--socket", str(socket), *arguments])
    socket.unlink()
    assert asked[0].startswith(b"GET /status HTTP/1.1\r\n")
    return result


def lines(result):
    return [line.rstrip() for line in result.output.splitlines()]


def test_where_failures_go_is_counted_by_where_they_are(tmp_path):
    view = json.loads(json.dumps(VIEW))
    view["triggers"]["enrich/orders"] |= {"set_aside": 1205, "elsewhere": 5}
    told = status(tmp_path, view, env={"COLUMNS": "140"})
    assert "orders.dlq (1,200), set-aside (5)" in told.output


def blocked(reason="KeyError: 'total'", count=1):
    lanes = [
        {
            **LANE,
            "name": f"orders.v1-{at}",
            "state": "blocked",
            "attempt": 6,
            "reason": reason,
            "next_in_seconds": 31.5,
        }
        for at in range(count)
    ]
    return {
        **VIEW,
        "triggers": {
            "enrich/orders": {**TRIGGER, "state": "blocked", "reason": "1 lane", "lanes": lanes}
        },
    }


def test_a_running_daemon_on_one_screen(tmp_path):
    result = status(tmp_path, VIEW)
    assert result.exit_code == 0
    assert lines(result) == [
        HEAD.format(LOADED),
        "",
        "FUNCTION  WARM  BUSY  INV/s  ERR%    p50   p99  COLD/h  NOTE",
        "enrich    3/16     2    4.2  0.02  3.1ms  1.9s       3  3 calls wait",
        "",
        "TRIGGER        SOURCE           STATE    LAG    AGE  REC/s  BATCH  ON_FAILURE      NOTE",
        "enrich/orders  kafka orders.v1  running    7  400ms    899    214  orders.dlq (0)",
    ]


def test_a_blocked_lane_is_told_with_its_reason_and_the_commands_that_help(tmp_path):
    told = lines(status(tmp_path, blocked()))
    assert (
        "enrich/orders orders.v1-0  blocked      1000    7     3          1        6  in 32s  KeyError: 'total'"
        in told
    )
    assert told[-5:] == [
        "blocked enrich/orders: KeyError: 'total'",
        "  streamfaas invoke enrich -e event.json       # try the function by hand",
        "  streamfaas skip enrich/orders                # give up what fails, and go on",
        "  streamfaas explain blocked                   # what it means, and what helps",
        "  streamfaas triggers show enrich/orders       # all that is known of it",
    ]


def test_an_event_that_holds_up_no_other_is_not_to_be_skipped(tmp_path):
    view = blocked()
    for lane in view["triggers"]["enrich/orders"]["lanes"]:
        lane["by_key"] = True
    told = lines(status(tmp_path, view))
    assert any("streamfaas invoke enrich" in line for line in told)
    assert not any("streamfaas skip" in line for line in told)


def test_what_is_busy_is_not_hidden_by_a_lane_that_closes(tmp_path):
    lanes = [
        {**LANE, "name": "a", "state": "closing", "in_flight": 0},
        {**LANE, "name": "b"},
        {**LANE, "name": "c", "in_flight": 0},
        {**LANE, "name": "d", "state": "blocked"},
    ]
    view = {**VIEW, "triggers": {"e/o": {**TRIGGER, "lanes": lanes}}}
    told = lines(status(tmp_path, view))
    first = next(at for at, line in enumerate(told) if line.startswith("LANE"))
    assert [line.split()[1] for line in told[first + 1 : first + 4]] == ["d", "b", "a"]
    assert told[first + 4] == ""


def test_a_lane_that_the_source_itself_holds_is_no_matter_of_the_function(tmp_path):
    view = blocked("the records at 70..199 are gone")
    view["triggers"]["enrich/orders"]["lanes"][0]["attempt"] = 0
    assert lines(status(tmp_path, view))[-3:-1] == [
        "blocked enrich/orders: the records at 70..199 are gone",
        "  streamfaas explain blocked                   # what it means, and what helps",
    ]


def test_a_lane_that_waits_for_a_destination_names_it_and_not_the_function(tmp_path):
    view = blocked("destination: no route")
    view["triggers"]["enrich/orders"]["lanes"][0]["held_up_by"] = "orders.dlq on k1:9092"
    told = lines(status(tmp_path, view))
    assert told[-4:-2] == [
        "blocked enrich/orders: orders.dlq on k1:9092 does not take what is to be sent: no route",
        "  streamfaas skip enrich/orders                # keep what is to be sent in a file, and go on",
    ]
    assert not any("invoke" in line for line in told)


def test_what_no_attempt_was_made_at_is_noted_without_one():
    (lane,) = blocked("destination: no route")["triggers"]["enrich/orders"]["lanes"]
    for attempt, told in ((0, ""), (3, " attempt 3:")):
        noted = screens.note({"lanes": [{**lane, "attempt": attempt, "next_in_seconds": None}]})
        assert noted == f"orders.v1-0:{told} destination: no route"


def test_a_paused_trigger_says_who_wanted_it_and_how_it_goes_on(tmp_path):
    paused = {"since_ms": 1_767_261_720_000, "by": "ada"}
    view = {
        **VIEW,
        "triggers": {"enrich/orders": {**TRIGGER, "state": "paused", "paused": paused}},
    }
    told = lines(status(tmp_path, view))
    assert told[-3].startswith("paused enrich/orders: by ada, since 2026-01-01 ")
    assert told[-2] == "  streamfaas resume enrich/orders              # let it go on"


def test_lag_that_is_not_known_of_all_lanes_is_marked(tmp_path):
    unknown = {**LANE, "name": "orders.v1-1", "lag": None}
    for lanes, told in (([LANE, unknown], "7+"), ([unknown], "-"), ([], "-")):
        view = {**VIEW, "triggers": {"enrich/orders": {**TRIGGER, "lanes": lanes}}}
        assert lines(status(tmp_path, view))[-1].split()[4] == told


def test_a_degraded_source_is_told_with_its_reason(tmp_path):
    view = {
        **VIEW,
        "triggers": {
            "a/b": {
                **TRIGGER,
                "state": "degraded",
                "reason": "k1:9092: connection refused",
                "lanes": [],
            }
        },
    }
    told = lines(status(tmp_path, view))
    assert told[-3:] == [
        "degraded a/b: k1:9092: connection refused",
        "  streamfaas explain degraded                  # what it means, and what helps",
        "  streamfaas triggers show a/b                 # all that is known of it",
    ]


def test_of_many_lanes_the_worst_are_shown_and_the_rest_counted(tmp_path):
    lanes = [{**LANE, "name": f"p{at}", "lag": at, "state": "retrying"} for at in range(1_000)]
    lanes[500]["state"] = "blocked"
    lanes[501]["attempt"] = 2
    view = {**VIEW, "triggers": {"a/b": {**TRIGGER, "lanes": lanes}}}
    told = lines(status(tmp_path, view))
    first = next(at for at, line in enumerate(told) if line.startswith("LANE"))
    shown = [line.split()[1] for line in told[first + 1 : first + 21]]
    assert shown == ["p500", "p501", *(f"p{at}" for at in range(999, 981, -1))]
    assert "… and 980 more (all: -o json)" in told


def test_a_lane_says_which_window_is_open_unless_there_is_something_worse():
    window = {"start_ms": 0, "end_ms": 10_000, "state_bytes": 1234}
    for reason, note in (("", "window until "), ("KeyError", "KeyError")):
        lane = {**LANE, "window": window, "reason": reason}
        table = screens.lanes([("", {"lanes": [lane]})], width=120)
        (told,) = table.columns[-1].cells
        assert str(told).startswith(note)
        assert ("state of 1,234 bytes" in str(told)) == (not reason)


def test_missing_isolation_and_the_last_error_are_notes(tmp_path):
    view = {
        **VIEW,
        "functions": {
            "f": {**FUNCTION, "isolation": "reduced", "missing": ["landlock"], "last_error": "boom"}
        },
    }
    assert "3 calls wait; without landlock; boom" in status(tmp_path, view).output


@pytest.mark.parametrize("width", [40, 60, 80, 100, 160])
def test_tables_fit_the_width(tmp_path, width):
    result = status(tmp_path, blocked("a long reason " * 20, 30), env={"COLUMNS": str(width)})
    tables = result.output.split("\n\n")[1:-1]
    assert all(len(line) <= width for table in tables for line in table.splitlines())


def test_on_a_narrow_terminal_what_matters_most_is_left_whole(tmp_path):
    told = lines(status(tmp_path, VIEW, env={"COLUMNS": "40"}))
    assert told[-5:] == [
        "FUNCTION  WARM  BUSY  INV/s  ERR%",
        "enrich    3/16     2    4.2  0.02",
        "",
        "TRIGGER        STATE    LAG    AGE",
        "enrich/orders  running    7  400ms",
    ]


def test_what_a_function_says_cannot_move_the_cursor_or_forge_a_line(tmp_path):
    view = blocked("\x1b[2Jnice\nblocked other/trigger\x07\u202e [bold]")
    result = status(tmp_path, view)
    assert all(c.isprintable() or c == "\n" for c in result.output)
    assert "\\x1b[2Jnice\\nblocked other/trigger\\x07\\u202e [bold]" in result.output


def test_nothing_is_coloured_where_there_is_no_terminal(tmp_path):
    assert "\x1b" not in status(tmp_path, blocked(), env={"NO_COLOR": "1"}).output
    assert "\x1b" not in status(tmp_path, blocked()).output


def test_json_and_yaml_say_all_of_it(tmp_path):
    import yaml

    assert json.loads(status(tmp_path, VIEW, "-o", "json").output) == VIEW
    assert yaml.safe_load(status(tmp_path, VIEW, "-o", "yaml").output) == VIEW


def test_no_daemon_is_one_line_with_the_remedy(tmp_path):
    result = CliRunner().invoke(main, ["status", "--socket", str(tmp_path / "s.sock")])
    assert result.exit_code == 69
    assert (
        result.stderr
        == f"streamfaas: no daemon answers at {tmp_path}/s.sock; start one: streamfaas run\n"
    )


def test_a_path_that_is_too_long_has_no_daemon_either(tmp_path):
    result = CliRunner().invoke(main, ["status", "--socket", "x" * 200])
    assert result.exit_code == 69


@pytest.mark.parametrize(("view", "answer"), [([1], 200), ({"error": "no"}, 404), ("text", 200)])
def test_something_else_on_the_socket_is_told(tmp_path, view, answer):
    result = status(tmp_path, view, answer=answer)
    assert result.exit_code == 69
    assert "is no streamfaas daemon" in result.stderr


def test_the_socket_is_found_by_the_configuration(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "streamfaas.yaml").write_text("state: {path: here}\nfunctions: broken since\n")
    (tmp_path / "here").mkdir()
    with answering(tmp_path / "here" / "streamfaas.sock", json.dumps(VIEW).encode()):
        assert CliRunner().invoke(main, ["status"]).exit_code == 0
        assert CliRunner().invoke(main, ["status", "-c", "streamfaas.yaml"]).exit_code == 0
    assert CliRunner().invoke(main, ["status", "-c", "a", "--socket", "b"]).exit_code == 2


@given(st.floats(0, 10**9))
def test_a_span_is_two_units_at_most(seconds):
    assert 1 <= len(span(seconds).split()) <= 2


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, "0.0s"),
        (9.44, "9.4s"),
        (31.5, "32s"),
        (60, "1m"),
        (61, "1m 1s"),
        (3600, "1h"),
        (273600, "3d 4h"),
        (86461, "1d"),
    ],
)
def test_spans_read_well(seconds, told):
    assert span(seconds) == told


def test_the_width_may_be_nonsense(tmp_path):
    for columns in ("", "abc", "3", "-1"):
        assert status(tmp_path, VIEW, env={"COLUMNS": columns}).exit_code == 0
    assert os.environ.get("COLUMNS") != "3"


def test_events_that_wait_for_nobody_are_told(tmp_path):
    told = lines(status(tmp_path, {**VIEW, "unclaimed": {"recv": 1_060}}, env={"COLUMNS": "80"}))
    assert told[1:3] == ["waiting 1,060 events wait for recv, which is not configured", ""]


def test_a_reload_that_goes_on_is_told_instead_of_what_came_before(tmp_path):
    about = {**VIEW["configuration"], "differs": True, "reason": "x", "reloading": "stop triggers"}
    told = lines(status(tmp_path, {**VIEW, "configuration": about}, env={"COLUMNS": "80"}))
    assert f"(loaded {LOADED}, reloading)" in told[0]
    assert told[1:3] == ["config  is being reloaded: stop triggers", ""]


@pytest.mark.parametrize(
    ("differs", "last", "reason", "shown"),
    [
        (False, None, "", []),
        (True, "reloaded", "", ["config  look: streamfaas diff   take it: streamfaas reload"]),
        (True, "invalid", "line 3", ["config  NOT RELOADED (invalid): line 3"]),
        (
            False,
            "rolled back",
            "cannot listen",
            ["config  NOT RELOADED (rolled back): cannot listen"],
        ),
    ],
)
def test_it_says_whether_the_file_is_what_runs(tmp_path, differs, last, reason, shown):
    about = {
        "digest": "1a2b3c",
        "loaded": "2026-01-01T10:02:00+00:00",
        "differs": differs,
        "last_reload": last,
        "reason": reason,
    }
    told = lines(status(tmp_path, {**VIEW, "configuration": about}, env={"COLUMNS": "80"}))
    assert f"(loaded {LOADED}, {'file differs' if differs else 'clean'})" in told[0]
    assert told[1 : 1 + len(shown)] == shown
    assert told[1 + len(shown)] == ""


@pytest.mark.parametrize(
    ("number", "told"),
    [(None, "-"), (0, "0"), (0.018, "0.02"), (1.23, "1.2"), (9.96, "10.0"), (412.4, "412")],
)
def test_rates_read_well(number, told):
    assert rate(number) == told


@pytest.mark.parametrize(
    ("number", "told"),
    [(None, "-"), (0.0031, "3.1ms"), (0.018, "18ms"), (1.9, "1.9s"), (252, "4m 12s")],
)
def test_short_times_read_well(number, told):
    assert seconds(number) == told
