"""What the platform says about a function's invocations, in the format that it logs in."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import orjson

from streamfaas.flow.outcome import Failure, Fault, Outcome, Success
from streamfaas.functions import Function
from streamfaas.workers import meter
from streamfaas.workers.endings import TIMED_OUT, Ending

_DEBUG, _INFO, _WARN = 10, 20, 30
_LEVELS = {"debug": _DEBUG, "info": _INFO, "warn": _WARN}
_DIED = frozenset({Fault.CRASH, Fault.MEMORY, Fault.INIT, Fault.ABORTED})


class Platform:
    """Of one function. Each method gives the lines that are to be written now."""

    __slots__ = ("_at_least", "_json", "_memory_mb", "_quiet", "_rate_max")

    def __init__(self, function: Function) -> None:
        self._json = function.log_format == "json"
        self._quiet = not function.platform_logs  # only of what fails
        self._at_least = _LEVELS[function.system_level] if self._json else _INFO
        self._memory_mb = function.memory_mb
        self._rate_max = function.log_rate_max

    def started(self, request_id: str) -> tuple[str, ...]:
        """Before an invocation's own output."""
        return () if self._quiet else self._start(request_id)

    def ended(self, request_id: str, outcome: Outcome, *, begun: bool) -> tuple[str, ...]:
        """After it: what the invocation cost, and how it ended. Where it was not `begun`, no
        worker has had it."""
        if self._quiet and isinstance(outcome, Success):
            return ()
        start = () if begun and not self._quiet else self._start(request_id)
        if self._json:
            return (*start, *self._json_end(request_id, outcome))
        report = meter.report_line(request_id, outcome, self._memory_mb)
        return (*start, meter.end_line(request_id), report)

    def init_ended(self, seconds: float, ending: Ending | None) -> tuple[str, ...]:
        """Of a worker's init; in text only of one that failed, since the first REPORT tells of
        one that did not."""
        if self._json:
            return self._json_init(seconds, ending)
        return () if ending is None else (meter.init_report_line(seconds, ending),)

    def cut(self, dropped: int) -> tuple[str, ...]:
        """So many bytes of a second's output were over what a function may write in one."""
        reason = f"output cut: over {self._rate_max} bytes in a second"
        if self._json:
            return self._told(_WARN, "logsDropped", {"reason": reason, "droppedBytes": dropped})
        return (f"… {reason} ({dropped} bytes dropped)",)

    def _start(self, request_id: str) -> tuple[str, ...]:
        if not self._json:
            return (meter.start_line(request_id),)
        return self._told(_INFO, "start", {"requestId": request_id, "version": "$LATEST"})

    def _json_end(self, request_id: str, outcome: Outcome) -> tuple[str, ...]:
        report, status = outcome.report, _status(outcome)
        told: dict[str, Any] = {"requestId": request_id, "status": status}
        if isinstance(outcome, Failure) and status != "timeout":
            told["errorType"] = outcome.type
        duration = _ms(report.duration_seconds)
        produced = len(outcome.answer) if isinstance(outcome, Success) else 0
        metrics = {
            "durationMs": duration,
            "billedDurationMs": meter.billed_ms(report.duration_seconds),
            "memorySizeMB": self._memory_mb,
            "maxMemoryUsedMB": math.ceil(report.memory_bytes / meter.MIB),
        }
        if report.init_seconds is not None:
            metrics["initDurationMs"] = _ms(report.init_seconds)
        done = {**told, "metrics": {"durationMs": duration, "producedBytes": produced}}
        failed = status != "success"
        return (
            *self._told(_WARN if failed else _DEBUG, "runtimeDone", done),
            *self._told(_WARN if failed else _INFO, "report", {**told, "metrics": metrics}),
        )

    def _json_init(self, seconds: float, ending: Ending | None) -> tuple[str, ...]:
        record: dict[str, Any] = {"initializationType": "on-demand", "phase": "init"}
        if ending is None:
            record["status"] = "success"
        elif ending.type == TIMED_OUT:
            record["status"] = "timeout"
        else:
            record |= {"status": "error", "errorType": ending.type}
        record["metrics"] = {"durationMs": _ms(seconds)}
        return self._told(_DEBUG if ending is None else _WARN, "initReport", record)

    def _told(self, level: int, kind: str, record: Mapping[str, Any]) -> tuple[str, ...]:
        if level < self._at_least:
            return ()
        milliseconds = time.time_ns() // 1_000_000  # as people read it
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(milliseconds // 1000))
        stamp = f"{moment}.{milliseconds % 1000:03d}Z"
        body = {"time": stamp, "type": f"platform.{kind}", "record": record}
        return (orjson.dumps(body, default=str).decode(),)


def _status(outcome: Outcome) -> str:
    match outcome:
        case Success():
            return "success"
        case Failure(fault=Fault.TIMEOUT):
            return "timeout"
        case Failure(fault=fault):
            return "failure" if fault in _DIED else "error"


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
