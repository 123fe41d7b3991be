"""An event loop in which waiting costs nothing: when nobody can run, the clock moves on."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


class Deadlock(Exception):
    """Nothing is ready and nothing is scheduled: the simulated world would wait for ever."""


class _Leaping(selectors.BaseSelector):
    """A selector that asks its descriptors once, and instead of waiting moves the clock on. It does
    wait while something is `awaited`."""

    def __init__(self) -> None:
        self._real = selectors.DefaultSelector()
        self.now = 0.0
        self.awaited = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self.awaited and timeout != 0:
            return self._real.select(None)
        ready = self._real.select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise Deadlock
        self.now += timeout
        return ready

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()


class SimulatedLoop(asyncio.SelectorEventLoop):
    """Timers fire in their order, in no time; there is no thread and no network in here, but what
    is waited for while time is `standing_still`."""

    def __init__(self) -> None:
        self._leaping = _Leaping()
        super().__init__(self._leaping)

    def time(self) -> float:
        return self._leaping.now

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """Around an await of something outside, which takes time of its own: none passes here."""
        self._leaping.awaited += 1
        try:
            yield
        finally:
            self._leaping.awaited -= 1


def simulate(main: Callable[[], Coroutine[Any, Any, T]]) -> tuple[T, float]:
    """Runs `main()` to its end; its result, and the simulated seconds that it took."""
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        result = runner.run(main())
        return result, runner.get_loop().time()
