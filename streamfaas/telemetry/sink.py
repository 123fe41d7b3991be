"""Lines to a descriptor, by a thread, so that a reader who sleeps never holds the daemon up."""

from __future__ import annotations

import os
import queue
import threading

LINES_MAX = 20_000
BYTES_MAX = 32 * 1024 * 1024
CLOSE_SECONDS = 2.0


class LineSink:
    """Takes lines without ever waiting. Past its bounds lines are dropped, counted, and the gap
    is told in the output as soon as there is room again."""

    def __init__(self, descriptor: int, *, lines_max: int = LINES_MAX) -> None:
        self._descriptor = descriptor
        self._lines_max = lines_max
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._held_bytes = 0
        self.dropped = 0
        self._untold = 0
        self._thread = threading.Thread(target=self._write, name="line sink", daemon=True)
        self._thread.start()

    def put(self, line: str) -> None:
        """One line, without its newline."""
        data = line.encode("utf-8", "backslashreplace") + b"\n"
        if self._queue.qsize() >= self._lines_max or self._held_bytes > BYTES_MAX:
            self.dropped += 1
            self._untold += 1
            return
        if self._untold:
            told, self._untold = self._untold, 0
            self._queue.put(b"... %d lines dropped: the output was not read\n" % told)
        self._held_bytes += len(data)
        self._queue.put(data)

    def close(self) -> None:
        """Writes what is left, within two seconds."""
        self._queue.put(None)
        self._thread.join(CLOSE_SECONDS)

    def _write(self) -> None:
        ended = False
        while not ended:
            lines = [self._queue.get()]
            # whatever else is there goes into the same write
            while not self._queue.empty() and len(lines) < 500:
                lines.append(self._queue.get())
            ended = None in lines
            data = b"".join(line for line in lines if line is not None)
            self._held_bytes -= len(data)
            try:
                while data:
                    data = data[os.write(self._descriptor, data) :]
            except OSError:  # the reader has gone; there is nobody to tell
                self.dropped += len(lines)
