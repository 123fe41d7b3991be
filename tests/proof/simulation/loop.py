"""An event loop that makes a history repeat exactly: its clock jumps, and its tasks have an order.

The product's simulated loop moves the clock on when nobody can run. What is added here: tasks and
scopes that are kept in sets (by anyio, by asyncio) iterate in the order of their creation, not of
their addresses, so that several that are cancelled at once always end in the same order; and a
world that spins without time going on is found out.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from anyio._backends import _asyncio as anyio_backend

from streamfaas.testing.simulation import SimulatedLoop

TURNS_MAX = 400_000
"""So many turns of the loop are no history any more."""

T = TypeVar("T")


class Endless(Exception):
    """The world goes round and round."""


class RankedTask(asyncio.Task):
    """Hashes by the order of creation."""

    _ranks = itertools.count(1)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._rank = next(RankedTask._ranks)
        super().__init__(*args, **kwargs)

    def __hash__(self) -> int:
        return self._rank

    def __eq__(self, other: object) -> bool:
        return self is other


class InOrder(dict):
    """As much of a set as anyio uses, in the order of arrival."""

    add = dict.setdefault
    remove = dict.__delitem__

    def discard(self, item: object) -> None:
        self.pop(item, None)


class RepeatableLoop(SimulatedLoop):
    """A simulated loop whose cancellations repeat, and whose turns are counted."""

    def __init__(self) -> None:
        super().__init__()
        self.turns = 0
        self.turns_max = TURNS_MAX
        RankedTask._ranks = itertools.count(1)
        self.set_task_factory(lambda loop, coro, **kw: RankedTask(coro, loop=loop, **kw))

    def _run_once(self) -> None:
        self.turns += 1
        if self.turns > self.turns_max:
            self.turns_max += 1000  # what is cancelled now needs a few more
            raise Endless(f"{self.turns} turns of the loop by {self.time():.3f} s")
        super()._run_once()


def repeatably(main: Callable[[], Coroutine[Any, Any, T]]) -> tuple[T, RepeatableLoop]:
    """Runs `main()` to its end; its result, and the loop that it ran on."""
    plain = anyio_backend.CancelScope.__init__

    def ordered(self: Any, *args: Any, **kwargs: Any) -> None:
        plain(self, *args, **kwargs)
        self._child_scopes = InOrder()

    anyio_backend.CancelScope.__init__ = ordered
    try:
        with asyncio.Runner(loop_factory=RepeatableLoop) as runner:
            loop = runner.get_loop()
            assert isinstance(loop, RepeatableLoop)
            return runner.run(main()), loop
    finally:
        anyio_backend.CancelScope.__init__ = plain
