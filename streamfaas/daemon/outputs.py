"""Where the daemon's own words go: lines on stdout, or entries of systemd's journal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from streamfaas.daemon.summary import json_summary, summary_lines
from streamfaas.telemetry import journal
from streamfaas.telemetry.console import Console
from streamfaas.telemetry.journal import Journal
from streamfaas.telemetry.signals import Emit, LogsDropped
from streamfaas.telemetry.sink import LineSink


@dataclass(frozen=True, slots=True)
class Output:
    """`listen` is given each signal, and `finish` what `status` would show at the end."""

    listen: Emit
    finish: Callable[[dict[str, Any]], None]
    close: Callable[[], None]


def opened(output: str, *, quiet: bool, json_logs: bool) -> Output:
    """As `telemetry.logs.output` says. Lines of JSON, where somebody asks for them, are lines."""
    by_itself = output == "auto" and not json_logs and journal.is_ours(os.environ)
    if output == "journal" or by_itself:
        return _journal(quiet=quiet)
    return _stdout(quiet=quiet, json_logs=json_logs)


def _journal(*, quiet: bool) -> Output:
    made = Journal(_tell_on_stderr, quiet=quiet)

    def finish(view: dict[str, Any]) -> None:
        made.note("\n".join(summary_lines(view)))

    return Output(made, finish, made.close)


def _tell_on_stderr(lost: LogsDropped) -> None:
    """The journal itself does not take it."""
    sys.stderr.write(f"streamfaas: dropped {lost.lines:,} entries of the journal: {lost.reason}\n")


def _stdout(*, quiet: bool, json_logs: bool) -> Output:
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    sink = LineSink(sys.stdout.fileno())
    told = json_summary if json_logs else summary_lines

    def finish(view: dict[str, Any]) -> None:
        for line in told(view):
            sink.put(line)

    return Output(Console(sink.put, json=json_logs, colour=colour, quiet=quiet), finish, sink.close)
