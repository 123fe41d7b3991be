"""The last traces that were kept, in memory and within bounds, for people to look at."""

from __future__ import annotations

from collections import deque

from streamfaas.telemetry.spans import Span, Trace

BYTES_MAX = 16 * 1024 * 1024
"""What all of them may take together, about."""

_SPAN_BYTES = 1_000
_LINK_BYTES = 120
_EVENT_BYTES = 400


class KeptTraces:
    """Takes traces as they end. Past its bounds the oldest of whatever it has most of goes: that
    many are sampled does not drive out the few that failed."""

    def __init__(self, most: int = 0, *, bytes_max: int = BYTES_MAX) -> None:
        self.most = most
        self._bytes_max = bytes_max
        self._by_reason: dict[str, deque[tuple[int, Trace]]] = {}
        self._count = 0
        self._numbers = 0
        self.held_bytes = 0
        self.dropped = 0

    def __call__(self, trace: Trace) -> None:
        self._numbers += 1
        self._by_reason.setdefault(trace.kept, deque()).append((self._numbers, trace))
        self._count += 1
        self.held_bytes += size_bytes(trace)
        while self._count > self.most or (self.held_bytes > self._bytes_max and self._count):
            _, gone = max(self._by_reason.values(), key=len).popleft()
            self._count -= 1
            self.held_bytes -= size_bytes(gone)
            self.dropped += 1

    def __len__(self) -> int:
        return self._count

    def newest_first(self) -> list[Trace]:
        held = [each for ring in self._by_reason.values() for each in ring]
        return [trace for _, trace in sorted(held, key=lambda each: each[0], reverse=True)]


def size_bytes(trace: Trace) -> int:
    """What it takes, about."""
    return sum(map(_span_bytes, trace.spans))


def _span_bytes(span: Span) -> int:
    return _SPAN_BYTES + _LINK_BYTES * len(span.links) + _EVENT_BYTES * len(span.events)
