"""What the kernel tells of the directories that a scan has been in: the keys that change.

Nothing is watched but what the scan itself opened, so what it does not follow (symbolic links,
names that begin with a dot) costs nothing; and names are bytes, whatever they are made of.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

from streamfaas.sources.directory.tree import Folder
from streamfaas.wire.inotify import DELETE_SELF, IGNORED, MOVE_SELF, OVERFLOW, Inotify


class Watch:
    """Calls `changed` with each key whose name changed, and `lost` where that is not all: then
    everything is to be looked at. `show` may be called in any thread, all else in the loop's."""

    def __init__(self, changed: Callable[[bytes], None], lost: Callable[[], None]) -> None:
        self._changed = changed
        self._lost = lost
        self._lock = Lock()  # a scan that was given up may still show a directory at any time
        self._kernel = Inotify(self._tell)
        self._prefixes: dict[int, bytes] = {}

    @property
    def trouble(self) -> str:
        """Why not everything is watched."""
        return self._kernel.trouble

    def open(self) -> None:
        """Begins, or begins anew: what was shown before is let go."""
        self.close()
        with self._lock:
            self._kernel.open()

    def show(self, folder: Folder, prefix: bytes) -> None:
        """Watches a directory from now on, until it is gone or is moved to where no scan is."""
        with self._lock:
            if not self._kernel.is_open:
                return
            number = self._kernel.add(b"/proc/self/fd/%d" % folder.descriptor)
            if number is not None:
                self._prefixes[number] = prefix

    def close(self) -> None:
        with self._lock:
            self._kernel.close()
            self._prefixes = {}

    def _tell(self, number: int, what: int, name: bytes) -> None:
        if what & OVERFLOW:
            self._lost()
        elif what & IGNORED:
            self._prefixes.pop(number, None)
        elif (prefix := self._prefixes.get(number)) is None:
            pass
        elif name:
            self._changed(prefix + name)
        else:
            if what & MOVE_SELF:  # a scan that finds it elsewhere shows it again
                self._forget(prefix)
            if not prefix and what & (DELETE_SELF | MOVE_SELF):
                self._lost()

    def _forget(self, prefix: bytes) -> None:
        with self._lock:
            for number in [at for at, of in self._prefixes.items() if of.startswith(prefix)]:
                self._kernel.remove(number)
                del self._prefixes[number]
