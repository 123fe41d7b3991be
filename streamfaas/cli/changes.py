"""What differs between two configurations, and what it means for what runs, as people read it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from streamfaas.cli.exits import printable

_MARKS = {"added": "+", "removed": "-", "changed": "~"}
_COLUMN = 40
_VALUE_MAX = 60


def lines(changes: Mapping[str, Any]) -> Iterator[str]:
    """All of it, in lines without anything that moves the cursor."""
    if not changes["changed"]:
        yield "no difference"
        return
    restarted, replaced = changes["restarted"], changes["workers_replaced"]
    notes = {
        "functions": dict.fromkeys(replaced, "its workers are replaced"),
        "triggers": dict.fromkeys(restarted, "is restarted"),
    }
    for section in ("functions", "triggers", "connections", "sections"):
        parts = [part for part in changes[section] if _is_shown(part)]
        if parts:
            yield section if section != "sections" else "other"
        for part in parts:
            yield from _part(part, notes.get(section, {}).get(part["name"], ""))
    recoded = changes["code_changed"]
    yield from _listed("their code has changed, workers are replaced", recoded)
    shared = [name for name in replaced if name not in {*recoded, *_names(changes["functions"])}]
    yield from _listed("workers replaced, for their directories", shared)
    yield from _listed("untouched", [each for each in changes["untouched"] if not _quiet(each)])
    for name, events in changes["unclaimed"].items():
        yield printable(f"{events:,} events wait for {name}: they are kept until it is back")
    for name, what in changes["windows"].items():
        yield printable(f"windows of {name}: {what}")
    yield from _listed("NEEDS A RESTART", changes["needs_restart"])


def _part(part: Mapping[str, Any], note: str) -> Iterator[str]:
    head = f"  {_MARKS[part['change']]} {part['name']}"
    if part["by"]:
        note = f"{note}, for {', '.join(part['by'])}".lstrip(", ")
    yield printable(f"{head:<{_COLUMN}}{note}".rstrip())
    for key in part["keys"]:
        yield printable(
            f"      {_short(key['path'], part)}: {_shown(key['old'])} → {_shown(key['new'])}"
        )


def _short(path: str, part: Mapping[str, Any]) -> str:
    """A path, without what the line above it says."""
    name = part["name"].rpartition("/")[2]
    return path.rpartition(f"{name}.")[2] or path


def _shown(value: object) -> str:
    if value is None:
        return "(nothing)"
    if isinstance(value, list):
        text = f"[{', '.join(map(str, value))}]"
    else:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _VALUE_MAX else f"{text[: _VALUE_MAX - 1]}…"


def _listed(what: str, names: Sequence[str]) -> Iterator[str]:
    if names:
        yield printable(f"{what}: {', '.join(names)}")


def _names(parts: Sequence[Mapping[str, Any]]) -> set[str]:
    return {part["name"] for part in parts}


def _is_shown(part: Mapping[str, Any]) -> bool:
    """The backlog of a function comes and goes with it, which needs no line."""
    return part["change"] == "changed" or not _quiet(part["name"])


def _quiet(name: str) -> bool:
    return name.endswith("/asynchronous")
