"""One pattern of a filter: a mapping, or the JSON text that Lambda takes, as which it is kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from streamfaas.config.document import Hidden
from streamfaas.config.forms import Form, fail

TEXT_MAX = 4_096
"""Characters of one pattern, as on Lambda."""


def pattern() -> Form:
    """A pattern of the records that are wanted."""
    says = "a pattern, as in {value: {status: [paid]}}, or its JSON"
    text = {"type": "string", "minLength": 2, "maxLength": TEXT_MAX}
    return Form(says, _check, {"anyOf": [{"type": "object"}, text]})


def _check(value: Any, _base: Path) -> str:
    if not isinstance(value, dict | str):
        fail("SF1080", "is not a pattern", "write a mapping, as in {value: {status: [paid]}}")
    text = value if isinstance(value, str) else _written(value)
    if len(text) > TEXT_MAX:
        fail("SF1042", f"has {len(text):,} characters as JSON, over the limit of {TEXT_MAX:,}")
    return Hidden(text) if any(isinstance(each, Hidden) for each in _values(value)) else text


def _written(value: dict[str, Any]) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except ValueError:
        fail("SF1080", "holds a number that JSON has not", "leave .inf and .nan out")


def _values(value: Any) -> Iterator[Any]:
    """All values inside of one."""
    match value:
        case dict():
            for each in value.values():
                yield from _values(each)
        case list():
            for each in value:
                yield from _values(each)
        case _:
            yield value
