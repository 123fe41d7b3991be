"""What a rule is given to judge, and how it tells of what it finds."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from streamfaas.config import document
from streamfaas.config.document import Scalar, Table
from streamfaas.config.spec import Config
from streamfaas.flow.errors import Problem

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Case:
    """What there is to judge: the models of all that has the right form, the tree they came
    from, whether that is all of it, and the connections that are left out if not."""

    config: Config
    root: Table
    environ: Mapping[str, str]
    whole: bool
    lost: frozenset[str]

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


def of_kind(config: Config, kind: type[T]) -> Iterator[tuple[document.Path, T]]:
    """The triggers of one kind, each with its path."""
    for function, name, trigger in config.mappings():
        if isinstance(trigger, kind):
            yield ("functions", function, "triggers", name), trigger


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


def _not(path: Path, is_kind: Callable[[int], bool], otherwise: str) -> str:
    try:
        return "" if is_kind(path.stat().st_mode) else otherwise
    except FileNotFoundError:
        return "does not exist"
    except OSError as cause:
        return f"cannot be looked at ({cause.strerror})"
