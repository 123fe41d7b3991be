"""JSON as it was written: numbers keep their text, and nothing nests deeper than a bound."""

from __future__ import annotations

import re
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


def members(text: str) -> dict[str, str]:
    """The members of a JSON object, each as the text that it was written in (of two equal keys the
    last). `ValueError` where it is no JSON object."""
    found: dict[str, str] = {}
    at = _past(text, 0, "{")
    more = not text.startswith("}", at)
    while more:
        if not text.startswith('"', at):
            raise ValueError(f"there is no key at character {at}")
        key, at = _value_at(text, at)
        start = _past(text, at, ":")
        _, end = _value_at(text, start)
        found[key] = text[start:end]
        at = _past(text, end, "")
        if more := text.startswith(",", at):
            at = _past(text, at, ",")
    if _past(text, at, "}") != len(text):
        raise ValueError("something follows the object")
    return found


def number_text(value: float | Number) -> str:
    """A number of Python's as JSON writes it."""
    return value if isinstance(value, Number) else repr(value)


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _value_at(text: str, at: int) -> tuple[Any, int]:
    """What stands there, and where it ends."""
    try:
        return _PLAIN.raw_decode(text, at)
    except RecursionError as cause:
        raise ValueError(_TOO_DEEP) from cause


def _past(text: str, at: int, mark: str) -> int:
    """Behind a mark, and the blanks on both sides of it."""
    at = _BLANKS.match(text, at).end()  # type: ignore[union-attr] # it always matches
    if not text.startswith(mark, at):
        raise ValueError(f"there is no {mark} at character {at}")
    return _BLANKS.match(text, at + len(mark)).end()  # type: ignore[union-attr]


_BLANKS = re.compile(r"[ \t\n\r]*")
_PLAIN = JSONDecoder(parse_constant=_refuse)
_DECODER = JSONDecoder(parse_int=Number, parse_float=Number, parse_constant=_refuse)
_TOO_DEEP = f"it nests deeper than {DEPTH_MAX} levels"


def _nests_too_deep(value: object) -> bool:
    level: list[Any] = [value]
    for _ in range(DEPTH_MAX):
        inner = (outer.values() if type(outer) is dict else outer for outer in level)
        level = [each for many in inner for each in many if type(each) in (dict, list)]
    return bool(level)
