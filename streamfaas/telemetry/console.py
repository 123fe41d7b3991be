"""Signals as lines for a person, or as JSON lines for a collector of logs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

import orjson

from streamfaas.flow.failure import place_of
from streamfaas.flow.outcome import Failure, Outcome, Success
from streamfaas.flow.record import Lane
from streamfaas.flow.trace import Context
from streamfaas.telemetry import signals
from streamfaas.telemetry.signals import LogWritten, Signal

INVOCATION_LINES_A_SECOND = 20
"""More than so many successes in a second are summed up in one line; failures are all shown."""

BLOCKED_HELP = (
    "the lane goes on by itself once the function does not fail any more "
    "(look: streamfaas status; what helps, and what else may be: streamfaas explain blocked)"
)

GREEN, RED, YELLOW, DIM, PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[33m", "\x1b[2m", "\x1b[0m"


class Console:
    """Listens to signals; `put` takes the finished line. `quiet` leaves out what goes well,
    `stamped` puts the time before each line."""

    def __init__(
        self,
        put: Callable[[str], None],
        *,
        json: bool = False,
        colour: bool = False,
        quiet: bool = False,
        stamped: bool = True,
    ) -> None:
        self._put = put
        self._with_time = stamped
        self._json = json
        self._colour = colour
        self._quiet = quiet
        self._second = 0
        self._shown = 0
        self._unshown = 0
        self._sources: dict[str, tuple[str, str]] = {}

    def __call__(self, signal: Signal) -> None:
        if self._json:
            self._put(_json_line(signal))
        elif type(signal) is LogWritten:  # the one that comes most often by far
            if not self._quiet:
                self._put(self._written(signal))
        elif line := self._text(signal):
            self._put(line)

    # -- text

    def _text(self, signal: Signal) -> str:  # noqa: C901, PLR0912 - one case a signal
        match signal:
            case signals.InvocationEnded():
                return self._invocation(signal)
            case signals.LaneRetrying(lane, first, last, attempt, wait, blocked, reason):
                mark = "BLOCKED" if blocked else "retrying"
                tail = f": {BLOCKED_HELP}" if blocked else ""
                text = (
                    f"{mark} {_place(lane)} @{_span(first, last)}: failure {attempt}, "
                    f"again in {wait:.1f} s: {printable(reason)}{tail}"
                )
                return self._stamped(text, RED if blocked else YELLOW)
            case signals.BatchSplit(lane, first, last, records):
                parts = " + ".join(str(count) for count in records)
                text = f"split {_place(lane)} @{_span(first, last)} into {parts} records"
                return self._stamped(text, YELLOW)
            case signals.LaneFarAhead(lane, positions, unfinished):
                text = (
                    f"waiting {_place(lane)}: {positions:,} positions ahead of the oldest of "
                    f"{unfinished:,} unfinished; no more is read until it is finished with"
                )
                return self._stamped(text, YELLOW)
            case signals.LaneHealed(lane):
                return self._stamped(f"healed {_place(lane)}: goes on", GREEN)
            case signals.WindowEnded(lane, start, _, state_bytes, early):
                why = ", early: its state had grown too large" if early else ""
                text = f"window {_place(lane)} of {_moment(start)} ended: {state_bytes} bytes{why}"
                return self._stamped(text, YELLOW) if early else ""
            case signals.WindowLost(lane, start, _, reason):
                window = f"the state of the window of {_moment(start)}"
                text = f"lost {_place(lane)}: {window}: {printable(reason)}"
                return self._stamped(text, YELLOW)
            case signals.BatchSetAside(lane, first, last, records, condition, destination):
                text = (
                    f"set aside {_place(lane)} @{_span(first, last)}: {records} records "
                    f"→ {destination} ({condition})"
                )
                return self._stamped(text, YELLOW)
            case signals.DestinationFailed(lane, destination, reason, wait):
                text = (
                    f"BLOCKED {_place(lane)}: {destination} does not take a batch: "
                    f"{printable(reason)}; again in {wait:.1f} s"
                )
                return self._stamped(text, RED)
            case signals.DestinationUnready(destination, reason):
                return self._stamped(f"unready {destination}: {printable(reason)}", YELLOW)
            case signals.SourceChanged(source, state, reason):
                if self._sources.get(source) == (state, reason):
                    return ""
                self._sources[source] = (state, reason)
                colour = YELLOW if state in {"degraded", "rebuilt"} else DIM
                because = f": {printable(reason)}" if reason else ""
                return self._stamped(f"{state} {source}{because}", colour)
            case signals.TriggerPaused(source, by):
                text = f"paused {source}, as {printable(by)} asked (streamfaas resume {source})"
                return self._stamped(text, YELLOW)
            case signals.TriggerResumed(source, by):
                return self._stamped(f"resumed {source}, as {printable(by)} asked", GREEN)
            case signals.LaneSought(lane, stood, position, by):
                text = (
                    f"sought {_place(lane)}: from {stood} to {position}, as {printable(by)} asked"
                )
                return self._stamped(text, YELLOW)
            case signals.FunctionIsolated(function, level, missing):
                lacks = f", without {', '.join(missing)}" if missing else ""
                colour = DIM if level == "full" else YELLOW
                return self._stamped(f"isolation {function}: {level}{lacks}", colour)
            case signals.LogsDropped(place, count, reason):
                text = f"dropped {count:,} log lines, {place}: {printable(reason)}"
                return self._stamped(text, RED)
            case signals.WorkerEnded(_, worker, reason):
                if reason in {"idle", "drained", "replaced"}:
                    return ""
                return self._stamped(f"worker {worker} ended: {printable(reason)}", YELLOW)
            case signals.ConfigReloaded(state, detail, seconds):
                good = state in {"reloaded", "unchanged"}
                mark = state if good else f"NOT RELOADED ({state})"
                text = f"{mark} in {seconds:.2f} s: {printable(detail)}"
                return self._stamped(text, GREEN if good else RED)
            case signals.ExportChanged():
                return self._stamped(*_export(signal))
            case signals.DaemonStepped(step, detail):
                return self._stamped(f"{step} {detail}".rstrip(), "")
            case _:
                return ""

    def _written(self, signal: LogWritten) -> str:
        who, text = signal.worker or signal.function, signal.line
        text = f"{who} | {text}" if "\n" not in text else _each_line(who, text)
        return self._painted(text, DIM) if signal.platform else text

    def _invocation(self, signal: signals.InvocationEnded) -> str:
        failed = isinstance(signal.outcome, Failure)
        if not failed and (self._quiet or self._too_many()):
            return ""
        place = signal.function if signal.lane is None else _place(signal.lane)
        span = "" if signal.lane is None else f" @{_span(signal.first, signal.last)}"
        report = signal.outcome.report
        init = "" if report.init_seconds is None else f" (init {_ms(report.init_seconds)})"
        text = (
            f"{'✗' if failed else '✓'} {place}{span}  {_records(signal.records)}  "
            f"{_ms(report.duration_seconds)}{init}  {report.worker}".rstrip()
        )
        if isinstance(signal.outcome, Failure):
            where = place_of(signal.outcome.stack)
            text += f"  {printable(signal.outcome.type)}: {printable(signal.outcome.message)}"
            text += f"  {printable(where)}" if where else ""
        return self._stamped(text, RED if failed else GREEN)

    def _too_many(self) -> bool:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._shown = second, 0
            if self._unshown:
                self._put(self._painted(f"  … and {self._unshown} more invocations", DIM))
                self._unshown = 0
        self._shown += 1
        if self._shown > INVOCATION_LINES_A_SECOND:
            self._unshown += 1
            return True
        return False

    def _stamped(self, text: str, colour: str) -> str:
        if not self._with_time:  # who takes the line knows when it is
            return text
        stamp = time.strftime("%H:%M:%S")
        return f"{self._painted(stamp, DIM)} {self._painted(text, colour)}"

    def _painted(self, text: str, colour: str) -> str:
        return f"{colour}{text}{PLAIN}" if self._colour and colour else text


def unicode(text: str) -> str:
    """The text as it can be encoded: lone surrogates, which stand for bytes that were no UTF-8,
    are written out."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def printable(text: str, limit: int = 400) -> str:
    """One line, no control characters, not endless: what a function says cannot forge a line."""
    cut = text if len(text) <= limit else text[:limit] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)


