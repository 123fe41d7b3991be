"""What the platform says about a function's invocations, in the format that it logs in."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import orjson

from streamfaas.flow.invocation import Invocation
from streamfaas.flow.outcome import Failure, Fault, Outcome, Success
from streamfaas.flow.trace import Context
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

    def started(self, call: Invocation) -> tuple[str, ...]:
        """Before an invocation's own output."""
        return () if self._quiet else self._start(call)

    def ended(self, call: Invocation, outcome: Outcome, *, begun: bool) -> tuple[str, ...]:
        """After it: what the invocation cost, and how it ended. Where it was not `begun`, no
        worker has had it."""
        if self._quiet and isinstance(outcome, Success):
            return ()
        start = () if begun and not self._quiet else self._start(call)
        if self._json:
            return (*start, *self._json_end(call, outcome))
        report = meter.report_line(call.id, outcome, self._memory_mb)
        if (trace := _traced(call)) is not None:
            root, segment = trace.xray.partition(";")[0], f"{trace.span_id:016x}"
            told = f"XRAY TraceId: {root.removeprefix('Root=')}", f"SegmentId: {segment}"
            report = "\t".join([report, *told, "Sampled: true"])
        return (*start, meter.end_line(call.id), report)

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

    def _start(self, call: Invocation) -> tuple[str, ...]:
        if not self._json:
            return (meter.start_line(call.id),)
        record = {"requestId": call.id, "version": "$LATEST", **_tracing(call)}
        return self._told(_INFO, "start", record)

    def _json_end(self, call: Invocation, outcome: Outcome) -> tuple[str, ...]:
        report, status = outcome.report, _status(outcome)
        told: dict[str, Any] = {"requestId": call.id, "status": status}
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
            *self._told(
                _WARN if failed else _INFO, "report", {**told, "metrics": metrics, **_tracing(call)}
            ),
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


def _traced(call: Invocation) -> Context | None:
    """The context of a call that is recorded from the start."""
    context = call.context
    return context if context is not None and context.sampled else None


def _tracing(call: Invocation) -> dict[str, Any]:
    context = _traced(call)
    if context is None:
        return {}
    value = {"spanId": f"{context.span_id:016x}", "type": "X-Amzn-Trace-Id", "value": context.xray}
    return {"tracing": value}


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
