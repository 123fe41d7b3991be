"""How grave a line of a function is, by what the line itself says."""

from __future__ import annotations

import re

LEVELS = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
"""Lambda's names, from the least on."""

_NAMES = {each: each for each in LEVELS} | {
    "NOTSET": "TRACE",
    "NOTICE": "INFO",
    "WARNING": "WARN",
    "EXCEPTION": "ERROR",
    "CRITICAL": "FATAL",
}
_TEXT = re.compile(r"\[([A-Z]+)\][\t ]")
_JSON = re.compile(r'"level"\s*:\s*"([A-Za-z]+)"')
_FAILED = re.compile(r'"status":"(?:error|failure|timeout)"|\tStatus: (?:error|timeout)')
_HEAD_CHARS = 512


def level_of(line: str, *, platform: bool) -> str:
    """One of `LEVELS`; "" where a line of the function does not say. Of a document only the head
    is looked at: loggers write the level first."""
    if platform:
        return "WARN" if _FAILED.search(line) else "INFO"
    if line.startswith("["):
        found = _TEXT.match(line)
    elif line.startswith("{"):
        found = _JSON.search(line, 0, _HEAD_CHARS)
    else:
        return "ERROR" if line.startswith("Traceback (most recent call last):") else ""
    return _NAMES.get(found[1].upper(), "") if found else ""
