"""Where state may lie: a directory that is ours alone, held by one daemon at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from pathlib import Path

from streamfaas.flow.errors import StoreError

WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_CHOOSE = "choose another place with `state: {path: …}`"


def secure(folder: Path) -> None:
    """Makes the directory if it is missing. `StoreError` where another user could put files of
    his own into it, or lead us elsewhere."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        info, around = folder.lstat(), folder.parent.stat()
    except OSError as error:
        raise StoreError(
            f"the state directory {folder} cannot be made: {error.strerror or error}", _CHOOSE
        ) from error
    if around.st_mode & stat.S_IWOTH and not around.st_mode & stat.S_ISVTX:
        raise StoreError(
            f"the state directory {folder} lies where everybody may put another in its place",
            f"chmod o-w {folder.parent}",
        )
    if stat.S_ISLNK(info.st_mode):
        raise StoreError(
            f"the state directory {folder} is a symbolic link",
            "name the directory that it leads to, with `state: {path: …}`",
        )
    if info.st_uid != os.geteuid():
        raise StoreError(
            f"the state directory {folder} belongs to user {info.st_uid}, not to {os.geteuid()}",
            f"chown it, run the daemon as its owner, or {_CHOOSE}",
        )
    if info.st_mode & WRITABLE_BY_OTHERS:
        raise StoreError(
            f"the state directory {folder} can be written by other users "
            f"(mode {stat.S_IMODE(info.st_mode):04o})",
            f"chmod go-w {folder}",
        )


def lock(path: Path) -> int:
    """The descriptor that holds the lock on `path` for as long as it is open. The file itself is
    never removed: whoever waits for it would hold a lock on nothing."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"cannot lock {path}: {error.strerror or error}", _CHOOSE) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except BlockingIOError as error:
        holder = _holder(descriptor)
        os.close(descriptor)
        raise StoreError(
            f"{path.parent} is in use by another daemon{holder}",
            "stop it, or give this one a state directory of its own with `state: {path: …}`",
        ) from error
    except OSError as error:
        os.close(descriptor)
        raise StoreError(f"cannot lock {path}: {error.strerror or error}", _CHOOSE) from error
    return descriptor


def _holder(descriptor: int) -> str:
    with contextlib.suppress(OSError, ValueError):
        return f", process {int(os.pread(descriptor, 32, 0))}"
    return ""
