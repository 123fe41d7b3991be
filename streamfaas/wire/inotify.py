"""What the kernel tells of directories: names in them that change, by inotify."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import struct
from collections.abc import Callable

DELETE_SELF = 0x400
MOVE_SELF = 0x800
OVERFLOW = 0x4000
IGNORED = 0x8000

_MODIFY = 0x2
_ATTRIB = 0x4
_CLOSE_WRITE = 0x8
_MOVED_FROM = 0x40
_MOVED_TO = 0x80
_CREATE = 0x100
_DELETE = 0x200
_ONLY_DIRECTORIES = 0x1000000

_WANTED = _MODIFY | _ATTRIB | _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE
_WANTED |= DELETE_SELF | MOVE_SELF | _ONLY_DIRECTORIES

_READ_BYTES = 64 * 1024
_EVENT = struct.Struct("iIII")  # which watch, what, a cookie, bytes of the name behind it
_REMEDIES = {
    errno.ENOSPC: "no more directories can be watched: raise fs.inotify.max_user_watches",
    errno.EMFILE: "no more watchers can be had: raise fs.inotify.max_user_instances",
}

_libc = ctypes.CDLL(None, use_errno=True)


class Inotify:
    """Watches directories, and calls `told` with the number of a watch, what has happened, and the
    name in it (nothing: the directory itself). Where the kernel refuses, `trouble` says why. `add`
    and `remove` may be called in any thread, but not two at a time; all else in the loop's."""

    def __init__(self, told: Callable[[int, int, bytes], None]) -> None:
        self._told = told
        self._fd = -1
        self.trouble = ""

    @property
    def is_open(self) -> bool:
        return self._fd >= 0

    def open(self) -> None:
        try:
            fd = _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError as error:
            self.trouble = _reason(error)
            return
        asyncio.get_running_loop().add_reader(fd, self._readable)
        self._fd = fd

    def add(self, path: bytes) -> int | None:
        """The number of the watch of a directory, which is the same when it is added again; None
        where it cannot be watched."""
        try:
            return _checked(_libc.inotify_add_watch(self._fd, path, _WANTED))
        except OSError as error:
            self.trouble = _reason(error)
            return None

    def remove(self, number: int) -> None:
        _libc.inotify_rm_watch(self._fd, number)

    def close(self) -> None:
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
        self._fd, self.trouble = -1, ""

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return
        at = 0
        while at < len(data):
            number, what, _, size = _EVENT.unpack_from(data, at)
            at += _EVENT.size + size
            self._told(number, what, data[at - size : at].rstrip(b"\0"))


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _reason(error: OSError) -> str:
    return _REMEDIES.get(error.errno or 0) or error.strerror or str(error)
