"""Problems as people read them: where, what, the line itself, and how to mend it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

from streamfaas.config.document import BLOT, MASK
from streamfaas.flow.errors import Problem

LINE_MAX = 96
_CONTEXT = 32
_BREAK = re.compile(r"\r\n|[\r\n\x85\u2028\u2029]")
_BLOTS = re.compile(f"{re.escape(BLOT)}+")
_TOKEN = re.compile(r"\"[^\"]*\"?|'[^']*'?|[^\s,\]}]+")


def report(
    problems: Iterable[Problem], name: str, text: str = "", *, problems_max: int = 100
) -> str:
    """All problems, an empty line between them."""
    told = list(problems)
    lines = _BREAK.split(text)
    parts = ["\n".join(_one(problem, name, lines)) for problem in told[:problems_max]]
    if len(told) > problems_max:
        parts.append(f"… and {len(told) - problems_max:,} more")
    return "\n\n".join(parts)


def summary(problem: Problem, name: str) -> str:
    """One problem on one line."""
    where = f"{name}:{problem.line}:{problem.column}" if problem.line else name
    kind = "warning" if problem.warning else "error"
    path = f"{problem.path}: " if problem.path else ""
    return printable(f"{where}: {kind} {problem.code}: {path}{problem.message}")


def printable(text: str) -> str:
    """One line without anything that moves the cursor: what stands in a file cannot forge one."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _one(problem: Problem, name: str, lines: list[str]) -> Iterator[str]:
    yield summary(problem, name)
    more = f"streamfaas explain {problem.code}"
    mend = printable(f"{problem.hint}   ({more})" if problem.hint else f"({more})")
    if not 0 < problem.line <= len(lines) or not any(lines):
        yield f"      {mend}"
        return
    line, column = _cropped(*_masked(lines[problem.line - 1], problem.column - 1))
    found = _TOKEN.match(line, column)
    marks = "^" * max(_width(found[0].rstrip(":")) if found else 1, 1)
    yield f" {problem.line:>4} | {line}".rstrip()
    yield f"      | {' ' * _width(line[:column])}{marks} {mend}"


def _masked(line: str, column: int) -> tuple[str, int]:
    """A line with blots that do not tell how long a secret is, and where its column is in that."""
    before = _BLOTS.sub(MASK, line[:column])
    return before + _BLOTS.sub(MASK, line[column:]), len(before)


def _cropped(line: str, column: int) -> tuple[str, int]:
    """As much of a long line as fits, around a column, without anything that moves the cursor."""
    tame = "".join(c if c.isprintable() else " " for c in line)
    if len(tame) <= LINE_MAX:
        return tame, column
    begin = max(0, min(column - _CONTEXT, len(tame) - LINE_MAX))
    piece = tame[begin : begin + LINE_MAX]
    if begin:
        piece = f"…{piece[1:]}"
    if begin + LINE_MAX < len(tame):
        piece = f"{piece[:-1]}…"
    return piece, column - begin


def _width(text: str) -> int:
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )
