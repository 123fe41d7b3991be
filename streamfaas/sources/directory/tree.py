"""A directory tree as keys and files: what is there, in the order of the keys' bytes.

Everything here blocks, and runs in threads. Symbolic links are never followed, not even in the
middle of a path: each step goes from one open directory to the next.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from hashlib import md5
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeAlias

from streamfaas.store.rows import Root

KEY_BYTES_MAX = 1024
"""As on S3."""

MD5_BYTES_MAX = 16 * 1024 * 1024
"""Files up to here have the MD5 of their content as entity tag, as S3 gives to objects that were
put in one part. Larger ones have a hash of size, modification time and inode, with a dash and a
number behind it, as S3 gives to objects of several parts: it changes when the file does, and is
the MD5 of nothing."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}
_INODE_MASK = (1 << 63) - 1  # what the database has room for


class Seen(NamedTuple):
    """A regular file."""

    key: bytes
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


class Hidden(NamedTuple):
    """Nothing is known of keys that begin so: what was remembered there still holds."""

    prefix: bytes
    reason: str


class Skipped(NamedTuple):
    """Something that is not an object, and that a person may have expected to be one."""

    key: bytes
    reason: str


Look: TypeAlias = Seen | Hidden | Skipped


class Folder:
    """An open directory. It is closed with its last user: a thread that hangs on a dead disk, and
    was given up, may be the last."""

    __slots__ = ("descriptor",)

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __del__(self) -> None:
        os.close(self.descriptor)


Show: TypeAlias = Callable[[Folder, bytes], None]
"""Is given a directory, and the prefix of the keys in it."""


def open_root(path: Path) -> Folder:
    """The directory itself may be named by a symbolic link: the operator said so."""
    return Folder(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))


def identity(root: Folder) -> Root:
    """Which directory it is, whatever its name."""
    info = os.fstat(root.descriptor)
    file_system = os.fstatvfs(root.descriptor).f_fsid
    return Root(str(info.st_dev), str(info.st_ino), str(file_system))


def is_still(path: Path, root: Folder) -> bool:
    """Whether the name still leads to the directory that was opened."""
    try:
        now = path.stat()
    except OSError:
        return False
    then = os.fstat(root.descriptor)
    return then.st_nlink > 0 and (now.st_dev, now.st_ino) == (then.st_dev, then.st_ino)


def walk(root: Folder, prefix: bytes = b"", *, shown: Show | None = None) -> Iterator[Look]:
    """All files below a prefix (empty, or ending in a slash). Files and what is hidden come in
    rising order; what was skipped in between. Names that begin with a dot do not exist for us.
    Each directory is `shown` before it is listed."""
    stack: list[_Level] = []
    opened, below = _descend(root, prefix), prefix
    while True:
        if isinstance(opened, Folder):
            if shown is not None:
                shown(opened, below)
            names, remarks = _listing(opened, below)
            stack.append((opened, below, iter(names)))
            yield from remarks
        elif opened is not None:
            yield opened
        for folder, at, name in _names(stack):
            key = at + name
            if name.endswith(b"/"):
                opened, below = _open_folder(folder, name[:-1], key), key
                break
            if (file := _file(folder, name, key)) is not None:
                yield file
        else:
            return


def take(walker: Iterator[Look], count: int) -> list[Look]:
    """The next so many of a walk."""
    return list(islice(walker, count))


def look(root: Folder, key: bytes) -> Look | None:
    """What is at one key; None where there is no file."""
    prefix, name = _split(key)
    folder = _descend(root, prefix)
    return _file(folder, name, key) if isinstance(folder, Folder) else folder


def is_folder(root: Folder, key: bytes) -> bool:
    """Whether the key names a directory."""
    return _descend(root, key + b"/") is not None


