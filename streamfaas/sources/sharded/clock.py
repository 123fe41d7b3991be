"""The time by the clock of a service."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from streamfaas.wire.shards import Described


class ServiceClock:
    """Goes on from where the service last showed its own; where it never does, ours counts."""

    def __init__(self, wall_clock: Callable[[], float]) -> None:
        self._wall_clock = wall_clock
        self._ahead: float | None = None

    def set(self, described: Described) -> Described:
        """By what was just said of a stream, which it gives back."""
        now = described.now
        self._ahead = None if now is None else now - anyio.current_time()
        return described

    def now(self) -> float:
        """In epoch seconds."""
        return self._wall_clock() if self._ahead is None else self._ahead + anyio.current_time()

    def now_ms(self) -> int:
        return int(self.now() * 1000)
