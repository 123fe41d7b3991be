"""Something with a connection, opened by the first who needs it, and kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import anyio

CLOSE_SECONDS = 5.0


class Openable(Protocol):
    """What must be closed, whatever became of its opening."""

    async def open(self) -> None: ...
    async def close(self) -> None: ...


T = TypeVar("T", bound=Openable)


class Opened(Generic[T]):
    """One thing that is opened when it is asked for, and anew after that has failed."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._turn = anyio.Lock()
        self._kept: T | None = None

    async def get(self) -> T:
        """The thing, open. Several may ask at the same time."""
        async with self._turn:
            if self._kept is None:
                made = self._make()
                try:
                    await made.open()
                except BaseException:
                    await _closed(made)
                    raise
                self._kept = made
            return self._kept

    async def close(self) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            await _closed(kept)


async def _closed(made: Openable) -> None:
    with anyio.move_on_after(CLOSE_SECONDS, shield=True):
        await made.close()
