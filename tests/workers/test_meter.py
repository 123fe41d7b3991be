from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamfaas.flow.outcome import Failure, Fault, Report, Success
from streamfaas.workers import endings, meter


@given(st.integers(0, 10**9))
def test_whole_milliseconds_are_billed_as_they_are_and_parts_are_rounded_up(micros):
    assert meter.billed_ms(micros / 1e6) == -(-micros // 1000)


def test_the_report_line_is_lambdas():
    report = Report("f#1", 0.00123, None, 73 * 1024 * 1024)
    assert meter.report_line("an-id", Success(b"", report=report), 128) == (
        "REPORT RequestId: an-id\tDuration: 1.23 ms\tBilled Duration: 2 ms\t"
        "Memory Size: 128 MB\tMax Memory Used: 73 MB"
    )


def test_the_first_report_of_a_worker_tells_of_its_start():
    report = Report("f#1", 0.25, 0.12345, 1)
    line = meter.report_line("an-id", Success(b"", report=report), 512)
    assert line.endswith("Memory Size: 512 MB\tMax Memory Used: 1 MB\tInit Duration: 123.45 ms")


def test_failures_have_a_status():
    timeout = Failure(Fault.TIMEOUT, "Sandbox.Timedout", "", report=Report("f#1", 3.0))
    assert meter.report_line("an-id", timeout, 128).endswith("\tStatus: timeout")
    error = Failure(Fault.FUNCTION, "ValueError", "")
    assert meter.report_line("an-id", error, 128).endswith(
        "\tStatus: error\tError Type: ValueError"
    )


def test_the_lines_around_an_invocation_are_lambdas():
    assert meter.start_line("an-id") == "START RequestId: an-id Version: $LATEST"
    assert meter.end_line("an-id") == "END RequestId: an-id"


def test_an_init_that_failed_has_a_line_of_its_own():
    assert meter.init_report_line(10, endings.init_timed_out(10)) == (
        "INIT_REPORT Init Duration: 10000.00 ms\tPhase: init\tStatus: timeout"
    )
    assert meter.init_report_line(0.5, endings.exited(Fault.INIT, 256)).endswith(
        "Phase: init\tStatus: error\tError Type: Runtime.ExitError"
    )


def test_a_function_cannot_forge_a_line_by_the_name_of_its_error():
    failure = Failure(Fault.FUNCTION, "\x1b[2JBad\n# HELP\u2028" + "x" * 300, "said")
    line = meter.report_line("id", failure, 128)
    assert line.isprintable() or set(filter(lambda c: not c.isprintable(), line)) == {"\t"}
    assert len(line) < 500
