"""What the models refuse, told as problems with a place in the file and a mend."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from streamfaas.config import document, keys
from streamfaas.config.document import MASK, Items, Scalar, Table
from streamfaas.flow.errors import Problem

_SHOWN_MAX = 60
_OF_KEYS = ("missing", "extra_forbidden")
"""Errors about a key, whatever its value."""

_BARE = re.compile(r"[\x21-\x7e]+", re.ASCII)


def complaints(root: Table, errors: Iterable[Mapping[str, Any]]) -> list[Problem]:
    """One problem for each error of the models."""
    return [
        problem
        for error in errors
        if not _is_echo(root, error)
        and (problem := _complaint(root, error, where(error))) is not None
    ]


def where(error: Mapping[str, Any]) -> document.Path:
    """The path in the file that an error is about: without the models' word for a trigger's
    type, and without their mark for a key."""
    path = tuple(error["loc"])
    if path[0:1] == ("functions",) and path[2:3] == ("triggers",):
        path = path[:4] + path[5:]
    return path[:-1] if path[-1:] == ("[key]",) else path


def shown(value: Any) -> str:
    """A value as it can be printed: short, on one line, without control characters."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case _:
            text = str(value)
    if not _BARE.fullmatch(text):
        text = json.dumps(text)
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}…"


def _is_echo(root: Table, error: Mapping[str, Any]) -> bool:
    """A list of nothing but wrong items counts as empty for the models."""
    node = document.find(root, where(error))
    return error["type"] == "too_short" and isinstance(node, Items) and bool(node.values)


def _complaint(root: Table, error: Mapping[str, Any], path: document.Path) -> Problem | None:
    node = document.find(root, path)
    if isinstance(node, Scalar) and node.origin == "nothing":
        return None  # its ${…} could not be filled in, which has been told
    of_key = error["loc"][-1:] == ("[key]",)
    hidden = isinstance(node, Scalar) and node.hidden
    secret = path != () and path[-1] in keys.secrets()
    value = MASK if (hidden or secret) and not of_key else shown(error["input"])
    at_key = of_key or error["type"] in _OF_KEYS
    code, message, hint = _words(error, path, value)
    if error["type"] == "union_tag_invalid":
        path = (*path, "type")
    if path and isinstance(document.find(root, path[:-1]), Scalar):
        path = path[:-1]  # a word that stands for a whole block
    line, column = document.place(root, path, key=at_key)
    return Problem(code, document.dotted(path), line, column, message, hint)


def _words(error: Mapping[str, Any], path: document.Path, value: str) -> tuple[str, str, str]:
    """Code, message and hint."""
    kind = error["type"]
    if kind not in _OF_KEYS and error["input"] is None:
        return "SF1044", "no value is given", ""
    if kind.startswith("SF"):
        told = error["ctx"]
        return kind, f"{value} {told['message']}", told["hint"]
    match kind:
        case "missing":
            return _missing(path)
        case "extra_forbidden":
            return _unknown(error, path)
        case "union_tag_invalid":
            return _type(path, error["ctx"]["tag"], keys.kinds())
        case "union_tag_not_found":
            return "SF1043", "the key type is missing", f"one of {', '.join(keys.kinds())}"
        case "literal_error":
            return _type(path[:-1], error["input"], (error["ctx"]["expected"].strip("'"),))
        case _:
            return _shape(error, value)


def _shape(error: Mapping[str, Any], value: str) -> tuple[str, str, str]:
    match error["type"]:
        case "tuple_type":
            bare = value not in ("nothing", "a mapping", MASK)
            return "SF1044", f"{value} is not a list", f"write [{value}]" if bare else ""
        case "too_short":
            return "SF1042", "the list is empty", ""
        case "too_long":
            most = error["ctx"]["max_length"]
            return "SF1042", f"the list has over {most:,} items", ""
        case _:  # model_type, model_attributes_type, dict_type, mapping_type
            return "SF1044", f"{value} is not a mapping", ""


def _missing(path: document.Path) -> tuple[str, str, str]:
    if path[-1] == "start":
        return (
            "SF1060",
            "the key start is missing: it says where to begin in a partition that was never read",
            "write start: earliest, start: latest, or a time like 2026-01-01T00:00:00Z",
        )
    return "SF1043", f"the key {path[-1]} is missing", ""


def _unknown(error: Mapping[str, Any], path: document.Path) -> tuple[str, str, str]:
    what = keys.later(path)
    if what:
        return "SF1041", f"{what}: not in this version", "leave the key out"
    kind = str(error["loc"][4]) if len(error["loc"]) != len(path) else ""
    known = keys.siblings(path, kind)
    near = keys.nearest(str(path[-1]), known)
    hint = f"did you mean {near}?" if near else f"known here: {', '.join(known)}"
    return "SF1040", f"there is no key {shown(path[-1])}", hint


def _type(path: document.Path, word: Any, known: tuple[str, ...]) -> tuple[str, str, str]:
    section = str(path[-1]) if path[-1] == "on_failure" else str(path[-2])
    what = keys.LATER_TYPES.get(section, {}).get(str(word))
    choices = ", ".join(known)
    if what:
        return "SF1041", f"{what}: not in this version", f"this version has {choices}"
    near = keys.nearest(str(word), known)
    hint = f"did you mean {near}?" if near else f"one of {choices}"
    return "SF1047", f"{shown(word)} is not a type that is known here", hint