def entity_tag(root: Folder, seen: Seen) -> str | None:
    """The file's entity tag; None if it is not the file that was seen any more. One whose content
    may not be read gets the tag of a large one."""
    prefix, name = _split(seen.key)
    folder = _descend(root, prefix)
    if not isinstance(folder, Folder) or _file(folder, name, seen.key) != seen:
        return None
    if seen.size > MD5_BYTES_MAX:
        return _tag_by_state(seen)
    try:
        file = os.open(name, _FILE, dir_fd=folder.descriptor)
    except PermissionError:
        return _tag_by_state(seen)
    except OSError:
        return None
    try:
        return _tag_by_content(file, seen)
    finally:
        os.close(file)


# -- steps

_Level: TypeAlias = tuple[Folder, bytes, Iterator[bytes]]
"""A directory, its prefix, and the names in it that are left."""


def _split(key: bytes) -> tuple[bytes, bytes]:
    prefix, slash, name = key.rpartition(b"/")
    return prefix + slash, name


def _descend(root: Folder, prefix: bytes) -> Folder | Hidden | None:
    """The directory at a prefix; None where there is none."""
    folder, passed = root, b""
    for name in prefix.split(b"/")[:-1]:
        passed += name + b"/"
        below = _open_folder(folder, name, passed)
        if not isinstance(below, Folder):
            return below
        folder = below
    return folder


def _open_folder(folder: Folder, name: bytes, prefix: bytes) -> Folder | Hidden | None:
    try:
        return Folder(os.open(name, _DIRECTORY, dir_fd=folder.descriptor))
    except OSError as error:
        return None if error.errno in _GONE else _hidden(prefix, error)


def _names(stack: list[_Level]) -> Iterator[tuple[Folder, bytes, bytes]]:
    """Names out of the directory on top, until all directories are used up."""
    while stack:
        folder, prefix, left = stack[-1]
        for name in left:
            yield folder, prefix, name
        stack.pop()


def _listing(folder: Folder, prefix: bytes) -> tuple[list[bytes], list[Hidden | Skipped]]:
    """Names in the order of the keys below them: those of directories end in a slash."""
    names: list[bytes] = []
    remarks: list[Hidden | Skipped] = []
    try:
        with os.scandir(folder.descriptor) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                name = os.fsencode(entry.name)
                if len(prefix) + len(name) > KEY_BYTES_MAX:
                    reason = f"its key is longer than {KEY_BYTES_MAX} bytes"
                    remarks.append(Skipped(prefix + name, reason))
                elif entry.is_symlink():
                    remarks.append(Skipped(prefix + name, "symbolic links are not followed"))
                elif entry.is_dir(follow_symlinks=False):
                    names.append(name + b"/")
                else:
                    names.append(name)
    except OSError as error:
        return [], [_hidden(prefix, error)]
    names.sort()
    return names, remarks


def _file(folder: Folder, name: bytes, key: bytes) -> Seen | Hidden | None:
    try:
        info = os.stat(name, dir_fd=folder.descriptor, follow_symlinks=False)
    except OSError as error:
        return None if error.errno in _GONE else _hidden(key, error)
    return _seen(key, info) if stat.S_ISREG(info.st_mode) else None


def _hidden(prefix: bytes, error: OSError) -> Hidden:
    return Hidden(prefix, error.strerror or str(error))


def _seen(key: bytes, info: os.stat_result) -> Seen:
    return Seen(key, info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino & _INODE_MASK)


def _tag_by_content(file: int, seen: Seen) -> str | None:
    if _seen(seen.key, os.fstat(file)) != seen:
        return None
    digest = md5(usedforsecurity=False)
    try:
        while block := os.read(file, 1 << 20):
            digest.update(block)
    except OSError:
        return _tag_by_state(seen)
    return digest.hexdigest() if _seen(seen.key, os.fstat(file)) == seen else None


def _tag_by_state(seen: Seen) -> str:
    state = f"{seen.size} {seen.mtime_ns} {seen.inode}"
    parts = max(2, -(-seen.size // MD5_BYTES_MAX))
    return f"{md5(state.encode(), usedforsecurity=False).hexdigest()}-{parts}"
