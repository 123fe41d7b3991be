"""JSON in and out as Lambda's own Python runtime has it, at orjson's speed where they agree."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from types import ModuleType
from typing import Any

Loads = Callable[[Any], Any]
Dumps = Callable[[Any], bytes]

_DIGITS = bytes(48 if 48 <= code < 58 else 32 for code in range(256))
_LONG_NUMBER = b"0" * 19  # nineteen digits may pass 64 bits


def make_loads(orjson: ModuleType | None) -> Loads:
    """Reads events. orjson makes a float of a number past 64 bits and refuses what the standard
    library accepts: there the standard library decides."""
    if orjson is None:
        return lambda data: json.loads(bytes(data))
    fast = orjson.loads
    refusal = orjson.JSONDecodeError

    def loads(data: Any) -> Any:
        text = bytes(data)
        if _LONG_NUMBER in text.translate(_DIGITS):
            return json.loads(text)
        try:
            return fast(text)
        except refusal:
            return json.loads(text)

    return loads


def make_dumps(orjson: ModuleType | None) -> Dumps:
    """Writes answers; `TypeError`, `ValueError` or `RecursionError` for what is no JSON.

    As on Lambda: NaN stays NaN, numbers have any size, keys may be numbers, a Decimal is a number,
    dates and dataclasses are refused. Unlike there, UUIDs and enumerations are written as text.
    """
    if orjson is None:
        return _dumps_slowly
    fast = orjson.dumps
    options = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
    refusal = orjson.JSONEncodeError

    def dumps(answer: Any) -> bytes:
        if answer is None:
            return b"null"
        try:
            text: bytes = fast(answer, None, options)
        except refusal:
            return _dumps_slowly(answer)
        if b"null" in text:  # orjson's word for NaN, too
            try:
                return _dumps_slowly(answer)
            except (TypeError, ValueError):
                return text
        return text

    return dumps


def make_measure(orjson: ModuleType | None) -> Callable[[Any], int]:
    """Tells how many bytes of JSON something is."""
    if orjson is None:
        return lambda part: len(
            json.dumps(part, ensure_ascii=False, separators=(",", ":")).encode()
        )
    dumps = orjson.dumps
    return lambda part: len(dumps(part))


def _dumps_slowly(answer: Any) -> bytes:
    return json.dumps(answer, default=_number, separators=(",", ":")).encode()


def _number(value: Any) -> int | float:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")
