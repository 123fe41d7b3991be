"""Lambda's two formats of a function's log: lines of text, or a JSON document a record."""

from __future__ import annotations

import json
import logging
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from streamfaas.guest.python.failure import Failure

# what a record has of itself: everything else was given to it by `extra`
_OWN = frozenset(
    {
        *logging.makeLogRecord({}).__dict__,
        "asctime",
        "aws_request_id",
        "message",
        "taskName",
    }
)
_TEXT = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s\n"
_TIME = "%Y-%m-%dT%H:%M:%S"
LINE_BYTES_MAX = 64_000
"""A longer line is cut by who reads it."""

_FIELDS_MAX = 24
_NAME_CHARS = 64
_CUTS = (16_000, 2_000, 300)  # characters of a field, each of which may be written as six
_LEVELS = {
    "TRACE": logging.DEBUG,  # Python has none below
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARN": logging.WARNING,
    "ERROR": logging.ERROR,
    "FATAL": logging.CRITICAL,
}


@dataclass(frozen=True)
class LogFormat:
    """How records and uncaught errors are written; `level` is what records need at least."""

    formatter: logging.Formatter
    error_line: Callable[[Failure], str]
    level: int | None


def log_format(name: str, level: str) -> LogFormat:
    """As AWS_LAMBDA_LOG_FORMAT and AWS_LAMBDA_LOG_LEVEL name it."""
    if name == "JSON":
        return LogFormat(_JsonFormatter(), _json_error, _LEVELS.get(level))
    formatter = logging.Formatter(_TEXT, _TIME)
    formatter.converter = time.gmtime
    return LogFormat(formatter, text_error, _LEVELS.get(level))


def one_line(text: str) -> str:
    """A record of many lines is one all the same: its lines end in carriage returns, as Lambda
    has it."""
    return text.removesuffix("\n").replace("\n", "\r") + "\n"


def text_error(described: Failure) -> str:
    """What Lambda writes for an uncaught error: one line, with spaces that do not break."""
    lines = [f"[ERROR] {described['errorType']}"]
    if described["errorMessage"]:
        lines[0] += f": {described['errorMessage']}"
    lines.append("Traceback (most recent call last):")
    for element in described["stackTrace"]:
        for line in element.splitlines():
            text = line.lstrip(" ")
            lines.append("\N{NO-BREAK SPACE}" * (len(line) - len(text)) + text)
    return one_line("\n".join(lines))


def _json_error(described: Failure) -> str:
    return _line({"timestamp": _timestamp(_now()), "level": "ERROR", **described}) + "\n"


class _JsonFormatter(logging.Formatter):
    """A record as Lambda's runtime writes it; what its `extra` holds stands beside."""

    def format(self, record: logging.LogRecord) -> str:
        document = {
            "timestamp": _timestamp(record.created),
            "level": logging.getLevelName(min(record.levelno // 10 * 10, logging.CRITICAL)),
            "message": record.getMessage(),
            "logger": record.name,
            **_exception(record),
            "requestId": getattr(record, "aws_request_id", None),
        }
        document |= {
            name: value
            for name, value in record.__dict__.items()
            if name not in _OWN and name not in document
        }
        return _line({name: each for name, each in document.items() if each is not None})


def _exception(record: logging.LogRecord) -> dict[str, Any]:
    if not record.exc_info or record.exc_info[0] is None:
        return {}
    kind, error, trace = record.exc_info
    return {
        "stackTrace": traceback.format_tb(trace),
        "errorType": kind.__name__,
        "errorMessage": str(error),
        "location": f"{record.pathname}:{record.funcName}:{record.lineno}",
    }


def _line(document: dict[str, Any]) -> str:
    """What would not fit in a line of the log, and so be no document any more, is cut down."""
    text = _encode(document)
    for chars in _CUTS:
        if len(text.encode("utf-8", "backslashreplace")) <= LINE_BYTES_MAX:
            break
        fields = list(document.items())[:_FIELDS_MAX]
        text = _encode({name[:_NAME_CHARS]: _cut(value, chars) for name, value in fields})
    return text


def _cut(value: Any, chars: int) -> Any:
    text = value if isinstance(value, str) else _encode(value)
    return value if len(text) <= chars else f"{text[:chars]}…"


def _timestamp(seconds: float) -> str:
    milliseconds = int(seconds * 1000)
    whole = time.strftime(_TIME, time.gmtime(milliseconds // 1000))
    return f"{whole}.{milliseconds % 1000:03d}Z"


# made before a handler can do anything to these modules
_encode = json.JSONEncoder(ensure_ascii=False, default=str, skipkeys=True).encode
_now = time.time  # noqa: TID251 - when it was is a matter of the clock that people have
