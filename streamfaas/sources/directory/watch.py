"""What the kernel tells of the directories that a scan has been in: names that change, by inotify.

Nothing is watched but what the scan itself opened, so what it does not follow (symbolic links,
names that begin with a dot) costs nothing; and names are bytes, whatever they are made of.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import struct
from collections.abc import Callable
from threading import Lock

from streamfaas.sources.directory.tree import Folder

_MODIFY = 0x2
_ATTRIB = 0x4
_CLOSE_WRITE = 0x8
_MOVED_FROM = 0x40
_MOVED_TO = 0x80
_CREATE = 0x100
_DELETE = 0x200
_DELETE_SELF = 0x400
_MOVE_SELF = 0x800
_OVERFLOW = 0x4000
_IGNORED = 0x8000
_ONLY_DIRECTORIES = 0x1000000

_WANTED = _MODIFY | _ATTRIB | _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE
_WANTED |= _DELETE_SELF | _MOVE_SELF | _ONLY_DIRECTORIES

_READ_BYTES = 64 * 1024
_EVENT = struct.Struct("iIII")  # which watch, what, a cookie, bytes of the name behind it
_REMEDIES = {
    errno.ENOSPC: "no more directories can be watched: raise fs.inotify.max_user_watches",
    errno.EMFILE: "no more watchers can be had: raise fs.inotify.max_user_instances",
}

_libc = ctypes.CDLL(None, use_errno=True)


class Watch:
    """Calls `changed` with each key whose name changed, and `lost` where that is not all: then
    everything is to be looked at. `show` may be called in any thread, all else in the loop's."""

    def __init__(self, changed: Callable[[bytes], None], lost: Callable[[], None]) -> None:
        self._changed = changed
        self._lost = lost
        self._lock = Lock()  # a scan that was given up may still show a directory at any time
        self._fd = -1
        self._prefixes: dict[int, bytes] = {}
        self.trouble = ""
        """Why not everything is watched."""

    def open(self) -> None:
        """Begins, or begins anew: what was shown before is let go."""
        self.close()
        try:
            fd = _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError as error:
            self.trouble = _reason(error)
            return
        asyncio.get_running_loop().add_reader(fd, self._readable)
        with self._lock:
            self._fd = fd

    def show(self, folder: Folder, prefix: bytes) -> None:
        """Watches a directory from now on, until it is gone or is moved to where no scan is."""
        with self._lock:
            if self._fd < 0:
                return
            path = b"/proc/self/fd/%d" % folder.descriptor
            try:
                number = _checked(_libc.inotify_add_watch(self._fd, path, _WANTED))
            except OSError as error:
                self.trouble = _reason(error)
            else:
                self._prefixes[number] = prefix

    def close(self) -> None:
        with self._lock:
            if self._fd >= 0:
                asyncio.get_running_loop().remove_reader(self._fd)
                os.close(self._fd)
            self._fd, self._prefixes, self.trouble = -1, {}, ""

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return
        at = 0
        while at < len(data):
            number, what, _, size = _EVENT.unpack_from(data, at)
            at += _EVENT.size + size
            self._tell(number, what, data[at - size : at].rstrip(b"\0"))

    def _tell(self, number: int, what: int, name: bytes) -> None:
        if what & _OVERFLOW:
            self._lost()
        elif what & _IGNORED:
            self._prefixes.pop(number, None)
        elif (prefix := self._prefixes.get(number)) is None:
            pass
        elif name:
            self._changed(prefix + name)
        else:
            if what & _MOVE_SELF:  # a scan that finds it elsewhere shows it again
                self._forget(prefix)
            if not prefix and what & (_DELETE_SELF | _MOVE_SELF):
                self._lost()

    def _forget(self, prefix: bytes) -> None:
        with self._lock:
            for number in [at for at, of in self._prefixes.items() if of.startswith(prefix)]:
                _libc.inotify_rm_watch(self._fd, number)
                del self._prefixes[number]


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _reason(error: OSError) -> str:
    return _REMEDIES.get(error.errno or 0) or error.strerror or str(error)
