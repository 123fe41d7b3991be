"""What the models refuse, told as problems with a place in the file and a mend."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from streamfaas.config import document, keys
from streamfaas.config.document import MASK, Items, Scalar, Table
from streamfaas.config.masking import without_login
from streamfaas.flow.errors import Problem

_SHOWN_MAX = 60
_OF_KEYS = ("missing", "extra_forbidden", "SF1085")
"""Errors about a key, whatever its value."""

_BARE = re.compile(r"[\x21-\x7e]+", re.ASCII)


def complaints(root: Table, errors: Iterable[Mapping[str, Any]]) -> list[Problem]:
    """One problem for each error of the models."""
    return [
        problem
        for error in errors
        if not _is_echo(root, error) and (problem := _complaint(root, error)) is not None
    ]


def where(error: Mapping[str, Any]) -> document.Path:
    """The path in the file that an error is about."""
    return _read(error)[0]


def _read(error: Mapping[str, Any]) -> tuple[document.Path, str]:
    """The path in the file, without the models' words for types and their mark for a key, but
    with the path inside of the value; and the last of those words."""
    path: document.Path = ()
    kind = ""
    parts = iter(error["loc"])
    for part in parts:
        path = (*path, part)
        if keys.section(path):
            kind = str(next(parts, kind))
            if keys.vias(kind):
                kind = keys.kind_of(kind, str(next(parts, "")))
    if path[-1:] == ("[key]",):
        path = path[:-1]
    return path + tuple(error.get("ctx", {}).get("inside") or ()), kind


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
            text = without_login(str(value))
    if not _BARE.fullmatch(text):
        text = json.dumps(text)
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}…"


def _is_echo(root: Table, error: Mapping[str, Any]) -> bool:
    """A list of nothing but wrong items counts as empty for the models."""
    node = document.find(root, where(error))
    return error["type"] == "too_short" and isinstance(node, Items) and bool(node.values)


def _complaint(root: Table, error: Mapping[str, Any]) -> Problem | None:
    path, kind = _read(error)
    path = _standing(root, path)
    node = document.find(root, path)
    if isinstance(node, Scalar) and node.origin == "nothing":
        return None  # its ${…} could not be filled in, which has been told
    of_key = error["loc"][-1:] == ("[key]",)
    hidden = isinstance(node, Scalar) and node.hidden
    value = MASK if (hidden or keys.is_secret(path)) and not of_key else shown(error["input"])
    at_key = of_key or error["type"] in _OF_KEYS
    code, message, hint = _words(error, path, kind, value)
    if error["type"] == "union_tag_invalid":
        path = (*path, _discriminator(error))
    line, column = document.place(root, path, key=at_key)
    return Problem(code, document.dotted(path), line, column, message, hint)


def _standing(root: Table, path: document.Path) -> document.Path:
    """The path as it is in the file: one thing alone may stand for a list of it, or a block."""
    if len(path) > 1 and isinstance(document.find(root, path[:-1]), Scalar):
        return _standing(root, path[:-1])
    for at, part in enumerate(path):
        if part == 0 and not isinstance(document.find(root, path[:at]), Items):
            return _standing(root, (*path[:at], *path[at + 1 :]))
    return path


def _words(
    error: Mapping[str, Any], path: document.Path, kind: str, value: str
) -> tuple[str, str, str]:
    """Code, message and hint."""
    wrong = error["type"]
    if wrong not in _OF_KEYS and error["input"] is None:
        return "SF1044", "no value is given", ""
    if wrong.startswith("SF"):
        return _told(error, kind, value)
    match wrong:
        case "missing":
            return _missing(path)
        case "extra_forbidden":
            return _unknown(path, kind)
        case "union_tag_invalid" | "union_tag_not_found" if _discriminator(error) == "via":
            return _via(kind, error)
        case "union_tag_invalid":
            of = keys.section(path)
            return _type(of, error["ctx"]["tag"], keys.kinds(of))
        case "union_tag_not_found":
            known = keys.kinds(keys.section(path))
            return "SF1043", "the key type is missing", f"one of {', '.join(known)}"
        case "literal_error":
            return _type(str(path[0]), error["input"], (error["ctx"]["expected"].strip("'"),))
        case _:
            return _shape(error, path, kind, value)


def _told(error: Mapping[str, Any], kind: str, value: str) -> tuple[str, str, str]:
    """What a form says."""
    told = error["ctx"]
    if told["inside"] is not None:
        return error["type"], told["message"], told["hint"]
    useless = _useless(error["input"], kind)
    if useless:
        return "SF1078", useless, ""
    return error["type"], f"{value} {told['message']}", told["hint"]


def _useless(value: Any, kind: str) -> str:
    """Why a block is one that only other kinds have a use for, or nothing."""
    found = (keys.no_use(kind, key) for key in value) if isinstance(value, dict) else ()
    return next(filter(None, found), "")


def _shape(
    error: Mapping[str, Any], path: document.Path, kind: str, value: str
) -> tuple[str, str, str]:
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
            only = keys.only(path, kind)
            return "SF1044", f"{value} is not a mapping", f"write {{{only}: …}}" if only else ""


def _missing(path: document.Path) -> tuple[str, str, str]:
    if path[-1] == "start":
        return (
            "SF1060",
            "the key start is missing: it says where to begin in a partition that was never read",
            "write start: earliest, start: latest, or a time like 2026-01-01T00:00:00Z",
        )
    return "SF1043", f"the key {path[-1]} is missing", ""


def _unknown(path: document.Path, kind: str) -> tuple[str, str, str]:
    key = str(path[-1])
    what = keys.later(path)
    if what:
        return "SF1041", f"{what}: not in this version", "leave the key out"
    useless = keys.no_use(kind, key)
    if useless:
        return "SF1078", useless, "leave the key out"
    meant = keys.elsewhere(path)
    if meant:
        return "SF1040", f"there is no key {shown(key)}", f"here it is {meant}, of a trigger"
    known = keys.siblings(path, kind)
    near = keys.below(path, kind) or keys.nearest(key, known)
    hint = f"did you mean {near}?" if near else f"known here: {', '.join(known)}"
    return "SF1040", f"there is no key {shown(key)}", hint


def _discriminator(error: Mapping[str, Any]) -> str:
    """The key that says which of several models is meant."""
    return str(error["ctx"]["discriminator"]).strip("'")


def _via(kind: str, error: Mapping[str, Any]) -> tuple[str, str, str]:
    known = keys.vias(kind)
    word = error["ctx"].get("tag")
    if word is None:
        return "SF1043", "the key via is missing", f"one of {', '.join(known)}"
    near = keys.nearest(word, known)
    hint = f"did you mean {near}?" if near else f"one of {', '.join(known)}"
    return "SF1047", f"{shown(word)} is no way that is known here", hint


def _type(section: str, word: Any, known: tuple[str, ...]) -> tuple[str, str, str]:
    what = keys.LATER_TYPES.get(section, {}).get(str(word))
    choices = ", ".join(known)
    if what:
        return "SF1041", f"{what}: not in this version", f"this version has {choices}"
    near = keys.nearest(str(word), known)
    hint = f"did you mean {near}?" if near else f"one of {choices}"
    return "SF1047", f"{shown(word)} is not a type that is known here", hint
