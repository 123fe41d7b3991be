"""What an invocation cost, as numbers and as Lambda's platform lines."""

from __future__ import annotations

import math

from streamfaas.flow.outcome import Failure, Fault, Outcome
from streamfaas.workers.endings import TIMED_OUT, Ending
from streamfaas.workers.logs import printable

MIB = 1024 * 1024

NAME_MAX = 200
"""Characters of the name of an error that are shown."""


def billed_ms(seconds: float) -> int:
    """Rounded up to a millisecond, as billed since 2020."""
    return math.ceil(round(seconds * 1000, 6))


def start_line(request_id: str) -> str:
    """The line before an invocation's own output."""
    return f"START RequestId: {request_id} Version: $LATEST"


def end_line(request_id: str) -> str:
    """The line after an invocation's own output."""
    return f"END RequestId: {request_id}"


def report_line(request_id: str, outcome: Outcome, memory_mb: int) -> str:
    """What the invocation cost, and how it ended where it did not succeed."""
    report = outcome.report
    fields = [
        f"REPORT RequestId: {request_id}",
        f"Duration: {report.duration_seconds * 1000:.2f} ms",
        f"Billed Duration: {billed_ms(report.duration_seconds)} ms",
        f"Memory Size: {memory_mb} MB",
        f"Max Memory Used: {math.ceil(report.memory_bytes / MIB)} MB",
    ]
    if report.init_seconds is not None:
        fields.append(f"Init Duration: {report.init_seconds * 1000:.2f} ms")
    return "\t".join(fields + _status(outcome))


def init_report_line(seconds: float, ending: Ending) -> str:
    """The line of an init that failed; one that succeeded is told in the first REPORT."""
    fields = [f"INIT_REPORT Init Duration: {seconds * 1000:.2f} ms", "Phase: init"]
    if ending.type == TIMED_OUT:
        return "\t".join([*fields, "Status: timeout"])
    return "\t".join([*fields, "Status: error", f"Error Type: {_named(ending.type)}"])


def _named(kind: str) -> str:
    """What a function calls its error: it may be anything, and must not forge a line."""
    return printable(kind.encode("utf-8", "backslashreplace"))[:NAME_MAX]


def _status(outcome: Outcome) -> list[str]:
    match outcome:
        case Failure(fault=Fault.TIMEOUT):
            return ["Status: timeout"]
        case Failure() as failure:
            return ["Status: error", f"Error Type: {_named(failure.type)}"]
        case _:
            return []
