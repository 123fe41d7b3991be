"""What a rule is given to judge, and how it tells of what it finds."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import LiteralString, TypeVar

from streamfaas.config import document, keys
from streamfaas.config.connections import KafkaConnection
from streamfaas.config.delivery import Leases
from streamfaas.config.document import Scalar, Table
from streamfaas.config.rules import certificates
from streamfaas.config.spec import Config
from streamfaas.flow.errors import Problem

T = TypeVar("T")

CLOSED = "may not be read"

NEAREST_MAX = 20
"""Names that the nearest is looked for: it is slow, and after a few nobody wants to know."""


@dataclass(frozen=True, slots=True)
class Case:
    """What there is to judge: the models of all that has the right form, the tree they came
    from, whether that is all of it, and the paths of what is left out if not."""

    config: Config
    root: Table
    environ: Mapping[str, str]
    whole: bool
    lost: frozenset[document.Path]

    def names(self, section: str) -> frozenset[str]:
        """The names of all connections or functions, those too that are wrong in themselves."""
        lost = {str(path[1]) for path in self.lost if len(path) > 1 and path[0] == section}
        return frozenset(getattr(self.config, section)) | lost

    def tell(
        self,
        code: str,
        path: document.Path,
        message: str,
        hint: str = "",
        *,
        key: bool = False,
        warning: bool = False,
    ) -> Problem:
        line, column = document.place(self.root, path, key=key)
        node = document.find(self.root, path)
        if isinstance(node, Scalar) and node.hidden:
            message = f"what is put in from {node.origin} does not fit here"
            hint = ""
        return Problem(code, document.dotted(path), line, column, message, hint, warning)


def missing(
    case: Case, section: str, named: Iterable[tuple[document.Path, str]]
) -> Iterator[Problem]:
    """What is named at a path, but not there."""
    known = case.names(section)
    code, what = _MISSING[section]
    hints: dict[str, str] = {}
    for path, name in named:
        if name in known:
            continue
        if name not in hints:
            near = keys.nearest(name, tuple(known)) if len(hints) < NEAREST_MAX else ""
            hints[name] = f"did you mean {near}?" if near else f"add it under {section}"
        yield case.tell(code, path, f"there is no {what} {name}", hints[name])


_MISSING: Mapping[str, tuple[LiteralString, str]] = {
    "connections": ("SF1067", "connection"),
    "functions": ("SF1081", "function"),
}


def connected(
    case: Case, kind: str, named: Iterable[tuple[document.Path, str]]
) -> Iterator[Problem]:
    """Connections that are named at a path, but not there, or of another kind."""
    named = tuple(named)
    yield from missing(case, "connections", named)
    for path, name in named:
        connection = case.config.connections.get(name)
        if connection is not None and connection.type != kind:
            message = f"{name} is a connection of type {connection.type}, and {kind} is needed"
            yield case.tell("SF1067", path, message)


def of_kind(config: Config, kind: type[T]) -> Iterator[tuple[document.Path, T]]:
    """The triggers of one kind, each with its path."""
    for function, name, trigger in config.mappings():
        if isinstance(trigger, kind):
            yield ("functions", function, "triggers", name), trigger


def leased(config: Config) -> Iterator[tuple[document.Path, Leases]]:
    """The leases of triggers, each with its path."""
    for function, name, trigger in config.mappings():
        leases: Leases | None = getattr(trigger, "leases", None)
        if leases is not None:
            yield ("functions", function, "triggers", name, "leases"), leases


def clusters(config: Config) -> dict[str, str]:
    """The cluster of each connection: those that share a broker lead to the same one."""
    groups: dict[str, str] = {}  # of brokers, by who is in them

    def group(broker: str) -> str:
        while groups.setdefault(broker, broker) != broker:
            groups[broker] = broker = groups[groups[broker]]
        return broker

    kafka = {n: c for n, c in config.connections.items() if isinstance(c, KafkaConnection)}
    for connection in kafka.values():
        for broker in connection.brokers:
            groups[group(broker)] = group(connection.brokers[0])
    return {name: group(each.brokers[0]) for name, each in kafka.items()}


def is_loopback(address: str) -> bool:
    """Whether what is sent there stays on the machine."""
    return address.startswith(("localhost", "127.", "[::1]"))


def resolved(path: Path) -> Path:
    """The path without links and dots; itself where it cannot be followed."""
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # a loop of links, a name too long
        return path


def not_a_directory(path: Path) -> str:
    """Why not, or nothing."""
    return _not(path, stat.S_ISDIR, "is not a directory")


def not_a_file(path: Path) -> str:
    """Why not, or nothing."""
    return _not(path, stat.S_ISREG, "is not a file")


def readable(case: Case, path: document.Path, file: Path | None) -> Iterator[Problem]:
    """Why a certificate, key or token file cannot be read, if there is one."""
    wrong = unreadable(file) if file is not None else ""
    if wrong:
        hint = f"chmod or chown {file}" if wrong == CLOSED else ""
        yield case.tell("SF1075", path, f"{file} {wrong}", hint)


def unreadable(file: Path) -> str:
    """Why a file cannot be read, or nothing."""
    return not_a_file(file) or ("" if os.access(file, os.R_OK) else CLOSED)


def authority(case: Case, path: document.Path, file: Path | None) -> Iterator[Problem]:
    """Why a file, which can be read, says of no server that it is to be trusted."""
    if file is None or unreadable(file):
        return
    wrong = certificates.no_authority(file)
    if wrong:
        yield case.tell("SF1075", path, f"{file} {wrong}")


def _not(path: Path, is_kind: Callable[[int], bool], otherwise: str) -> str:
    try:
        return "" if is_kind(path.stat().st_mode) else otherwise
    except FileNotFoundError:
        return "does not exist"
    except OSError as cause:
        return f"cannot be looked at ({cause.strerror})"
