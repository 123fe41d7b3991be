"""The last lines of each function, kept in memory for whoever asks."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator

from streamfaas.telemetry.signals import LogWritten, Signal

LINE_COST_BYTES = 200
"""What a line takes beside its text."""


class Recent:
    """Of each function, as many as fit in `bytes_max`."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._held: dict[str, _Held] = {}

    def __call__(self, signal: Signal) -> None:
        if type(signal) is LogWritten:
            held = self._held.get(signal.function)
            if held is None:
                held = self._held[signal.function] = _Held(self._bytes_max)
            held.add(signal)

    def newest_first(self, function: str | None = None) -> Iterator[LogWritten]:
        """Of one function, or of all."""
        if function is not None:
            return reversed(self._held[function].lines if function in self._held else ())
        each = (reversed(held.lines) for held in self._held.values())
        return heapq.merge(*each, key=lambda line: line.time_ns, reverse=True)


class _Held:
    __slots__ = ("_bytes", "_bytes_max", "lines")

    def __init__(self, bytes_max: int) -> None:
        self.lines: deque[LogWritten] = deque()
        self._bytes = 0
        self._bytes_max = bytes_max

    def add(self, line: LogWritten) -> None:
        self.lines.append(line)
        self._bytes += len(line.line) + LINE_COST_BYTES
        while self._bytes > self._bytes_max:
            self._bytes -= len(self.lines.popleft().line) + LINE_COST_BYTES
