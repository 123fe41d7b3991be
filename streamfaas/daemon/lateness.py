"""How late the daemon's loop comes to what is due: what held it up is seen, whatever it was."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

LOOK_SECONDS = 0.25


@contextlib.contextmanager
def watched(loop: asyncio.AbstractEventLoop, late: Callable[[float], None]) -> Iterator[None]:
    """Tells each time by how many seconds, while the block lasts."""
    timers: list[asyncio.TimerHandle] = []

    def look(due: float) -> None:
        now = loop.time()
        late(max(now - due, 0.0))
        await_next(now + LOOK_SECONDS)

    def await_next(due: float) -> None:
        timers[:] = [loop.call_at(due, look, due)]

    await_next(loop.time() + LOOK_SECONDS)
    try:
        yield
    finally:
        timers[0].cancel()