def _export(signal: signals.ExportChanged) -> tuple[str, str]:
    """The line about it, and its colour."""
    where = f"{signal.signal} to {printable(signal.endpoint)}"
    lost = f"{signal.dropped:,} dropped" if signal.dropped else "nothing dropped yet"
    if signal.reason:
        return f"cannot send {where}: {printable(signal.reason)}; {lost}", YELLOW
    return f"sending again {where}: {signal.dropped:,} dropped meanwhile", GREEN


def _each_line(who: str, text: str) -> str:
    return "\n".join(f"{who} | {part}" for part in text.split("\n"))


def _place(lane: Lane) -> str:
    return f"{lane.source} {printable(lane.name)}"


def _moment(milliseconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(milliseconds / 1000))


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}..{last}"


def _records(count: int) -> str:
    return f"{count} record" + ("s" if count != 1 else "")


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


def _json_line(signal: Signal) -> str:
    body = {"time": iso_now(), "event": type(signal).__name__, **_plain(signal)}
    return orjson.dumps(body).decode()


def _plain(value: Any) -> dict[str, Any]:
    assert is_dataclass(value)
    return {field.name: _field(getattr(value, field.name)) for field in fields(value)}


def _field(value: Any) -> Any:
    match value:
        case Lane(source, name):
            return f"{source} {name}"
        case Success() | Failure():
            return _outcome(value)
        case Context():
            return value.traceparent
        case bytes():
            return value.decode("utf-8", "replace")
        case str():  # lone surrogates would not be JSON
            return unicode(value)
        case _:
            return value


def _outcome(outcome: Outcome) -> dict[str, Any]:
    report = outcome.report
    body: dict[str, Any] = {
        "ok": isinstance(outcome, Success),
        "worker": report.worker,
        "duration_seconds": round(report.duration_seconds, 6),
    }
    if report.init_seconds is not None:
        body["init_seconds"] = round(report.init_seconds, 6)
    if isinstance(outcome, Failure):
        body["error_type"] = _field(outcome.type)
        body["error_message"] = _field(outcome.message[:4096])
    return body


def iso_now() -> str:
    """The time as lines for a collector have it."""
    moment = time.time()  # noqa: TID251 - for display
    milliseconds = int(moment * 1000) % 1000
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment)) + f".{milliseconds:03d}Z"
