"""Whether a file has what a handler names, as far as can be told without running it."""

from __future__ import annotations

import ast
import os
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path

from streamfaas.config import keys
from streamfaas.config.files import read_small

SOURCE_BYTES_MAX = 1 << 20
"""Longer modules are not looked into."""

_DYNAMIC = frozenset({"globals", "vars", "locals", "exec", "eval", "setattr", "__getattr__"})
_DYNAMIC_ATTRIBUTES = frozenset({"__dict__", "modules"})


def misses(file: Path, name: str, code: Path) -> tuple[str, str]:
    """What is wrong with the module in a file, and the name that was probably meant; nothing
    where all is well, or where only running it would show."""
    if not _may_be_read(file, code):
        return f"{file} may not be read by workers", ""
    try:
        data, _ = read_small(file, SOURCE_BYTES_MAX)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the module's own text
            tree = ast.parse(data)
    except SyntaxError as cause:
        return f"{file} is not Python: line {cause.lineno}: {cause.msg}", ""
    except (OSError, ValueError, RecursionError, MemoryError):
        return "", ""
    if len(data) > SOURCE_BYTES_MAX:
        return "", ""
    bound = set(_bound(tree))
    if name in bound or "*" in bound or _is_dynamic(tree):
        return "", ""
    return f"there is no {name} in {file}", keys.nearest(name, sorted(bound))


def _may_be_read(file: Path, code: Path) -> bool:
    """By workers. Where the daemon is root, they are shown the code as if it were their own."""
    if os.geteuid() != 0:
        return os.access(file, os.R_OK)
    try:
        found, around = file.stat(), code.stat()
    except OSError:
        return True
    if found.st_uid == around.st_uid:
        return bool(found.st_mode & stat.S_IRUSR)
    return bool(found.st_mode & (stat.S_IRGRP if found.st_gid == around.st_gid else stat.S_IROTH))


def _bound(tree: ast.Module) -> Iterator[str]:
    """The names that the module's own statements bind."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):  # by a function that it may call
            yield from node.names
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop()
        name = getattr(node, "asname", None) or getattr(node, "name", None)
        if isinstance(name, str):
            yield name if getattr(node, "asname", None) else name.partition(".")[0]
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            pending += ast.iter_child_nodes(node)


def _is_dynamic(tree: ast.Module) -> bool:
    """Whether it may bind names that are not to be seen."""
    return any(
        (isinstance(node, ast.Name) and node.id in _DYNAMIC)
        or (isinstance(node, ast.FunctionDef) and node.name in _DYNAMIC)
        or (isinstance(node, ast.Attribute) and node.attr in _DYNAMIC_ATTRIBUTES)
        for node in ast.walk(tree)
    )
