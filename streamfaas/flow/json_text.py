"""JSON as it was written: numbers keep their text, and nothing nests deeper than a bound."""

from __future__ import annotations

from json import JSONDecoder
from typing import Any

DEPTH_MAX = 128
"""Deeper than any event that people make, and shallow enough for functions that recurse."""


class Number(str):
    """A JSON number as its text: `300` and `300.0` are two."""

    __slots__ = ()


def read(text: str) -> Any:
    """The text as dicts (of two equal keys the last), lists, texts, `Number`s, booleans and None.
    `ValueError` where it is not JSON, or nests deeper than `DEPTH_MAX`."""
    try:
        value = _DECODER.decode(text)
    except RecursionError as cause:
        raise ValueError(_TOO_DEEP) from cause
    if text.count("[") + text.count("{") > DEPTH_MAX and _nests_too_deep(value):
        raise ValueError(_TOO_DEEP)
    return value


def number_text(value: float | Number) -> str:
    """A number of Python's as JSON writes it."""
    return value if isinstance(value, Number) else repr(value)


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_DECODER = JSONDecoder(parse_int=Number, parse_float=Number, parse_constant=_refuse)
_TOO_DEEP = f"it nests deeper than {DEPTH_MAX} levels"


def _nests_too_deep(value: object) -> bool:
    level: list[Any] = [value]
    for _ in range(DEPTH_MAX):
        inner = (outer.values() if type(outer) is dict else outer for outer in level)
        level = [each for many in inner for each in many if type(each) in (dict, list)]
    return bool(level)
