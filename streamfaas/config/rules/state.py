"""Rules of what is trusted: owners, modes, and the state directory."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from streamfaas.config.rules.case import Case
from streamfaas.flow.errors import Problem

SOCKET_PATH_MAX = 107
"""Bytes of a Unix socket's path, on Linux."""


def _state(case: Case) -> Iterator[Problem]:
    state = case.config.state.path
    socket = case.config.socket
    length = len(os.fsencode(socket))
    if length > SOCKET_PATH_MAX:
        yield case.tell(
            "SF1079",
            ("state", "path"),
            f"{socket} has {length} bytes, over the limit of {SOCKET_PATH_MAX} for a socket",
            "use a shorter path",
        )
    given = filter(None, case.environ.get("STATE_DIRECTORY", "").split(":"))
    if state in [Path(each).resolve() for each in given]:
        return  # systemd has made it, for the user whom the daemon will be
    unsafe, mend = _unsafe_directory(state)
    if unsafe:
        yield case.tell("SF1022", ("state", "path"), f"{state} {unsafe}", mend)


def _unsafe_directory(path: Path) -> tuple[str, str]:
    """Why a directory that is there must not hold state, and the mend."""
    try:
        found = path.lstat()
    except OSError:
        return _exposed(path)
    if stat.S_ISLNK(found.st_mode):
        return "is a symbolic link", "give the directory itself"
    if not stat.S_ISDIR(found.st_mode):
        return "is not a directory", "give a directory, or a path where none is yet"
    wrong, mend = unsafe(found)
    return (wrong, mend) if wrong else _exposed(path)


def _exposed(path: Path) -> tuple[str, str]:
    """Why another user could put something else in the place of a directory, and the mend."""
    try:
        parent = next(each for each in path.parents if os.path.lexists(each))
        mode = parent.stat().st_mode
    except (OSError, StopIteration):
        return "", ""
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        return f"lies in {parent}, which may be written by everybody", f"chmod o-w {parent}"
    return "", ""


def unsafe(found: os.stat_result) -> tuple[str, str]:
    """Why something must not be trusted by its owner and mode, and the mend."""
    if found.st_uid not in (0, os.geteuid()):
        return f"belongs to another user, {found.st_uid}", "chown it to the daemon's user"
    if found.st_mode & stat.S_IWOTH:
        return "may be written by everybody", "chmod o-w"
    return "", ""


RULES = (_state,)
