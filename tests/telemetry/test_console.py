import os
import threading
from dataclasses import replace

import orjson
from hypothesis import given
from hypothesis import strategies as st

from streamfaas.flow.outcome import Failure, Fault, Report, Success
from streamfaas.flow.record import Lane
from streamfaas.telemetry import signals
from streamfaas.telemetry.console import Console, printable
from streamfaas.telemetry.sink import LineSink

LANE = Lane("orders/orders", "orders-0")


def ended(outcome):
    return signals.InvocationEnded("id", "orders", LANE, 100, 0, 99, 0, outcome)


def lines(signal, **options):
    out = []
    Console(out.append, **options)(signal)
    return out


def test_an_invocation_tells_source_batch_worker_and_duration():
    report = Report(worker="orders#1", duration_seconds=0.0031, init_seconds=0.2)
    (line,) = lines(ended(Success(b"null", report=report)))
    assert (
        line[9:] == "✓ orders/orders orders-0 @0..99  100 records  3.1 ms (init 200.0 ms)  orders#1"
    )


def test_what_no_worker_said_is_told_of_the_function():
    failed = ended(Failure(Fault.INIT, "RuntimeError", "no table"))
    (line,) = lines(failed)
    assert (
        line[9:] == "✗ orders/orders orders-0 @0..99  100 records  0.0 ms  RuntimeError: no table"
    )
    (line,) = lines(signals.LogWritten("orders", "", "id", "END RequestId: id", platform=True))
    assert line == "orders | END RequestId: id"


def test_a_blocked_lane_says_what_helps():
    (line,) = lines(signals.LaneRetrying(LANE, 0, 99, 5, 16.0, True, "KeyError: 'total'"))
    assert "BLOCKED orders/orders orders-0 @0..99" in line
    assert "KeyError: 'total'" in line
    assert "streamfaas status" in line


@given(st.text())
def test_what_a_function_says_cannot_forge_a_line(text):
    line = printable(text)
    assert "\n" not in line
    assert "\x1b" not in line
    (shown,) = lines(ended(Failure(Fault.FUNCTION, text, text)))
    assert "\n" not in shown
    assert "\x1b" not in shown


@given(st.text(alphabet=st.characters()))
def test_json_lines_are_json_whatever_is_in_them(text):
    (line,) = lines(ended(Failure(Fault.FUNCTION, "E", text)), json=True)
    assert orjson.loads(line)["event"] == "InvocationEnded"


def test_many_successes_in_a_second_are_summed_up_but_every_failure_is_shown():
    out = []
    console = Console(out.append)
    for _ in range(500):
        console(ended(Success(b"")))
    assert len(out) <= 45
    out.clear()
    for _ in range(50):
        console(ended(Failure(Fault.FUNCTION, "E", "m")))
    assert sum("✗" in line for line in out) == 50


def test_a_reader_who_sleeps_loses_lines_but_holds_nobody_up():
    reader, writer = os.pipe()
    sink = LineSink(writer, lines_max=100)
    for number in range(5000):  # far more than a pipe holds
        sink.put(f"{number} " + "x" * 100)
    assert sink.dropped > 0
    read = bytearray()

    def drain():
        while chunk := os.read(reader, 65536):
            read.extend(chunk)

    thread = threading.Thread(target=drain)
    thread.start()
    while sink.held:
        pass
    sink.put("last")
    sink.close()
    os.close(writer)
    thread.join()
    os.close(reader)
    text = read.decode()
    assert "lines dropped: the output was not read" in text
    assert text.endswith("last\n")


def test_a_reader_who_has_gone_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    sink = LineSink(writer)
    sink.put("nobody")
    sink.close()
    os.close(writer)


def test_a_window_is_told_of_where_it_ends_early_or_its_state_is_lost():
    ended = signals.WindowEnded(LANE, 60_000, 120_000, 1234, early=False)
    assert lines(ended) == []
    (line,) = lines(replace(ended, early=True))
    assert "window orders/orders orders-0 of 1970-01-01T00:01:00Z ended: 1234 bytes, early" in line
    (line,) = lines(signals.WindowLost(LANE, 60_000, 120_000, "the log was made anew"))
    assert "lost orders/orders orders-0: the state of the window of 1970-01-01T00:01:00Z" in line
    assert line.endswith("the log was made anew")
