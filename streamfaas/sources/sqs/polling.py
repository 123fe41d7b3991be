"""Who asks a queue for messages, and how many at the same time."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anyio

from streamfaas.flow.errors import Refused, WorldError
from streamfaas.flow.verdict import RetryPolicy
from streamfaas.wire.sqs import Queue

POLLERS_MAX = 8
"""Receives at the same time, of a queue that always has something; one where it is empty."""

BUSY_WAIT_SECONDS = 1
"""How long those receives wait that are there because the queue had something."""

ROOM_SECONDS = 0.05
"""How often it is looked at whether the function has a free worker again: others use it, too."""

LEAVE_SECONDS = 0.5
"""How long a receive may go on when nobody wants anything any more: what has been handed out for
it is given back then. One that waits for a first message is cut off."""

BACKOFF = RetryPolicy(backoff_seconds=0.5, backoff_seconds_max=30.0)
REFUSED_SECONDS = 20.0


class Polling:
    """Receives as many messages as there is room for, and no more.

    `room` says how many may be asked for now, `took` is handed what came, and how many had been
    asked for; `told` hears of an error, and of None once all is well again.
    """

    def __init__(
        self,
        queue: Queue,
        wait_seconds: int,
        visibility_seconds: Callable[[], int | None],
        *,
        room: Callable[[], int],
        took: Callable[[Sequence[Mapping[str, Any]]], None],
        told: Callable[[WorldError | None], None],
        jitter: Callable[[], float],
    ) -> None:
        self.asked = 0
        """Messages that receives on their way may bring."""
        self.asking = 0
        """Receives on their way."""
        self._queue = queue
        self._wait_seconds = wait_seconds
        self._visibility_seconds = visibility_seconds
        self._room = room
        self._took = took
        self._told = told
        self._jitter = jitter
        self._stirred = asyncio.Event()
        self._asleep: deque[asyncio.Event] = deque()
        self._busy = False  # the last receive brought something
        self._scopes: dict[anyio.CancelScope, None] = {}  # a set that keeps its order

    def stir(self) -> None:
        """There may be room again."""
        self._stirred.set()
        if self._busy and self._asleep and self._room():
            self._asleep.popleft().set()

    def leave(self) -> None:
        """Nobody wants anything, for now or for ever: what is on its way has a moment left."""
        until = anyio.current_time() + LEAVE_SECONDS
        for scope in self._scopes:
            scope.deadline = min(scope.deadline, until)

    def stay(self) -> None:
        """Somebody does after all."""
        for scope in self._scopes:
            scope.deadline = math.inf

    async def watch(self) -> None:
        """The one that is always there."""
        failures = 0
        while True:
            if not (room := self._room()):
                self._stirred.clear()
                with anyio.move_on_after(ROOM_SECONDS):
                    await self._stirred.wait()
                continue
            try:
                await self._receive(room, self._wait_seconds)
            except WorldError as error:
                failures += 1
                self._told(error)
                pause = BACKOFF.delay(failures, self._jitter())
                if isinstance(error, Refused) and failures > 1:
                    pause = max(pause, REFUSED_SECONDS)
                await anyio.sleep(pause)
                continue
            failures = 0
            self._told(None)

    async def help(self) -> None:
        """One that comes where there is much to do."""
        bell = asyncio.Event()
        while True:
            bell.clear()
            self._asleep.append(bell)
            await bell.wait()
            came = True
            while came and (room := self._room()):
                try:
                    came = await self._receive(room, min(BUSY_WAIT_SECONDS, self._wait_seconds))
                except WorldError:  # whoever watches will meet it, too, and waits
                    came = False

    async def _receive(self, room: int, wait_seconds: int) -> bool:
        """Whether it brought something. It is not cut off by the end of its task, but for a
        moment later: what the queue has handed out would stay hidden from everybody."""
        found: Sequence[Mapping[str, Any]] = ()
        self.asked, self.asking = self.asked + room, self.asking + 1
        with anyio.CancelScope(shield=True) as scope:
            self._scopes[scope] = None
            try:
                found = await self._queue.receive(room, wait_seconds, self._visibility_seconds())
            finally:
                del self._scopes[scope]
                self.asked, self.asking = self.asked - room, self.asking - 1
        if not scope.cancelled_caught:
            self._busy = bool(found)
            self._took(found)
        if found:
            self.stir()
        return bool(found)
