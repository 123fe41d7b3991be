"""The tumbling windows of one lane: laid, kept before a checkpoint passes them, and ended."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import anyio

from streamfaas.flow.batch import Batch
from streamfaas.flow.errors import CorruptBatch, StoreError, Unreachable
from streamfaas.flow.outcome import Failure, Outcome, Success
from streamfaas.flow.pane import Window
from streamfaas.flow.record import Instant, Lane, Run
from streamfaas.flow.sift import spared
from streamfaas.flow.window import Kept, Standing, Windower, resumed, state_of
from streamfaas.sources import Source, Windowed
from streamfaas.telemetry import signals
from streamfaas.wire.window_event import framed

if TYPE_CHECKING:
    from streamfaas.engine.lane import LaneRunner

LOOK_SECONDS = 0.2
"""How often a window that is over asks whether there is anything unread of it."""


class WindowStore(Protocol):
    """Where windows are kept over restarts: see `store.windows`."""

    async def load(self, lane: Lane) -> Kept | None: ...
    async def put(self, lane: Lane, kept: Kept) -> None: ...
    async def forget(self, lanes: Collection[Lane]) -> None: ...


class Panes:
    """What a strand asks about windows.

    How they stand is durable before the source hears of a checkpoint, so that what is read again
    after a crash is known to be in the state, and is not run again. Of a log that was read
    elsewhere meanwhile, or is read from elsewhere, the state is lost, which is told.

    With `seconds` of 0 there are none any more: the one that an earlier life has left open has its
    last invocation, before anything else is run.
    """

    def __init__(self, lane: LaneRunner, seconds: float, store: WindowStore) -> None:
        source: Any = lane.source
        self._lane = lane
        self._source: Windowed = source
        self._store = store
        self._seconds = seconds
        self._windower = Windower(seconds)
        self._life = ""
        self._upto = -1  # what is in the state since an earlier life
        self._kept = Standing()
        self._state = b""  # out of the last answer
        self.ending = False
        """Nothing more will come: an open window ends now."""
        self.wound_up = anyio.Event()
        """Then, and once no window is open any more."""

    async def open(self) -> None:
        """Finds out how an earlier life has left them."""
        try:
            standing = await self._left()
        except StoreError as error:
            raise Unreachable(str(error)) from error
        self._windower = Windower(self._seconds, standing)
        self._kept, self._upto = standing, standing.position
        if not self._seconds and self.last is None:
            self.wound_up.set()

    async def _left(self) -> Standing:
        lane = self._lane.lane
        kept = await self._store.load(lane)
        if kept is not None or self._seconds:
            self._life = self._source.life(lane)  # now that the lane is ours
        if kept is None:
            return Standing()
        standing, lost = resumed(kept, self._life, self._durable)
        if lost and kept.standing.window is not None:
            bounds = _bounds(kept.standing.window)
            self._lane.around.emit(signals.WindowLost(lane, *bounds, lost))
        over = not self._seconds and standing.window is None and standing.position <= self._durable
        if over:
            await self._store.forget([lane])
        elif lost:  # or that would be told again
            await self._store.put(lane, Kept(standing, self._life, self._durable))
        return standing

    async def forget(self) -> None:
        """Nothing of them is to be known any more."""
        try:
            await self._store.forget([self._lane.lane])
        except StoreError as error:
            raise Unreachable(str(error)) from error

    @property
    def last(self) -> Batch | None:
        """What is to be run first where there are no windows any more, and one is open."""
        open_ = not self._seconds and self._windower.open is not None
        return self._windower.final(self._lane.lane) if open_ else None

    @property
    def gone(self) -> bool:
        """There are no windows any more, and nothing that comes was in one."""
        return not self._seconds and self.last is None and self._upto <= self._durable

    def spare(self, runs: Sequence[Run]) -> list[Run]:
        """Runs in pieces: of what is in the state already nothing is left to be run."""
        pieces = [piece for run in runs for piece in spared(run, [(0, self._upto)])]
        before, left = (sum([run.count for run in some]) for some in (runs, pieces))
        self._lane.status.records += before - left
        return pieces

    @property
    def _durable(self) -> int:
        durable = self._lane.source.durable(self._lane.lane)
        return -1 if durable is None else durable

    # -- a batch

    def divide(self, batch: Batch) -> tuple[Batch, ...]:
        """What is to be run next, and what then. What is damaged is in no window: its run finds
        that too, and what to do."""
        now_ms = int(self._lane.around.wall() * 1000)
        try:
            return self._windower.divide(batch, self._lane.source.records, now_ms)
        except CorruptBatch:
            return (replace(batch, pane=None),)

    def read(self, batch: Batch, outcome: Success) -> Outcome:
        """What an answer says beside the state that it hands on. The last one in a window may say
        what it likes: nothing comes after it."""
        if batch.final:
            return outcome
        found = state_of(outcome)
        if isinstance(found, Failure):
            return found
        self._state, rest = found
        return rest

    def succeeded(self, batch: Batch) -> None:
        """The function is done with a batch, as it has just answered."""
        if not batch.final:
            self._windower.succeeded(self._state)

    async def settled(self, position: int) -> None:
        """Everything up to there is about to be settled."""
        self._windower.settled(position)
        await self._keep()

    async def ends(self) -> None:
        """The last invocation in the open window is about to be made. That is durable first: what
        arrives while we are down is not to be in it when it is made again."""
        if not self._kept.ending:
            self._windower.ends()
            await self._keep()

    async def ended(self, batch: Batch) -> None:
        """The open window has had its last invocation, or that was given up."""
        assert batch.pane is not None
        self._windower.ended()
        await self._keep()
        if not self._seconds:
            self.wound_up.set()
        pane, lane = batch.pane, self._lane.lane
        self._lane.around.emit(
            signals.WindowEnded(lane, *_bounds(pane.window), len(pane.state), pane.early)
        )

    async def _keep(self) -> None:
        standing, lane = self._windower.standing, self._lane.lane
        if standing.window is None and self._kept.window is None:
            return  # nothing is in hand, wherever that is
        kept = Kept(standing, self._life, self._durable)
        try:
            await self._store.put(lane, kept)
        except StoreError as error:
            raise Unreachable(str(error)) from error
        self._kept = standing

    # -- the end of a window

    def due(self, *, holding: bool, paused: bool) -> Batch | None:
        """The last invocation in the open window, where its time has come. `holding`: records wait
        that may be in it."""
        at = self._windower.due
        if at is None and self.ending and not holding:
            self.wound_up.set()
        if at is None or paused or (holding and at):
            return None
        over = not at or self.ending or self._seen_empty_since(at)
        return self._windower.final(self._lane.lane) if over else None

    def deadline(self, *, holding: bool) -> Instant | None:
        """When to ask again."""
        at, around = self._windower.due, self._lane.around
        if at is None or holding:
            return None
        return Instant(around.clock() + max(at - around.wall(), LOOK_SECONDS))

    def _seen_empty_since(self, at: float) -> bool:
        around = self._lane.around
        ago = around.wall() - at
        seen = self._source.seen_empty(self._lane.lane) if ago >= 0 else None
        return seen is not None and seen >= around.clock() - ago

    def view(self) -> dict[str, Any] | None:
        """The open window, for people."""
        standing = self._windower.standing
        if (window := standing.window) is None:
            return None
        told = {"start_ms": window.start_ms, "end_ms": window.end_ms}
        return told | {"state_bytes": len(standing.state)}


def event_of(source: Source, batch: Batch) -> bytes:
    """The event as JSON, with what is told of its window where it is in one."""
    event = source.event(batch)
    if batch.pane is None:
        return event
    log: Any = source
    named: Windowed = log
    return framed(event, batch.pane, batch.lane.name, named.arn)


async def left_behind(lanes: Collection[Lane], store: WindowStore, emit: signals.Emit) -> None:
    """What is in windows is of where the lanes have been, and they are sent elsewhere: an open one
    is lost, which is told."""
    try:
        kept = {lane: await store.load(lane) for lane in lanes}
        await store.forget(lanes)
    except StoreError as error:
        raise Unreachable(str(error)) from error
    for lane, one in kept.items():
        if one is not None and (window := one.standing.window) is not None:
            why = "it is read on from elsewhere"
            emit(signals.WindowLost(lane, *_bounds(window), why))


def _bounds(window: Window) -> tuple[int, int]:
    return window.start_ms, window.end_ms
