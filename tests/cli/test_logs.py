"""What a function writes, as `streamfaas logs` shows it."""

from __future__ import annotations

import contextlib
import json
import socket
import threading

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from daemon_process import write_project
from status_server import answering
from streamfaas.cli import logs
from streamfaas.cli.main import main
from streamfaas.telemetry.log_files import LogFiles
from streamfaas.telemetry.signals import LogWritten

ID = "8f14e45f-ceea-467f-a8c1-0000000001a3"
NS = 1_764_100_000_250_000_000
CONFIG = """
version: 1
telemetry: {logs: {directory: logs}}
functions:
  orders: {code: orders, handler: app.main}
"""


def row(line="paid", function="orders", **fields):
    return {
        "time": "2025-11-25T19:46:40.250Z",
        "time_ns": NS,
        "function": function,
        "worker": f"{function}#1",
        "request_id": ID,
        "trace_id": "",
        "platform": False,
        "level": "",
        "line": line,
        **fields,
    }


def run(tmp_path, rows, *arguments):
    socket_path = tmp_path / "s.sock"
    body = json.dumps({"lines": rows}).encode()
    with answering(socket_path, body) as asked:
        result = CliRunner().invoke(main, ["logs", "--socket", str(socket_path), *arguments])
    socket_path.unlink()
    return result, asked[-1].split(b" ")[1].decode()


def texts(row):
    return ["".join(text for text, _ in parts)[13:] for parts in logs.lines(row, 8)]


def test_a_line_has_its_time_its_worker_and_the_end_of_its_request(tmp_path):
    result, _ = run(tmp_path, [row(), row("small", function="thumbnails")])
    assert result.exit_code == 0
    assert [line[12:] for line in result.output.splitlines()] == [
        " orders#1 0001a3 paid",
        " thumbnails#1 0001a3 small",
    ]


def test_what_is_wanted_is_asked_for(tmp_path):
    _, asked = run(
        tmp_path, [row()], "orders", "-n", "7", "--errors", "--no-platform",
        "--request-id", "0001a3", "--trace", "4bf9",
    )  # fmt: skip
    assert asked == (
        "/logs?function=orders&request_id=0001a3&trace=4bf9&limit=7&errors=1&platform=0&after=0"
    )
    _, asked = run(tmp_path, [], "--since", "10m")
    assert int(asked.rpartition("=")[2]) > NS


def test_no_line_is_a_word_and_a_wrong_duration_an_error(tmp_path):
    result, _ = run(tmp_path, [])
    assert result.stderr == "no line yet that was asked for; -f waits for one\n"
    result = CliRunner().invoke(main, ["logs", "--socket", "x", "--since", "soon"])
    assert result.exit_code == 2
    assert "--since: 'soon'" in result.stderr


def test_json_is_an_object_a_line_with_the_line_as_it_was(tmp_path):
    rows = [row("[ERROR]\tno\ntotal", level="ERROR")]
    result, _ = run(tmp_path, rows, "-o", "json")
    assert [json.loads(line) for line in result.output.splitlines()] == rows


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (
            row(f"[ERROR]\t2025-11-25T19:46:40.250Z\t{ID}\tno total\nTraceback:\n  x = 1"),
            ["orders#1 0001a3 [ERROR] no total", "Traceback:", "  x = 1"],
        ),
        (row("[ERROR] KeyError: 'total'\n\xa0\xa0x = 1"), ["orders#1 0001a3 [ERROR] KeyError: 'total'", "  x = 1"]),
        (row(f"START RequestId: {ID} Version: $LATEST", platform=True), ["orders#1 0001a3 START Version: $LATEST"]),
        (
            row(f"REPORT RequestId: {ID}\tDuration: 1.23 ms\tStatus: timeout", platform=True),
            ["orders#1 0001a3 REPORT  Duration: 1.23 ms  Status: timeout"],
        ),
        (
            row(json.dumps({"time": "t", "type": "platform.report", "record": {"requestId": ID, "status": "success", "metrics": {"durationMs": 1.2}}}), platform=True),
            ["orders#1 0001a3 platform.report status=success durationMs=1.2"],
        ),
        (
            row(json.dumps({"timestamp": "t", "level": "WARNING", "message": "late", "logger": "a", "requestId": ID, "order": 17})),
            ["orders#1 0001a3 [WARNING] late order=17"],
        ),
        (
            row(json.dumps({"timestamp": "t", "level": "ERROR", "message": "no", "stackTrace": ["  File a\n    x\n"], "errorType": "KeyError", "errorMessage": "'b'"})),
            ["orders#1 0001a3 [ERROR] no", "  File a", "    x", "KeyError: 'b'"],
        ),
        (
            row(json.dumps({"timestamp": "t", "level": "ERROR", "errorMessage": "'b'", "errorType": "KeyError", "requestId": ID, "stackTrace": []})),
            ["orders#1 0001a3 [ERROR] KeyError: 'b'"],
        ),
        (row('{"order": 17}'), ['orders#1 0001a3 {"order": 17}']),
        (row("{not json"), ["orders#1 0001a3 {not json"]),
        (row(""), ["orders#1 0001a3  "]),
        ({"missed": 1234}, [" missed: they came faster than they were read"]),
    ],
)  # fmt: skip
def test_a_line_says_nothing_that_stands_before_it_anyway(given, shown):
    assert texts(given) == shown


