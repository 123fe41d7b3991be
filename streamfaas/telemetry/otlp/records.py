"""Lines as OpenTelemetry's log records: a function's own, and the daemon's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from streamfaas.flow.outcome import Success
from streamfaas.telemetry import names, signals
from streamfaas.telemetry.console import Console, unicode
from streamfaas.telemetry.severity import level_of
from streamfaas.telemetry.signals import LogWritten, Signal

LINE_CHARS_MAX = 64 << 10
"""More of one line is cut off, and the line says so."""


@dataclass(frozen=True, slots=True)
class DaemonLine:
    """One line of the daemon about itself."""

    time_ns: int
    event: str
    level: str
    line: str


Entry: TypeAlias = LogWritten | DaemonLine


class Lines:
    """Makes lines of the daemon's signals, in the words of its console."""

    def __init__(self) -> None:
        self._said: list[str] = []
        self._console = Console(self._said.append, quiet=True, stamped=False)

    def of(self, signal: Signal, now: Callable[[], int]) -> DaemonLine | None:
        """None for what has no line. Successes have none: they are traces and metrics."""
        if isinstance(signal, signals.InvocationEnded) and isinstance(signal.outcome, Success):
            return None
        self._console(signal)
        if not self._said:
            return None
        line = self._said.pop()
        return DaemonLine(now(), type(signal).__name__, _level(signal), line)


def _level(signal: Signal) -> str:
    match signal:
        case signals.DestinationFailed() | signals.InvocationEnded():
            return "ERROR"
        case signals.LaneRetrying(blocked=blocked):
            return "ERROR" if blocked else "WARN"
        case signals.DaemonStepped(step=step):
            return {"refused": "FATAL", "stuck": "FATAL", "export": "WARN"}.get(step, "INFO")
        case signals.SourceChanged(state=state):
            return "WARN" if state in {"degraded", "rebuilt"} else "INFO"
        case signals.FunctionIsolated(level=level):
            return "INFO" if level == "full" else "WARN"
        case signals.ExportChanged(reason=reason):
            return "WARN" if reason else "INFO"
        case signals.LaneFarAhead() | signals.BatchSetAside() | signals.DestinationUnready():
            return "WARN"
        case signals.WindowLost():
            return "WARN"
        case signals.WorkerEnded():  # those that ended well have no line
            return "WARN"
        case _:
            return "INFO"


def readable_records(
    entries: Iterable[Entry], resource: Resource, scope: InstrumentationScope
) -> list[ReadableLogRecord]:
    """What the SDK's exporters take."""
    return [
        ReadableLogRecord(
            _of_function(each) if isinstance(each, LogWritten) else _of_daemon(each),
            resource,
            scope,
        )
        for each in entries
    ]


def _of_function(written: LogWritten) -> LogRecord:
    level = level_of(written.line, platform=written.platform)
    attributes = {
        names.FUNCTION: written.function,
        names.INVOCATION_ID: written.request_id,
        names.INSTANCE: written.worker,
    }
    return LogRecord(
        timestamp=written.time_ns,
        observed_timestamp=written.time_ns,
        trace_id=int(written.trace_id, 16) if written.trace_id else None,
        severity_text=level or None,
        severity_number=SeverityNumber[level] if level else None,
        body=_cut(written.line),
        attributes={name: unicode(text) for name, text in attributes.items() if text},
    )


def _of_daemon(said: DaemonLine) -> LogRecord:
    return LogRecord(
        timestamp=said.time_ns,
        observed_timestamp=said.time_ns,
        severity_text=said.level,
        severity_number=SeverityNumber[said.level],
        body=_cut(said.line),
        event_name=f"{names.SCOPE}.{said.event}",
    )


def _cut(line: str) -> str:
    if len(line) <= LINE_CHARS_MAX:
        return unicode(line)
    return f"{unicode(line[:LINE_CHARS_MAX])}… {len(line) - LINE_CHARS_MAX:,} characters more"
