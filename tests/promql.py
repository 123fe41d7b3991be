"""What an expression of PromQL names: metrics with the labels that are asked of them, and the labels
that it groups by. Whether it parses, promtool says."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_TOKEN = re.compile(
    r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'|\$\{?\w+\}?|[A-Za-z_:][A-Za-z0-9_:]*|=~|!~|!=|[{}()\[\],=]'
)
_TIMES = re.compile(r"\[[^\]]*\]|\b\d+[smhdwy]\b")
_LISTS = {"by", "without", "on", "ignoring", "group_left", "group_right"}
_WORDS = {"and", "or", "unless", "offset", "bool", "atan2"}
_WORDS |= {"sum", "min", "max", "avg", "count", "topk", "bottomk", "quantile", "group", "stddev"}


@dataclass(frozen=True)
class Selector:
    """A metric, and what is asked of its labels: name to operator and text."""

    metric: str
    asked: Mapping[str, tuple[str, str]]


def named(expression: str) -> tuple[list[Selector], set[str]]:
    """The selectors, and the labels that are grouped by."""
    tokens = _TOKEN.findall(_TIMES.sub(" ", re.sub(r"#.*", "", expression)))
    selectors, groups, at = [], set(), 0
    while at < len(tokens):
        token = tokens[at]
        following = tokens[at + 1] if at + 1 < len(tokens) else ""
        if token in _LISTS and following == "(":
            end = tokens.index(")", at)
            groups |= {each for each in tokens[at + 2 : end] if each != ","}
            at = end
        elif re.match(r"[A-Za-z_:]", token) and token not in _WORDS and following != "(":
            asked = {}
            if following == "{":
                end = tokens.index("}", at)
                asked = dict(_matchers(tokens[at + 2 : end]))
                at = end
            selectors.append(Selector(token, asked))
        at += 1
    return selectors, groups


def _matchers(tokens: list[str]) -> Iterator[tuple[str, tuple[str, str]]]:
    found = [each for each in tokens if each != ","]
    for at in range(0, len(found), 3):
        name, operator, text = found[at : at + 3]
        yield name, (operator, text[1:-1])
