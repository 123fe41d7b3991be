"""Lines that could not be written where they belong: counted, and told without another flood."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from streamfaas.telemetry.signals import LogsDropped

AGAIN_SECONDS = 60.0
"""While it goes on, it is told so often."""


class Losses:
    """Of one place. `tell` is called by whichever thread finds something lost or well again."""

    def __init__(
        self,
        place: str,
        tell: Callable[[LogsDropped], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._place = place
        self._tell = tell
        self._clock = clock
        self._lock = threading.Lock()
        self._reason = ""
        self._untold = 0
        self._told_at = 0.0

    def lost(self, lines: int, reason: str) -> None:
        """Told at once where it is news, else some time later."""
        with self._lock:
            self._untold += lines
            now = self._clock()
            if reason == self._reason and now < self._told_at + AGAIN_SECONDS:
                return
            self._reason, self._told_at = reason, now
            lines, self._untold = self._untold, 0
        self._tell(LogsDropped(self._place, lines, reason))

    def fine(self) -> None:
        """What is written now arrives: what was not told is told."""
        if not self._reason:
            return
        with self._lock:
            lines, reason = self._untold, self._reason
            self._untold, self._reason = 0, ""
        if lines:
            self._tell(LogsDropped(self._place, lines, reason))
