"""What waits to be sent, and the thread that sends it: bounded, and nobody ever waits for it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from streamfaas.telemetry.otlp.settings import Bounds

T = TypeVar("T")

REST = 4
"""After its work the thread rests so many times as long, so that whoever floods us with lines takes
a fifth of a processor at most, and of what the event loop waits for."""

PAUSE_SECONDS_MAX = 300.0
"""How long a collector may ask us to leave it alone."""

QUIET_SECONDS = 60.0
"""A failure is told at most so often; every healing of one that was told is."""

FULL = "more comes than is taken: no more can wait"


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of a batch: how much of it was not taken, and why; and how long the collector
    wants to be left alone."""

    lost: int = 0
    reason: str = ""
    pause_seconds: float = 0.0

    def __post_init__(self) -> None:
        assert self.reason or not self.lost


Tell = Callable[[str, int], None]
"""Takes why sending fails, or nothing where it goes well again, and how much was lost since."""


class Outlet(Generic[T]):
    """Takes things on the event loop, and sends them from a thread of its own. What finds no room,
    and what the collector does not take, is dropped and counted."""

    def __init__(
        self, name: str, send: Callable[[list[T]], Sent], bounds: Bounds, tell: Tell
    ) -> None:
        self._send = send
        self._bounds = bounds
        self._tell = tell
        self._changed = threading.Condition()
        self._waiting: deque[tuple[T, int]] = deque()
        self._closing = False
        self._over = False
        self._on_its_way = 0
        self.held = 0
        self.sent = 0
        self.dropped = 0
        self.failing = ""
        self._untold = 0
        self._told = False
        self._told_at = -QUIET_SECONDS
        self._thread = threading.Thread(target=self._run, name=f"otlp {name}", daemon=True)
        self._thread.start()

    def put(self, item: T, size: int = 1) -> None:
        """Takes one thing that counts as `size`. Never waits, but for a moment of the thread's."""
        with self._changed:
            fits = not self._waiting or self.held + size <= self._bounds.waiting_max
            if self._closing or not fits:
                self._lose(size, FULL)
                return
            first = not self._waiting
            self._waiting.append((item, size))
            self.held += size
            if first or self.held >= self._bounds.batch_max:
                self._changed.notify()

    def finish(self) -> None:
        """Sends what is left, and ends. Nothing more is taken."""
        with self._changed:
            self._closing = True
            self._changed.notify()

    def join(self, seconds: float) -> bool:
        """Waits for the end, and says whether it came."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def give_up(self) -> None:
        """What is left is lost."""
        with self._changed:
            self._over = True
            if left := self.held + self._on_its_way:
                self._lose(left, "the daemon ended")
            self._waiting.clear()
            self.held = self._on_its_way = 0

    def view(self) -> dict[str, Any]:
        """As `status` shows it."""
        with self._changed:
            return {
                "sent": self.sent,
                "dropped": self.dropped,
                "waiting": self.held,
                "failing": self.failing,
            }

    # -- the thread

    def _run(self) -> None:
        while batch := self._next():
            began = time.thread_time()
            sent = self._try([item for item, _ in batch])
            self._account(sent)
            worked = time.thread_time() - began
            self._rest(max(worked * REST, min(sent.pause_seconds, PAUSE_SECONDS_MAX)))

    def _try(self, items: list[T]) -> Sent:
        try:
            return self._send(items)
        except Exception as error:  # noqa: BLE001 - the one above all that foreign code may do here
            return Sent(self._on_its_way, f"{type(error).__name__}: {error}")

    def _next(self) -> list[tuple[T, int]]:
        """A batch, once there is one; nothing at the end."""
        batch: list[tuple[T, int]] = []
        room = self._bounds.batch_max
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            self._changed.wait_for(self._is_due, self._bounds.delay_seconds)
            while self._waiting and (not batch or self._waiting[0][1] <= room):
                batch.append(self._waiting.popleft())
                room -= batch[-1][1]
            self._on_its_way = sum(size for _, size in batch)
            self.held -= self._on_its_way
        return batch

    def _is_due(self) -> bool:
        return self._closing or self.held >= self._bounds.batch_max

    def _account(self, sent: Sent) -> None:
        with self._changed:
            if self._over:  # given up while it was on its way
                return
            lost = min(sent.lost, self._on_its_way)
            self.sent += self._on_its_way - lost
            self._on_its_way = 0
            if sent.reason:
                self._lose(lost, sent.reason)
            elif self.held < self._bounds.waiting_max:
                self._heal()

    def _rest(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closing, seconds)

    # -- what is told

    def _lose(self, size: int, reason: str) -> None:
        self.dropped += size
        self._untold += size
        self.failing = reason
        now = time.monotonic()
        if not self._told and now - self._told_at >= QUIET_SECONDS:
            self._told, self._told_at = True, now
            self._tell(reason, self._untold)

    def _heal(self) -> None:
        self.failing = ""
        if self._told:
            self._told = False
            self._tell("", self._untold)
        self._untold = 0
