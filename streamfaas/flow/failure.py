"""Where in a function's own code a failure began, by its stack."""

from __future__ import annotations

import re
from collections.abc import Sequence

_CODE = "/var/task/"
"""Where workers have a function's code."""

_LIBRARIES = ("/site-packages/", "/dist-packages/", "/lib/python", "<")

_FRAME = re.compile(r'\s*File "([^"\n]{1,1024})", line (\d{1,9})')


def place_of(stack: Sequence[str]) -> str:
    """`handler.py:6`: the innermost frame that is not of a library; empty where none is."""
    for element in reversed(stack):
        found = _FRAME.match(element)
        if found is not None and not any(part in found[1] for part in _LIBRARIES):
            return f"{found[1].removeprefix(_CODE)}:{found[2]}"
    return ""
