"""`streamfaas traces`: what is asked of the daemon, and how traces are drawn."""

import json

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from status_server import answering
from streamfaas.cli import tracetree
from streamfaas.cli.main import main
from streamfaas.telemetry import names

SECOND = 10**9
START = 1_700_000_000 * SECOND
ID = "0af7651916cd43dd8448eb211c80319c"


def span(number, parent, name, kind, start, end, told=(), *, error="", links=(), events=()):
    return {
        "span_id": f"{number:016x}", "parent_id": f"{parent:016x}" if parent else "",
        "name": name, "kind": kind, "error": error, "links": list(links), "events": list(events),
        "start_ns": START + int(start * SECOND), "end_ns": START + int(end * SECOND),
        "attributes": dict(told),
    }  # fmt: skip


def link(number, *, sampled=True):
    return {"trace_id": f"{number:032x}", "span_id": f"{number:016x}", "sampled": sampled}


def event(name, at, told):
    return {"name": name, "at_ns": START + int(at * SECOND), "attributes": told}


def server(number, start, end, tried, outcome, **more):
    told = {names.ATTEMPT: tried, names.INSTANCE: "orders#1", names.OUTCOME: outcome}
    return span(number, 2, "orders", "server", start, end, told, **more)


RETRIED = {
    "trace_id": ID, "kept": "error", "going": True,
    "spans": [
        span(1, 0, "receive orders", "client", 0, 0.25),
        span(
            2, 1, "process orders", "consumer", 0.25, 2,
            {names.ATTEMPTS: 40, names.ATTEMPTS_LEFT_OUT: 38, names.LINKS_DROPPED: 3},
            links=[link(7), link(8, sampled=False), link(9), link(10)],
            events=[event("retry", 0.6, {names.ATTEMPT: 1, names.WAIT_SECONDS: 1.0})],
        ),
        server(3, 0.25, 0.5, 1, "function", error="KeyError"),
        server(4, 1.5, 1.75, 40, "success"),
        span(5, 2, "settle orders", "client", 1.75, 2, {names.POSITION: 9}),
    ],
}  # fmt: skip
ROWS = {
    "traces": [
        {
            "trace_id": ID, "kept": "error", "going": True, "mapping": "orders/stream",
            "name": "process orders", "lane": "orders-0", "first": 0, "last": 9, "records": 10,
            "attempts": 2, "error": "KeyError", "links": 0, "spans": 5, "start_ns": START,
            "seconds": 1.75,
        },
        {
            "trace_id": "b" * 32, "kept": "slow", "going": False, "mapping": "orders",
            "name": "orders", "lane": "", "first": None, "last": None, "records": None,
            "attempts": 1, "error": "", "links": 0, "spans": 1, "start_ns": START, "seconds": 100,
        },
    ],
    "more": True,
}  # fmt: skip


@pytest.fixture(autouse=True)
def in_utc(monkeypatch):
    monkeypatch.setattr(tracetree.time, "localtime", tracetree.time.gmtime)


def traces(tmp_path, answer, *arguments, status=200, columns="100"):
    socket = tmp_path / "s.sock"
    with answering(socket, json.dumps(answer).encode(), status=status) as asked:
        line = ["traces", *arguments, "--socket", str(socket)]
        result = CliRunner(env={"COLUMNS": columns}).invoke(main, line)
    socket.unlink()
    return result, asked


def test_traces_are_listed_in_a_table(tmp_path):
    arguments = ("orders/stream", "--errors", "--slow", "1.5", "-n", "2")
    result, asked = traces(tmp_path, ROWS, *arguments, columns="120")
    assert result.exit_code == 0, result.output
    assert [line.rstrip() for line in result.output.splitlines()] == [
        "TRACE         WHEN          TRIGGER        LANE      RECORDS  OFFSETS  TRIES    TOOK  WHY    NOTE",
        "0af7651916cd  22:13:20.000  orders/stream  orders-0       10  0..9         2   1.75s  error  goes on, KeyError",
        "bbbbbbbbbbbb  22:13:20.000  orders                         -               1  1m 40s  slow",
        "… and older ones (-n)",
    ]
    query = b"GET /traces?mapping=orders%2Fstream&errors=True&slow=1.5&limit=2 HTTP/1.1\r\n"
    assert asked[0].startswith(query)


def test_a_trace_is_drawn_as_a_tree(tmp_path):
    result, asked = traces(tmp_path, RETRIED, ID[:12].upper())
    assert asked[0].startswith(b"GET /traces/0af7651916cd HTTP/1.1\r\n")
    assert result.output.splitlines() == [
        f"trace {ID}",
        "22:13:20.000  2.00s  kept: error, goes on",
        "",
        "receive orders        ▕███                ▏   250ms",
        "└─ process orders     ▕  █████████████████▏   1.75s  40 tries",
        "   ├─ orders          ▕  ███              ▏   250ms  ✗ KeyError  orders#1",
        "   │  · retry         ▕     ·             ▏          after failure 1  again in 1.00s",
        "   │  … 38 tries      ▕              ·    ▏          counted, not kept",
        "   ├─ orders (try 40) ▕              ███  ▏   250ms  ✓  orders#1",
        "   └─ settle orders   ▕                ███▏   250ms  at 9",
        "",
        "process orders is linked to 4 traces of producers, 3 more were left out",
        "  00000000000000000000000000000007",
        "  00000000000000000000000000000008  (not sampled)",
        "  00000000000000000000000000000009",
        "  … and 1 more (all: -o json)",
    ]


def test_it_is_told_as_it_is_where_that_is_asked(tmp_path):
    result, _ = traces(tmp_path, RETRIED, ID, "-o", "json")
    assert json.loads(result.output) == RETRIED
    result, _ = traces(tmp_path, ROWS, "-o", "yaml")
    assert result.output.startswith("traces:\n- trace_id: 0af765")


def test_where_there_is_none_the_next_step_is_named(tmp_path):
    result, _ = traces(tmp_path, {"traces": [], "more": False})
    assert result.output == "no trace is kept (of these); see: streamfaas explain traces\n"
    result, _ = traces(tmp_path, {"error": "there is no trace"}, ID, status=404)
    assert result.exit_code == 2
    result = CliRunner().invoke(main, ["traces", "--socket", str(tmp_path / "none")])
    assert result.exit_code == 69
    assert "streamfaas run" in result.output


words = st.text(max_size=70)
spans = st.lists(
    st.builds(
        lambda parent, name, kind, error, start, took, tried: span(
            99, parent, name, kind, start, start + took, {names.ATTEMPT: tried}, error=error
        ),
        st.integers(0, 5), words, st.sampled_from(["server", "client", "producer"]), words,
        st.floats(0, 100), st.floats(0, 100), st.integers(1, 10**6),
    ),
    min_size=1,
    max_size=8,
)  # fmt: skip


@given(spans, st.integers(60, 160))
def test_whatever_a_trace_is_its_lines_fit_and_hold_no_control_character(made, width):
    for number, each in enumerate(made, 1):
        each["span_id"] = f"{number:016x}"
        if int(each["parent_id"] or "0", 16) >= number:
            each["parent_id"] = ""
    lines = list(tracetree.drawn({**RETRIED, "spans": made}, width))
    for line in lines:
        assert len(line.text) <= width
        assert line.text.isprintable()
    assert len(lines) == 3 + len(made)
