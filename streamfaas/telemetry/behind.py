"""Work that a thread does behind the loop, within bounds: what is slow there holds nobody up."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

ITEMS_MAX = 20_000
BYTES_MAX = 32 * 1024 * 1024
AT_ONCE_MAX = 500
CLOSE_SECONDS = 2.0

GATHER_SECONDS = 0.01
"""How long the first of several waits for the others."""

T = TypeVar("T")


class Behind(Generic[T]):
    """`work` is given what was put, in its order and as much as there is at once. It must not
    raise."""

    def __init__(
        self,
        work: Callable[[Sequence[T]], None],
        name: str,
        *,
        items_max: int = ITEMS_MAX,
        bytes_max: int = BYTES_MAX,
    ) -> None:
        self._work = work
        self._items_max = items_max
        self._bytes_max = bytes_max
        self._queue: queue.SimpleQueue[tuple[T, int] | None] = queue.SimpleQueue()
        self._put_bytes = 0  # written by who puts
        self._done_bytes = 0  # written by the thread: one number for both would lose steps
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def held(self) -> int:
        """How many wait."""
        return self._queue.qsize()

    def put(self, item: T, size: int) -> bool:
        """Never waits. False: it did not fit, and is not taken."""
        if self._put_bytes - self._done_bytes > self._bytes_max or self.held >= self._items_max:
            return False
        self._put_bytes += size
        self._queue.put((item, size))
        return True

    def close(self) -> None:
        """Does what is left, within two seconds."""
        self._queue.put(None)
        self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        ended = False
        while not ended:
            taken = [self._queue.get()]
            # who is woken for each item takes the interpreter from the loop for each
            time.sleep(GATHER_SECONDS)
            while not self._queue.empty() and len(taken) < AT_ONCE_MAX:
                taken.append(self._queue.get())
            ended = None in taken
            items = [each for each in taken if each is not None]
            self._work([item for item, _ in items])
            self._done_bytes += sum(size for _, size in items)
