"""What differs between two checked configurations, by the names of things, as a frozen value."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from pydantic import BaseModel

from streamfaas.config import document
from streamfaas.config.spec import ASYNCHRONOUS, ROLES, Config, Function

T = TypeVar("T")

RENEWED = ("ca", "certificate", "key")
"""Keys of files whose contents are read once, when a connection is made."""

_BY_NAME = ("connections", "functions")
_APART = ("asynchronous", "triggers")  # of a function, what makes mappings, and no workers


@dataclass(frozen=True, slots=True)
class Key:
    """One key that is not what it was: its path, and both values as they would be written, with
    `***` for what is not to be shown; None where there is nothing."""

    path: document.Path
    old: Any
    new: Any


@dataclass(frozen=True, slots=True)
class Part(Generic[T]):
    """One thing that has a name: `old` is None where it was not there, `new` where it is no more.
    `keys` are those that changed; none of what came or went as a whole. `by` are the connections
    that it is touched by, though nothing of its own has changed."""

    name: str
    old: T | None
    new: T | None
    keys: tuple[Key, ...] = ()
    by: tuple[str, ...] = ()

    @property
    def fate(self) -> Literal["added", "changed", "removed"]:
        if self.old is None:
            return "added"
        return "removed" if self.new is None else "changed"


@dataclass(frozen=True, slots=True)
class Diff:
    """All that differs. `functions` are without their mappings, which are `function/trigger`, and
    `function/asynchronous` for the invocations that nobody waits for. A mapping is among them if
    its own block changed, or a connection that it or one of its destinations uses, or what its
    lanes depend on; all others are `untouched`. `sections` are the rest of the file."""

    sections: tuple[Part[Any], ...]
    connections: tuple[Part[Any], ...]
    functions: tuple[Part[Function], ...]
    mappings: tuple[Part[Any], ...]
    untouched: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.sections or self.connections or self.functions or self.mappings)


def diff(old: Config, new: Config, renewed: Collection[Path] = frozenset()) -> Diff:
    """What leads from one to the other. `renewed` are files that both name, and that hold
    something else by now."""
    told = _Telling(old, new, frozenset(renewed))
    connections = tuple(told.parts(old.connections, new.connections, ("connections",)))
    others = {part.name for part in connections}
    functions = tuple(told.functions(others))
    mappings = tuple(told.mappings(others))
    touched = {part.name for part in mappings}
    return Diff(
        sections=tuple(told.parts(_sections(old), _sections(new), ())),
        connections=connections,
        functions=functions,
        mappings=mappings,
        untouched=tuple(name for name in _blocks(new) if name not in touched),
    )


def apply(old: Config, change: Diff) -> Config:
    """The configuration that `change` leads to."""
    blocks = {name: each.block for name, each in _blocks(old).items()}
    blocks = _changed(blocks, change.mappings)
    functions = {
        name: _put_together(name, function, blocks)
        for name, function in _changed(old.functions, change.functions).items()
    }
    update: dict[str, Any] = {part.name: part.new for part in change.sections}
    update["connections"] = MappingProxyType(_changed(old.connections, change.connections))
    update["functions"] = MappingProxyType(functions)
    return old.model_copy(update=update)


def certificates(config: Config) -> frozenset[Path]:
    """Files whose contents are part of how something is connected to."""
    blocks = [config.connections, *(destination for _, destination in config.destinations())]
    return frozenset(
        value
        for block in blocks
        for path, value in _leaves(block, ())
        if isinstance(value, Path) and path[-1] in RENEWED
    )


def _put_together(name: str, function: Function, blocks: Mapping[str, Any]) -> Function:
    triggers = {
        key.partition("/")[2]: block
        for key, block in blocks.items()
        if key.partition("/")[0] == name and key != f"{name}/{ASYNCHRONOUS}"
    }
    update = {
        "asynchronous": blocks[f"{name}/{ASYNCHRONOUS}"],
        "triggers": MappingProxyType(triggers),
    }
    return function.model_copy(update=update)


def _changed(old: Mapping[str, T], parts: Iterable[Part[T]]) -> dict[str, T]:
    """What is named after the parts have come, changed and gone."""
    found = dict(old)
    for part in parts:
        found.pop(part.name, None)
        if part.new is not None:
            found[part.name] = part.new
    return found


class _Telling:
    """Knows how both configurations are shown."""

    def __init__(self, old: Config, new: Config, renewed: frozenset[Path]) -> None:
        self._old, self._new, self._renewed = old, new, renewed
        self._shown = old.masked(), new.masked()

    def parts(
        self, old: Mapping[str, Any], new: Mapping[str, Any], path: document.Path
    ) -> Iterator[Part[Any]]:
        for name, before, after in _both(old, new):
            keys = self.keys((*path, name), before, after)
            if before != after or keys:
                yield Part(name, before, after, keys)

    def functions(self, connections: Collection[str]) -> Iterator[Part[Function]]:
        for name, before, after in _both(self._old.functions, self._new.functions):
            keys = self.keys(("functions", name), before, after, without=_APART)
            by = tuple(each for each in _uses(after or before) if each in connections)
            if _own(before) != _own(after) or (before and after and by):
                yield Part(name, before, after, keys, by)

    def mappings(self, connections: Collection[str]) -> Iterator[Part[Any]]:
        old, new = _blocks(self._old), _blocks(self._new)
        for name, before, after in _both(old, new):
            present = after or before
            assert present is not None
            keys = self.keys(present.path, before and before.block, after and after.block)
            if before and after and present.path[-1] == ASYNCHRONOUS:
                keys += self._parallel(present.path[:2])
            by = tuple(each for each in _uses(present.block) if each in connections)
            if before is None or after is None or before.block != after.block or keys or by:
                yield Part(name, before and before.block, after and after.block, keys, by)

    def _parallel(self, path: document.Path) -> tuple[Key, ...]:
        """How many events of a backlog are in hand depends on how many may run."""
        name = str(path[1])
        old, new = self._old.functions[name], self._new.functions[name]
        return self.keys((*path, "concurrency", "max"), old.concurrency.max, new.concurrency.max)

    def keys(
        self, path: document.Path, old: Any, new: Any, *, without: Collection[str] = ()
    ) -> tuple[Key, ...]:
        """Those that changed; none of what came or went as a whole."""
        if old is None or new is None:
            return () if old is new else self._whole(path, old, new)
        before, after = dict(_leaves(old, path)), dict(_leaves(new, path))
        return tuple(
            self._key(each)
            for each in dict.fromkeys((*before, *after))
            if each[len(path) : len(path) + 1] not in {(key,) for key in without}
            if before.get(each) != after.get(each) or self._is_renewed(after.get(each))
        )

    def _whole(self, path: document.Path, old: Any, new: Any) -> tuple[Key, ...]:
        named = isinstance(old, BaseModel) or isinstance(new, BaseModel)
        return () if named else (self._key(path),)

    def _is_renewed(self, value: Any) -> bool:
        return isinstance(value, Path) and value in self._renewed

    def _key(self, path: document.Path) -> Key:
        old, new = (_at(shown, path) for shown in self._shown)
        if old == new != document.MASK and old is not None:
            new = f"{new} (what is in it)"
        return Key(path, old, new)


def _both(old: Mapping[str, T], new: Mapping[str, T]) -> Iterator[tuple[str, T | None, T | None]]:
    for name in dict.fromkeys((*new, *old)):
        yield name, old.get(name), new.get(name)


def _sections(config: Config) -> dict[str, Any]:
    return {name: each for name, each in config if name not in _BY_NAME}


def _own(function: Function | None) -> dict[str, Any]:
    """All of a function but what makes mappings; nothing of one that is not there."""
    return {name: each for name, each in function or () if name not in _APART}


class _Block(NamedTuple):
    path: document.Path
    block: Any


def _blocks(config: Config) -> dict[str, _Block]:
    """Every mapping by its name."""
    found: dict[str, _Block] = {}
    for name, function in config.functions.items():
        path = ("functions", name)
        found[f"{name}/{ASYNCHRONOUS}"] = _Block((*path, ASYNCHRONOUS), function.asynchronous)
        for key, trigger in function.triggers.items():
            found[f"{name}/{key}"] = _Block((*path, "triggers", key), trigger)
    return found


def _uses(block: Any) -> tuple[str, ...]:
    """The connections of a mapping, and of where it sends to."""
    ends = (block, *(getattr(block, role, None) for role in ROLES))
    found = (getattr(end, "connection", None) for end in ends)
    return tuple(dict.fromkeys(name for name in found if name is not None))


def _leaves(value: Any, path: document.Path) -> Iterator[tuple[document.Path, Any]]:
    """Every value that is no block, and every block that holds none."""
    inner = dict(value) if isinstance(value, BaseModel | Mapping) else {}
    found = [leaf for key, each in inner.items() for leaf in _leaves(each, (*path, key))]
    if found:
        yield from found
    elif value is not None and not isinstance(value, Mapping):
        yield path, value


def _at(shown: Any, path: document.Path) -> Any:
    for part in path:
        shown = shown.get(part) if isinstance(shown, Mapping) else None
    return shown
