"""Reloads one after another: at most one is under way, and at most one waits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import anyio

T = TypeVar("T")


@dataclass(slots=True)
class Turn(Generic[T]):
    """One run, for all who asked for it. `about` is what they asked for; `outcome` is None where it
    was not done to the end."""

    about: set[str] = field(default_factory=set)
    done: anyio.Event = field(default_factory=anyio.Event)
    outcome: T | None = None

    async def wait(self) -> T | None:
        await self.done.wait()
        return self.outcome


class Turns(Generic[T]):
    """Runs `work` whenever it is asked for. Who asks while it is under way waits for the next run,
    since it may have begun before what he wants to be seen; all who wait share that one run."""

    def __init__(self, work: Callable[[frozenset[str]], Awaitable[T]]) -> None:
        self._work = work
        self._scope: anyio.CancelScope | None = None
        self._stopped = False
        self._asked = anyio.Event()
        self._ended = anyio.Event()
        self._now: Turn[T] | None = None
        self._next: Turn[T] | None = None

    def ask(self, *about: str) -> Turn[T]:
        """One turn more, or that which waits already. At the end nothing comes of it."""
        if self._next is None:
            self._next = Turn()
            self._asked.set()
        if self._ended.is_set():
            self._next.done.set()
        self._next.about.update(about)
        return self._next

    async def serve(self) -> None:
        """Until `stop`."""
        try:
            with anyio.CancelScope() as self._scope:
                while not self._stopped:
                    await self._asked.wait()
                    self._asked = anyio.Event()
                    turn, self._next = self._next, None
                    assert turn is not None
                    self._now = turn
                    turn.outcome = await self._work(frozenset(turn.about))
                    turn.done.set()
        finally:
            self._ended.set()
            for turn in (self._now, self._next):
                if turn is not None:
                    turn.done.set()

    async def stop(self) -> None:
        """Ends what is under way, wherever it is, once it has put things in order again."""
        self._stopped = True
        if self._scope is not None:
            self._scope.cancel()
        await self._ended.wait()
