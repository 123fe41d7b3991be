"""Durations, sizes and ranges as people write them."""

from __future__ import annotations

import re

DURATION_PATTERN = r"[0-9]{1,12}(\.[0-9]{1,3})?(ms|s|m|h|d)"
SIZE_PATTERN = r"[0-9]{1,12}(B|[KMG]i?B)"

_MILLISECONDS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_BYTES = {"GB": 1 << 30, "MB": 1 << 20, "KB": 1 << 10, "B": 1}
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?", re.ASCII)
_DURATION = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,3}))?(ms|s|m|h|d)", re.ASCII)
_SIZE = re.compile(r"([0-9]{1,12})(B|[KMG]i?B)", re.ASCII)


class UnitError(ValueError):
    """Not a duration, size or range. `hint` says how to write what was probably meant."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def parse_duration(text: str) -> float:
    """Seconds, from a number and one of ms, s, m, h, d. Whole milliseconds only."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise UnitError("is not a duration", _mend(text, "s", '"250ms", "30s", "2m" or "1h"'))
    whole, part, unit = found.groups()
    scale = _MILLISECONDS[unit]
    thousandths = int(whole) * 1_000 + int((part or "").ljust(3, "0"))
    if thousandths * scale % 1_000:
        raise UnitError("is finer than a millisecond", "give a whole number of milliseconds")
    return thousandths * scale // 1_000 / 1_000


def format_duration(seconds: float) -> str:
    """The shortest text that `parse_duration` reads back as the same number."""
    milliseconds = round(seconds * 1_000)
    if not milliseconds:
        return "0s"
    unit = next(u for u, scale in _MILLISECONDS.items() if milliseconds % scale == 0)
    return f"{milliseconds // _MILLISECONDS[unit]}{unit}"


def parse_size(text: str) -> int:
    """Bytes, from a whole number and B, KB, MB or GB, each 1,024 times the one before."""
    found = _SIZE.fullmatch(text)
    if found is None:
        raise UnitError("is not a size", _mend(text, "MB", '"256KB", "128MB" or "1GB"'))
    return int(found[1]) * _BYTES[found[2].replace("i", "")]


def format_size(size_bytes: int) -> str:
    """The shortest text that `parse_size` reads back as the same number."""
    unit = next(u for u, scale in _BYTES.items() if size_bytes % scale == 0) if size_bytes else "B"
    return f"{size_bytes // _BYTES[unit]}{unit}"


def parse_range(text: str) -> tuple[float, float]:
    """Two durations, the shorter first, written `1s..60s`."""
    first, dots, last = text.partition("..")
    if not dots:
        raise UnitError("is not a range of durations", 'write it as "1s..60s"')
    low, high = parse_duration(first), parse_duration(last)
    if low > high:
        raise UnitError("runs backwards", f'write "{last}..{first}"')
    return low, high


def format_range(low: float, high: float) -> str:
    """The text that `parse_range` reads back as the same pair."""
    return f"{format_duration(low)}..{format_duration(high)}"


def _mend(text: str, unit: str, examples: str) -> str:
    """What to write instead, from what can be guessed."""
    if _NUMBER.fullmatch(text):
        return f'a unit is needed: write "{text}{unit}"'
    tight = re.sub(r"\s+", "", text)
    for guess in (tight, tight.lower(), tight.upper()):
        if guess != text and (_DURATION if unit == "s" else _SIZE).fullmatch(guess):
            return f'write "{guess}"'
    return f"write {examples}"
