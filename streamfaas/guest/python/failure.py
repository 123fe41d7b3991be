"""What went wrong in a function, in Lambda's form and of bounded size."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any

FAILURE_BYTES_MAX = 64 * 1024

_FRAMES_MAX = 200
_CUTS = ((16 * 1024, 40), (8 * 1024, 8), (4 * 1024, 0))  # characters of message, frames
_OURS = os.path.dirname(os.path.abspath(__file__)) + os.sep
_IMPORTING = ("<frozen importlib", os.path.join("importlib", "__init__.py"))

Failure = dict[str, Any]


def failure(
    kind: str, message: str, request_id: str = "", stack: list[str] | None = None
) -> Failure:
    """A failure of the name `kind`, in the order of Lambda's fields."""
    return {
        "errorMessage": message,
        "errorType": kind,
        "requestId": request_id,
        "stackTrace": stack or [],
    }


def failure_of(error: BaseException, request_id: str = "") -> Failure:
    """What a handler or its module raised; our own frames are not shown."""
    try:
        message = str(error)
    except Exception:
        message = f"<unprintable {type(error).__name__} object>"
    frames = traceback.extract_tb(_beyond_ours(error.__traceback__), limit=-_FRAMES_MAX)
    # without columns, as Lambda has it: no line of carets under each line of code
    plain = [(frame.filename, frame.lineno or 0, frame.name, frame.line) for frame in frames]
    return failure(type(error).__name__, message, request_id, traceback.format_list(plain))


def encode(described: Failure, dumps: Callable[[Any], bytes]) -> bytes:
    """As JSON, cut down where it is too large: the innermost frames stay the longest."""
    body = dumps(described)
    for characters, frames in _CUTS:
        if len(body) <= FAILURE_BYTES_MAX:
            break
        stack = described["stackTrace"][-frames:] if frames else []
        cut = {
            "errorMessage": described["errorMessage"][:characters],
            "errorType": described["errorType"][:256],
            "stackTrace": [line[:1024] for line in stack],
        }
        body = dumps(described | cut)
    return body


def _beyond_ours(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith((_OURS, _IMPORTING[0])) and not file.endswith(_IMPORTING[1]):
            break
        trace = trace.tb_next
    return trace
