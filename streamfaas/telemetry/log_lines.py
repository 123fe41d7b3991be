"""How a function's lines are written to its file, and read from there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import orjson

from streamfaas.telemetry.signals import LogWritten

_HEAD = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) (?P<worker>\S+) "
    r"(?P<request>[^\s/]+)(?:/(?P<trace>[0-9a-f]{32}))? (?P<mark>[|:]) (?P<text>.*)",
    re.DOTALL,
)
_PLATFORM = re.compile(r'\{"time":"[^"]+","type":"platform\.')
_OWN, _PLATFORMS = "|", ":"


def text_line(signal: LogWritten) -> str:
    """`time worker request-id | line`, with `:` for `|` where it is the platform's; what follows
    in a record of many lines is set in by a tab."""
    trace = f"/{signal.trace_id}" if signal.trace_id else ""
    mark = _PLATFORMS if signal.platform else _OWN
    text = signal.line.replace("\n", "\n\t")
    who, whose = signal.worker or signal.function, signal.request_id or "-"
    return f"{stamp(signal.time_ns)} {who} {whose}{trace} {mark} {text}\n"


def json_line(signal: LogWritten) -> str:
    """A document as the function wrote it; anything else in one of Lambda's form."""
    if signal.line.startswith("{"):
        try:
            orjson.loads(signal.line)
        except orjson.JSONDecodeError:
            pass
        else:
            return f"{signal.line}\n"
    document: dict[str, Any] = {"timestamp": stamp(signal.time_ns), "message": signal.line}
    if signal.request_id:
        document["requestId"] = signal.request_id
    return orjson.dumps(document, default=str).decode() + "\n"


def parsed(function: str, lines: Iterable[str]) -> Iterator[LogWritten]:
    """What was written, but for a beginning that is cut off."""
    for block in _blocks(lines):
        found = _of_text(function, block) or _of_document(function, block)
        if found is not None:
            yield found


def _blocks(lines: Iterable[str]) -> Iterator[str]:
    """Records, of many lines or of one."""
    block: list[str] = []
    for line in lines:
        if line.startswith("\t") and block:
            block.append(line[1:])
            continue
        if block:
            yield "\n".join(block)
        block = [line]
    if block:
        yield "\n".join(block)


def _of_text(function: str, line: str) -> LogWritten | None:
    head = _HEAD.fullmatch(line)
    if head is None:
        return None
    worker = "" if head["worker"] == function else head["worker"]
    request_id = "" if head["request"] == "-" else head["request"]
    platform, time_ns = head["mark"] == _PLATFORMS, _nanoseconds(head["time"])
    return LogWritten(
        function, worker, request_id, head["text"], platform, time_ns, head["trace"] or ""
    )


def _of_document(function: str, line: str) -> LogWritten | None:
    try:
        said = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(said, dict):
        return None
    platform = _PLATFORM.match(line) is not None
    record = said.get("record") if platform else said
    request_id = record.get("requestId") if isinstance(record, dict) else ""
    time_ns = _nanoseconds(str(said.get("timestamp") or said.get("time") or ""))
    text = line
    if said.keys() <= {"timestamp", "message", "requestId"} and "message" in said:
        text = str(said["message"])  # wrapped by us
    return LogWritten(function, "", str(request_id or ""), text, platform, time_ns)


def stamp(time_ns: int) -> str:
    """A time as Lambda's logs have it."""
    moment = datetime.fromtimestamp(time_ns // 1_000_000_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{time_ns // 1_000_000 % 1_000:03d}Z"


def _nanoseconds(text: str) -> int:
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1000) * 1_000_000
    except ValueError:
        return 0
