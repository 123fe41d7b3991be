"""Lines to a descriptor, by a thread, so that a reader who sleeps never holds the daemon up."""

from __future__ import annotations

import os
from collections.abc import Sequence

from streamfaas.telemetry.behind import ITEMS_MAX, Behind


class LineSink:
    """Takes lines without ever waiting. Past its bounds lines are dropped, counted, and the gap
    is told in the output as soon as there is room again."""

    def __init__(self, descriptor: int, *, lines_max: int = ITEMS_MAX) -> None:
        self._descriptor = descriptor
        self.dropped = 0
        self._untold = 0
        self._behind = Behind(self._write, "line sink", items_max=lines_max)

    @property
    def held(self) -> int:
        """Lines that wait to be written."""
        return self._behind.held

    def put(self, line: str) -> None:
        """One line, without its newline."""
        data = line.encode("utf-8", "backslashreplace") + b"\n"
        if self._untold:
            data = b"... %d lines dropped: the output was not read\n" % self._untold + data
        if self._behind.put(data, len(data)):
            self._untold = 0
        else:
            self.dropped += 1
            self._untold += 1

    def close(self) -> None:
        """Writes what is left, within two seconds."""
        self._behind.close()

    def _write(self, lines: Sequence[bytes]) -> None:
        data = b"".join(lines)
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError:  # the reader has gone; there is nobody to tell
            self.dropped += len(lines)