@given(st.text(), st.booleans(), st.sampled_from(["", "ERROR"]))
def test_nothing_that_a_function_says_moves_the_cursor(text, platform, level):
    for parts in logs.lines(row(text, worker=text, platform=platform, level=level), 8):
        assert all(each.isprintable() for each, _ in parts)


def test_colours_tell_functions_and_errors_apart():
    assert logs.colour_of("orders") == logs.colour_of("orders")
    assert logs.colour_of("orders") != logs.colour_of("thumbs")
    ((*_, (_, style)),) = logs.lines(row("no", level="ERROR"), 8)
    assert style == {"fg": "red"}


@contextlib.contextmanager
def answers(path, *bodies):
    """A daemon that ends, and others after it: each answers one request, and is gone."""
    asked = []
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen()

    def serve():
        for status, body in bodies:
            connection, _ = listener.accept()
            with connection:
                asked.append(connection.recv(65_536).split(b" ")[1].decode())
                head = f"HTTP/1.1 {status} X\r\nconnection: close\r\n\r\n"
                connection.sendall(head.encode() + body)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield asked
    finally:
        thread.join()
        listener.close()


def test_who_follows_goes_on_with_the_daemon_that_comes_next(tmp_path):
    first = json.dumps(row("one")).encode() + b'\n\n{"ended": "the daemon has ended"}\n'
    second = b'{"missed": 3}\n' + json.dumps(row("two", time_ns=NS + 5)).encode() + b"\n"
    refusal = json.dumps({"error": "there is no function orders"}).encode()
    path = tmp_path / "s"
    with answers(path, (200, first), (200, second), (404, refusal)) as asked:
        result = CliRunner().invoke(
            main, ["logs", "orders", "-f", "-n", "5", "--socket", str(path)]
        )
    assert [line[-3:] for line in result.stdout.splitlines()] == ["one", "ead", "two"]
    assert "— the daemon has ended; waiting for one (Ctrl-C ends this)" in result.stderr
    assert result.stderr.endswith("streamfaas: there is no function orders\n")
    assert result.exit_code == 2
    assert [target.partition("limit=")[2] for target in asked] == [
        "5&errors=0&platform=1&after=0&follow=1",
        f"10000&errors=0&platform=1&after={NS}&follow=1",
        f"10000&errors=0&platform=1&after={NS + 5}&follow=1",
    ]


def test_no_daemon_is_not_waited_for(tmp_path):
    for arguments in ([], ["-f"]):
        result = CliRunner().invoke(main, ["logs", "--socket", str(tmp_path / "s"), *arguments])
        assert result.exit_code == 69
        assert result.stderr.endswith("start one: streamfaas run\n")


def test_where_no_daemon_runs_its_files_are_read(tmp_path):
    config = write_project(tmp_path, CONFIG, orders="def main(event, context): pass")
    files = LogFiles(
        tmp_path / "logs", max_bytes=1 << 20, keep=1, as_json=lambda _: False, tell=lambda _: None
    )
    for number in range(5):
        files(LogWritten("orders", "orders#1", ID, f"number {number}", False, NS + number))
    files.close()
    result = CliRunner().invoke(main, ["logs", "orders", "-n", "2", "-c", str(config)])
    assert result.exit_code == 0, result.output
    assert [line[13:] for line in result.stdout.splitlines()] == [
        "orders#1 0001a3 number 3",
        "orders#1 0001a3 number 4",
    ]
    assert result.stderr.endswith(f"from the files in {tmp_path}/logs\n")
    config.write_text(CONFIG.replace("telemetry: {logs: {directory: logs}}", ""))
    result = CliRunner().invoke(main, ["logs", "-c", str(config)])
    assert result.exit_code == 69


def test_on_a_narrow_terminal_a_report_is_short(tmp_path):
    report = (
        f"REPORT RequestId: {ID}\tDuration: 1.23 ms\tBilled Duration: 2 ms\t"
        "Memory Size: 128 MB\tMax Memory Used: 73 MB\tStatus: timeout"
    )
    given = row(report, platform=True)
    (parts,) = logs.lines(given, 8, narrow=True)
    assert "".join(text for text, _ in parts)[13:] == (
        "orders#1 0001a3 REPORT  Duration: 1.23 ms  Max Memory Used: 73 MB  Status: timeout"
    )
    assert "Memory Size: 128 MB" in texts(given)[0]
