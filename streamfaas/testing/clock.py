"""A clock that stands still until it is told to go on."""

from __future__ import annotations

from streamfaas.flow.record import Instant


class ManualClock:
    """Called, it gives the time, as the daemon's own clock does."""

    __slots__ = ("_now",)

    def __init__(self, start: float = 0.0) -> None:
        self._now = start

    def __call__(self) -> Instant:
        return Instant(self._now)

    def advance(self, seconds: float) -> Instant:
        """Goes on by so much, and gives back the new time."""
        assert seconds >= 0, "a monotonic clock never goes back"
        self._now += seconds
        return Instant(self._now)
