"""How the code of a function looks from outside: enough to know that it is another by now."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

FILES_MAX = 20_000
"""Files that are looked at; what lies behind them in the order of their names is not."""

FOLDERS_MAX = 2_000
_NO_CODE = ("__pycache__",)  # and names that begin with a dot


@dataclass(frozen=True, slots=True)
class Look:
    """`digest` is another one where any file's name, size, time or inode is; `folders` are where
    they lie."""

    digest: str
    folders: tuple[Path, ...]


def look(code: Path) -> Look:
    """What there is now. What cannot be read counts as not there."""
    folders: list[Path] = []
    total = sha256()
    for number, line in enumerate(_lines(code, folders)):
        if number == FILES_MAX:
            break
        total.update(line)
    return Look(total.hexdigest()[:16], tuple(folders))


def _lines(code: Path, folders: list[Path]) -> Iterator[bytes]:
    pending = [code]
    while pending and len(folders) < FOLDERS_MAX:
        folder = pending.pop()
        folders.append(folder)
        try:
            with os.scandir(folder) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in found:
            if entry.name.startswith(".") or entry.name in _NO_CODE:
                continue
            if entry.is_dir(follow_symlinks=False):
                pending.append(Path(entry.path))
            else:
                yield _line(entry)


def _line(entry: os.DirEntry[str]) -> bytes:
    try:
        found = entry.stat()
    except OSError:
        return b""
    return repr((entry.path, found.st_size, found.st_mtime_ns, found.st_ino)).encode(
        errors="surrogateescape"
    )
