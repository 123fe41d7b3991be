"""What a change of the configuration means for what runs: which mappings, workers, or all of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from streamfaas.config import document
from streamfaas.config.diff import Diff, Key, Part, diff
from streamfaas.config.spec import Config
from streamfaas.config.triggers import MemoryTrigger
from streamfaas.daemon.build import function_of
from streamfaas.flow.admission import Share

LIVE: tuple[document.Path, ...] = (
    ("defaults",),  # filled in: it is the functions that change
    ("limits",),
    ("reload",),
    ("shutdown",),
    ("telemetry", "metrics", "listen"),
    ("telemetry", "traces"),
)
"""What of the file's other sections can change while the daemon runs."""

READ = frozenset({"type", "connection", "group", "topics", "topic", "stream", "table", "leases"})
"""Keys of a trigger that say what is read: the state of a window is of that."""


@dataclass(frozen=True, slots=True)
class Effects:
    """What differs, and what is done for it. `stops` are mappings that end (restarted ones too),
    `starts` those that begin; `replaced` are functions that get other workers. Where anything is
    in `restart`, nothing can be done but to start the daemon anew."""

    diff: Diff
    stops: tuple[str, ...]
    starts: tuple[str, ...]
    replaced: tuple[str, ...]
    recoded: tuple[str, ...]
    restart: tuple[Key, ...]

    def __bool__(self) -> bool:
        return bool(self.diff or self.recoded)

    @property
    def restarted(self) -> tuple[str, ...]:
        return tuple(name for name in self.stops if name in self.starts)

    @property
    def anew(self) -> tuple[str, ...]:
        """Those that are restarted and keep no place: what a simulation holds is nowhere else."""
        simulated = (part for part in self.diff.mappings if isinstance(part.old, MemoryTrigger))
        return tuple(part.name for part in simulated if part.new is not None)

    @property
    def added(self) -> tuple[str, ...]:
        return tuple(name for name in self.starts if name not in self.stops)

    @property
    def removed(self) -> tuple[str, ...]:
        return tuple(name for name in self.stops if name not in self.starts)

    @property
    def windows(self) -> dict[str, str]:
        """What becomes of tumbling windows that are open, by trigger."""
        told = {part.name: _of_windows(part) for part in self.diff.mappings}
        return {name: what for name, what in told.items() if what}

    def unclaimed(self, waiting: Mapping[str, int]) -> dict[str, int]:
        """Of the events that wait, by function or trigger, those of what is taken out."""
        functions = (part.name for part in self.diff.functions if part.new is None)
        gone = (*functions, *self.removed)
        return {name: waiting[name] for name in gone if waiting.get(name)}

    def view(self, unclaimed: Mapping[str, int] = MappingProxyType({})) -> dict[str, Any]:
        """As plain values, for whoever shows it, with the events that wait for nobody then."""
        found = self.diff
        parts = {
            "functions": found.functions,
            "triggers": found.mappings,
            "connections": found.connections,
            "sections": found.sections,
        }
        return {
            "changed": bool(self),
            **{name: [_part(part) for part in each] for name, each in parts.items()},
            "untouched": list(found.untouched),
            "unclaimed": dict(unclaimed),
            "windows": self.windows,
            "restarted": list(self.restarted),
            "workers_replaced": [*self.replaced, *self.recoded],
            "code_changed": list(self.recoded),
            "needs_restart": [document.dotted(key.path) for key in self.restart],
        }


def effects(
    old: Config, new: Config, renewed: Iterable[Path] = (), recoded: Iterable[str] = ()
) -> Effects:
    """What one configuration after the other means, where some files hold something else by now,
    and the code of some functions looks otherwise."""
    found = diff(old, new, frozenset(renewed))
    keys = [key for part in found.sections for key in part.keys]
    replaced = tuple(
        name
        for name in new.functions
        if name in old.functions and _workers(old, name) != _workers(new, name)
    )
    return Effects(
        diff=found,
        stops=tuple(part.name for part in found.mappings if part.old is not None),
        starts=tuple(part.name for part in found.mappings if part.new is not None),
        replaced=replaced,
        recoded=tuple(name for name in recoded if name not in replaced),
        restart=tuple(key for key in keys if not any(_below(key.path, live) for live in LIVE)),
    )


def _of_windows(part: Part[Any]) -> str:
    old, new = (getattr(each, "tumbling_window", 0.0) for each in (part.old, part.new))
    if not old:
        return ""
    if part.new is None:
        return "open windows stay as they are until it is back, and are lost if others read on"
    if isinstance(part.old, MemoryTrigger) or any(key.path[4] in READ for key in part.keys):
        return (
            "open windows get no last invocation where something else is read: that state is lost"
        )
    if not new:
        return "open windows end at once: their last invocation comes before anything else"
    return "" if new == old else "open windows keep their end, and those that follow are as asked"


def _workers(config: Config, name: str) -> object:
    """What workers of a function are made of: not how many of them there are."""
    function = function_of(config, name)
    memory = Share(memory_bytes=function.share.memory_bytes)
    return replace(function, share=memory)


def _below(path: document.Path, around: document.Path) -> bool:
    return path[: len(around)] == around


def _part(part: Part[Any]) -> Mapping[str, Any]:
    keys = [
        {"path": document.dotted(key.path), "old": key.old, "new": key.new} for key in part.keys
    ]
    return {"name": part.name, "change": part.fate, "keys": keys, "by": list(part.by)}
