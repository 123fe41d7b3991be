"""Faults of tumbling windows: of what is kept of them, handed on in them, and how they end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from proof.simulation.table import planted
from streamfaas.engine.lane import LaneRunner
from streamfaas.engine.mapping import Mapping
from streamfaas.engine.panes import Panes
from streamfaas.flow.batch import Batch
from streamfaas.flow.outcome import Outcome, Success
from streamfaas.flow.record import Lane, Record, Run
from streamfaas.flow.window import NO_STATE, Kept
from streamfaas.sources import Closing, Source
from streamfaas.store.windows import Windows


def in_windows(panes: type[Panes], kind: str | None = None, first: int = 0) -> type[Mapping]:
    """A mapping whose lanes see to their windows in a way of their own. It goes by that name."""

    class Made(Mapping):
        def _open_lane(self, lane: Lane, source: Source, tasks: object) -> None:
            super()._open_lane(lane, source, tasks)  # type: ignore[arg-type]
            if (made := self._lanes[lane].panes) is not None:
                made.__class__ = panes

    Made.__name__ = panes.__name__
    planted("mapping", *BREAKS, kind=kind, first=first)(Made)
    return Made


BREAKS = ("I-40", "I-41", "I-42", "I-43")


# -- what is kept


@in_windows
class KeepsAStateAfterTheCheckpoint(Panes):
    """What is kept is always that of the batch before."""

    async def settled(self, position: int) -> None:
        await self._keep()
        self._windower.settled(position)


@planted("windows", *BREAKS)
class KeepsAStateBeforeItIsFinishedWith(Windows):
    """And it is not known how far it goes."""

    async def put(self, lane: Lane, kept: Kept) -> None:
        before = await self.load(lane)
        if before is not None and before.standing.window == kept.standing.window:
            position = before.standing.position
            kept = replace(kept, standing=replace(kept.standing, position=position))
        await super().put(lane, kept)


@planted("windows", *BREAKS)
class ForgetsAWindowWithTheDaemon(Windows):
    async def load(self, lane: Lane) -> Kept | None:
        return None


@planted("windows", *BREAKS)
class ForgetsTheStateWithTheDaemon(Windows):
    """And knows the window."""

    async def load(self, lane: Lane) -> Kept | None:
        kept = await super().load(lane)
        if kept is None:
            return None
        return replace(kept, standing=replace(kept.standing, state=NO_STATE))


@partial(in_windows, kind="stream", first=170)
class RunsAgainWhatIsInTheState(Panes):
    def spare(self, runs: Sequence[Run]) -> list[Run]:
        return list(runs)


# -- what is handed on


@in_windows
class HandsOnTheStateOfBefore(Panes):
    """What the second batch of a window answers is lost."""

    def succeeded(self, batch: Batch) -> None:
        if batch.pane is None or batch.pane.state == NO_STATE:
            super().succeeded(batch)


@in_windows
class HandsOnTheStateOfAnotherWindow(Panes):
    """A new one does not begin anew."""

    async def ended(self, batch: Batch) -> None:
        state = self._windower.standing.state
        await super().ended(batch)
        self._windower._state = state


@in_windows
class TakesAnAnswerWithoutAState(Panes):
    """The state of before goes on."""

    def read(self, batch: Batch, outcome: Success) -> Outcome:
        self._state = NO_STATE if batch.pane is None else batch.pane.state
        found = super().read(batch, outcome)
        return found if isinstance(found, Success) else outcome


# -- which window


@in_windows
class RunsTheNextWindowInTheOneThatIsOpen(Panes):
    """A batch is not cut where a window ends."""

    def divide(self, batch: Batch) -> tuple[Batch, ...]:
        first, *later = super().divide(batch)
        if later and first.pane is not None and not first.final:
            return (replace(batch, pane=first.pane),)
        return (first, *later)


@partial(in_windows, kind="shards")
class PutsARecordIntoTheNextWindow(Panes):
    """Which is cut a second too early."""

    def divide(self, batch: Batch) -> tuple[Batch, ...]:
        now_ms = int(self._lane.around.wall() * 1000)
        return self._windower.divide(batch, self._later, now_ms)

    def _later(self, batch: Batch) -> Sequence[Record]:
        records = self._lane.source.records(batch)
        return [replace(one, timestamp_ms=one.timestamp_ms + 1000) for one in records]


# -- the end


@in_windows
class MakesNoLastInvocation(Panes):
    def due(self, *, holding: bool, paused: bool) -> Batch | None:
        if super().due(holding=holding, paused=paused) is not None:
            self._windower.ended()
        return None


@in_windows
class EndsAWindowBeforeItsTime(Panes):
    """Whenever nothing waits."""

    def due(self, *, holding: bool, paused: bool) -> Batch | None:
        quiet = not holding and not paused and self._windower.open is not None
        early = self._windower.final(self._lane.lane) if quiet else None
        return super().due(holding=holding, paused=paused) or early


@in_windows
class EndsAWindowTwice(Panes):
    _ended_once = False

    async def ended(self, batch: Batch) -> None:
        self._ended_once = not self._ended_once
        if not self._ended_once:
            await super().ended(batch)


@in_windows
class OverlooksHowLargeAStateIs(Panes):
    def succeeded(self, batch: Batch) -> None:
        super().succeeded(batch)
        self._windower._early = False


@planted("mapping", *BREAKS, kind="shards")
class LetsAShardGoWithItsWindowOpen(Mapping):
    async def _close_lane(self, closing: Closing) -> None:
        await super()._close_lane(replace(closing, ended=False))


class _Untold(LaneRunner):
    async def run(self) -> None:
        if self.panes is not None and self.panes.last is not None:
            await self.panes.ended(self.panes.last)
        await super().run()


@planted("mapping", *BREAKS)
class DropsAWindowThatIsTurnedOff(Mapping):
    def _open_lane(self, lane: Lane, source: Source, tasks: object) -> None:
        super()._open_lane(lane, source, tasks)  # type: ignore[arg-type]
        self._lanes[lane].__class__ = _Untold
