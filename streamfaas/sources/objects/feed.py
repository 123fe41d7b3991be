"""A way by which notifications come, kept open: it is begun anew whenever it fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import anyio

from streamfaas.flow.errors import Refused, Unreachable, WorldError
from streamfaas.flow.record import Instant
from streamfaas.sources.objects.inbox import Inbox
from streamfaas.store import Store
from streamfaas.telemetry.signals import Emit
from streamfaas.wire.inbound import Desks

AGAIN_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Pauses before a feed that fails is begun anew; the last one for ever after."""

REFUSED_SECONDS = 60.0
"""At least so long where a person has to act first, but for the first time."""

STOOD_SECONDS = 60.0
"""A feed that stood for so long has earned a quick return."""

CLOSE_SECONDS = 10.0


class Feed(Protocol):
    """Takes notifications from a carrier and gives them to the inbox; only once the inbox has them
    does it acknowledge the carrier. Errors that leave `open` and `run` are `WorldError`s: it is
    closed then, and opened again after a while. Everything that waits has a deadline of its own,
    or ends when it is cancelled.

    `name` says for people where it takes them from; `trouble`, why nothing comes, though it runs
    (empty: it does; None: that is not known yet, as nothing has answered since `open`). Whoever
    sets it says so by `Means.changed`.
    """

    name: str
    trouble: str | None

    async def open(self) -> None:
        """Connects. Must be safe to `close()` after it failed half-way."""

    async def run(self, inbox: Inbox) -> None:
        """Until it is cancelled. While the inbox is full it acknowledges nothing."""

    async def close(self) -> None:
        """Lets go. It may be opened again."""


@dataclass(frozen=True, slots=True)
class Means:
    """What a feed is made with: the name of its mapping, where to remember things, time, ears, and
    whom to call when its trouble has changed, and where to take what is posted."""

    name: str
    store: Store
    clock: Callable[[], Instant]
    emit: Emit
    changed: Callable[[], None]
    desks: Desks | None = None


MakeFeed: TypeAlias = Callable[[Means], Feed]


class Keeper:
    """One feed, and how it stands."""

    def __init__(
        self, feed: Feed, inbox: Inbox, clock: Callable[[], Instant], changed: Callable[[], None]
    ) -> None:
        self.feed = feed
        self._failed: str | None = None  # the last time, if ever
        self._open = False
        self._inbox = inbox
        self._clock = clock
        self._changed = changed

    @property
    def trouble(self) -> str | None:
        """Why nothing comes by it at the moment; None: that is not known yet. What failed holds
        until something has answered: that it could be opened says little."""
        told = self.feed.trouble if self._open else None
        return self._failed if told is None else told

    async def keep(self) -> None:
        """Until it is cancelled."""
        failures = 0
        while True:
            begun = self._clock()
            error = await self._fall()
            failures = 1 if self._clock() - begun > STOOD_SECONDS else failures + 1
            pause = AGAIN_SECONDS[min(failures, len(AGAIN_SECONDS)) - 1]
            if isinstance(error, Refused) and failures > 1:
                pause = max(pause, REFUSED_SECONDS)
            # the same words for each try of an outage, so that it is told once
            most = REFUSED_SECONDS if isinstance(error, Refused) else AGAIN_SECONDS[-1]
            self._failed = f"{error}; tried again every {most:.0f} s or sooner"
            self._changed()
            await anyio.sleep(pause)

    async def _fall(self) -> WorldError:
        """Runs it until it fails, and says why."""
        found: BaseException = Unreachable("it has ended by itself")
        try:
            await self._once()
        except* WorldError as group:
            found = group
        while isinstance(found, BaseExceptionGroup):
            found = found.exceptions[0]
        assert isinstance(found, WorldError)
        return found

    async def _once(self) -> None:
        try:
            await self.feed.open()
            self._open = True
            self._changed()
            await self.feed.run(self._inbox)
        finally:
            self._open = False
            with anyio.CancelScope(shield=True), anyio.move_on_after(CLOSE_SECONDS):
                await self.feed.close()
