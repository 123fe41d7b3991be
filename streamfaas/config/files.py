"""Small regular files, read whole, without ever waiting; where state lies that no file names."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from pathlib import Path

SOCKET_NAME = "streamfaas.sock"
"""In the state directory: where a daemon takes commands."""


def read_small(path: Path, bytes_max: int) -> tuple[bytes, os.stat_result]:
    """What a file holds, one byte more than `bytes_max` at most, and what there is to know of it.
    `OSError` where it cannot be read; `ValueError` where the path cannot be one."""
    # not blocking: a pipe without a writer would hold us for ever
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        parts = []
        left = bytes_max + 1
        while left and (part := os.read(descriptor, left)):
            parts.append(part)
            left -= len(part)
        return b"".join(parts), found
    finally:
        os.close(descriptor)


def default_state(environ: Mapping[str, str]) -> str:
    """The state directory where the file names none."""
    # systemd gives a list where a unit asks for several; ours is the first
    return environ.get("STATE_DIRECTORY", "").split(":")[0] or "state"
