"""One source → one function: arrivals to lanes, under a supervisor that outlives the source."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Coroutine, Sequence
from collections.abc import Mapping as Table
from dataclasses import asdict, dataclass
from typing import Any

import anyio
from anyio.abc import TaskGroup

from streamfaas.engine import views
from streamfaas.engine.intake import Intake
from streamfaas.engine.lane import LanePolicy, LaneRunner, Surroundings
from streamfaas.engine.panes import left_behind
from streamfaas.engine.tally import Tally
from streamfaas.flow.errors import Gone, Refused, StoreError, Unreachable, WorldError
from streamfaas.flow.invocation import Manner
from streamfaas.flow.record import Instant, Lane
from streamfaas.flow.verdict import RetryPolicy
from streamfaas.sources import Arrived, Branching, Closing, Leased, Opened, Seekable, Source, Spot
from streamfaas.telemetry import signals

RECONNECT = RetryPolicy(backoff_seconds=1.0, backoff_seconds_max=30.0)
REFUSED_SECONDS = 60.0
REFUSALS_QUICK = 3
"""After so many failures in a row it is not some credentials that are just being renewed."""

CLOSE_SECONDS = 15.0
REBUILD_GRACE_SECONDS = 10.0
"""How long what is in flight may go on after its source has failed; less, where others may have
its lanes before."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Since when (epoch milliseconds) and by whom nothing new is read or run."""

    since_ms: int
    by: str


class Mapping:
    """A trigger of a function. `run` lasts until `stop`; a source that fails is closed and made
    anew, with growing pauses, and its lanes begin again at their checkpoints."""

    def __init__(
        self,
        name: str,
        make_source: Callable[[], Source],
        policy: LanePolicy,
        surroundings: Surroundings,
        paused: Pause | None = None,
    ) -> None:
        self.name = name
        self.policy = policy
        self.paused = paused
        self._make_source = make_source
        self._around = surroundings
        self._lanes: dict[Lane, LaneRunner] = {}
        self._intake = Intake(self._lanes, self._wake, is_shut=paused is not None)
        self._tally = Tally()
        self._source: Source | None = None
        self._reason = "not connected yet"
        self._state = "connecting"
        self._grace_seconds: float | None = None  # set once told to stop
        self._reading: anyio.CancelScope | None = None
        self._stopped = anyio.Event()
        self._seeking = anyio.Lock()
        self._sought: Collection[Lane] = ()  # who sends these elsewhere lets go of them, too
        self.connected = anyio.Event()
        """Set once the source has been opened, or has failed to be for the first time."""

    @property
    def source(self) -> Source | None:
        """The one that is read now."""
        return self._source

    @property
    def stopping(self) -> bool:
        return self._grace_seconds is not None

    async def run(self) -> None:
        failures = 0
        try:
            while not self.stopping:
                started = self._around.clock()
                error = await self._once()
                self.connected.set()
                if error is None:
                    break
                # a source that stood for a while has earned a quick return
                failures = 1 if self._around.clock() - started > 60 else failures + 1
                await self._rest(error, failures)
        finally:
            self._stopped.set()

    def inherit(self, other: Mapping) -> None:
        """Counts on from where another has ended: no number falls."""
        self._tally.inherit(other._tally)

    async def stop(self, grace_seconds: float) -> None:
        """Reads nothing more, lets what is in flight end within the grace, settles, closes."""
        self._grace_seconds = grace_seconds
        if self._reading is not None:
            self._reading.cancel()
        await self._stopped.wait()

    def pause(self, pause: Pause) -> None:
        """Nothing more is read or run until `resume`; what is in flight ends and is settled. The
        source stays open: leases and memberships are kept."""
        self.paused = pause
        self._intake.shut()
        for runner in self._lanes.values():
            runner.pause(paused=True)
        self._wake()

    def resume(self) -> None:
        self.paused = None
        for runner in self._lanes.values():
            runner.pause(paused=False)
        self._intake.reopen()

    def settled(self, lane: Lane) -> int | None:
        """Up to which position a lane is finished with; None where nothing of it is, since it is
        read."""
        runner = self._lanes.get(lane)
        return None if runner is None else runner.status.position

    def reads(self, lane: Lane) -> bool:
        """Whether a lane is ours."""
        return lane in self._lanes

    @property
    def at_rest(self) -> bool:
        """Nothing is in flight, and what was done survives a crash."""
        return all(runner.at_rest for runner in self._lanes.values())

    async def seek(
        self,
        spots: Table[Lane, Spot],
        grace_seconds: float,
        *,
        onward: Collection[Lane] = (),
    ) -> dict[Lane, tuple[Spot, Spot]]:
        """Reads lanes on from elsewhere: what is in flight ends within the grace or is let go, the
        spots are made durable, and the lanes begin there. From where and to where they have gone:
        those that go `onward` never go back, however far they have come meanwhile. Whatever
        happens, a lane stands where it stood or where it was sent to. The source is `Seekable`."""
        async with self._seeking:
            source: Any = self._source
            log: Seekable = source
            self._sought = frozenset(spots)
            try:
                await self._let_go_of(spots, grace_seconds)
                stood = log.standing()
                spots = {
                    lane: _onward(log, lane, stood, at) if lane in onward else at
                    for lane, at in spots.items()
                }
                await log.seek(spots)
                await self._leave_behind(spots, stood)
            finally:
                with anyio.CancelScope(shield=True):
                    for lane in spots:
                        if lane not in self._lanes:
                            await source.closed(lane)
                self._sought = frozenset()
            return {lane: (stood[lane], at) for lane, at in spots.items()}

    async def _let_go_of(self, lanes: Collection[Lane], grace_seconds: float) -> None:
        """And of their windows: were they kept until they are elsewhere, a crash in between would
        pass over what is to be read again."""
        windows = self._around.windows
        while True:
            await self._end([self._lanes[k] for k in lanes if k in self._lanes], grace_seconds)
            if windows is not None:
                await left_behind(lanes, windows, self._around.emit)
            if self._lanes.keys().isdisjoint(lanes):  # one that was given away may have come back
                return

    async def _leave_behind(self, spots: Table[Lane, Spot], stood: Table[Lane, Spot]) -> None:
        """Letters that were delivered guard their records no more: who reads them again wants them
        to run again."""
        source: Any = self._source
        for lane, spot in spots.items():
            self._tally.moved(lane, spot)
            if self._around.outbox is not None:
                # words say no position: a log that has them goes on at a new one, behind all others
                at = stood[lane]
                upto = at - 1 if isinstance(at, int) else source.durable(lane)
                if upto is not None:
                    await self._around.outbox.settled(self.name, lane.name, upto)

    # -- one life of the source

    async def _once(self) -> WorldError | None:
        """Why the source failed; None if it ended because we were told to stop."""
        source = self._source = self._make_source()
        if self._state != "degraded":  # else it has been told that there will be another try
            self._tell("connecting", "")
        error: WorldError | None = None
        try:
            async with anyio.create_task_group() as tasks:
                try:
                    await self._live(source, tasks)
                finally:
                    tasks.cancel_scope.cancel()
        except* WorldError as group:
            error = _first(group)
        finally:
            with anyio.CancelScope(shield=True):
                error = await self._let_go(source) or error
        return None if self.stopping else error

    async def _live(self, source: Source, tasks: TaskGroup) -> None:
        with anyio.CancelScope() as self._reading:
            if self.stopping:
                return

            def spawn(work: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
                if not tasks.cancel_scope.cancel_called:  # else nobody would ever end it
                    tasks.start_soon(work, name=f"{self.name}: {name}")

            await source.open(spawn)
            if source.view().state == "running":
                self._tell("running", "")
            else:  # it tells by itself, once it has what it waits for
                self._state, self._reason = "running", ""
            self.connected.set()
            try:
                await self._read(source, tasks)
            except WorldError:  # what is in flight may still end, and is worth a checkpoint
                lease = source.lease_seconds if isinstance(source, Leased) else math.inf
                await self._close_lanes(min(REBUILD_GRACE_SECONDS, lease))
                raise
        self._reading = None
        await self._close_lanes(self._grace_seconds or 0.0)

    async def _read(self, source: Source, tasks: TaskGroup) -> None:
        while True:
            match await source.next(self._intake.ready):
                case Arrived(run):
                    lane = self._lanes[run.lane]
                    lane.offer(run)
                    self._intake.weigh(lane, run.size_bytes)
                case Opened(lane):
                    self._open_lane(lane, source, tasks)
                case Closing() as closing:
                    tasks.start_soon(self._close_lane, closing)

    async def _let_go(self, source: Source) -> WorldError | None:
        """Closes the source whatever has happened; its last settlement is in here."""
        for lane in list(self._lanes):
            self._forget(lane)
        self._tally.left_blocked(source.view().blocked)
        error: WorldError | None = None
        with anyio.move_on_after(CLOSE_SECONDS) as deadline:
            try:
                await source.close()
            except WorldError as failed:
                error = failed
        if deadline.cancelled_caught:
            self._tell("degraded", f"did not close within {CLOSE_SECONDS:.0f} s; left behind")
        return error

    async def _rest(self, error: WorldError, failures: int) -> None:
        pause = RECONNECT.delay(failures, self._around.jitter())
        if isinstance(error, Refused):  # a person has to act; do not hammer the door meanwhile
            pause = max(pause, REFUSED_SECONDS if failures > REFUSALS_QUICK else pause)
        told = str(error) if self._state == "running" else _unopened(error)
        self._tell("degraded", f"{told}; next try in {pause:.0f} s")
        with anyio.CancelScope() as self._reading:
            if not self.stopping:
                await anyio.sleep(pause)
                self._reason = f"{told}; it is tried again"
        self._reading = None

    # -- lanes

    def _open_lane(self, lane: Lane, source: Source, tasks: TaskGroup) -> None:
        assert lane not in self._lanes
        runner = LaneRunner(lane, source, self.policy, self._around, self._intake.has_room)
        runner.paused = self.paused is not None
        self._lanes[lane] = runner
        self._tally.opened(lane)
        tasks.start_soon(self._run_lane, runner, name=f"{self.name}: {lane.name}")
        self._around.emit(signals.LaneOpened(lane))

    async def _run_lane(self, runner: LaneRunner) -> None:
        try:
            with runner.scope:
                await runner.open()
                self._intake.begin(runner)
                await runner.run()
        finally:
            runner.ended.set()

    async def _close_lane(self, closing: Closing) -> None:
        """Lets the lane end within the grace, cuts it off after, and tells the source."""
        lane = closing.lane
        if (runner := self._lanes.get(lane)) is not None:
            if closing.ended and not await runner.wind_up():
                return  # it comes again, and is at its end still
            await self._end([runner], closing.grace_seconds)
        if self._source is not None and lane not in self._sought:
            await self._source.closed(lane)
            sent_back = lane in self._sought or lane in self._lanes
            if runner is not None and closing.ended and not sent_back:  # it never comes by itself
                await runner.forget()

    async def _close_lanes(self, grace_seconds: float) -> None:
        await self._end(list(self._lanes.values()), grace_seconds)

    async def _end(self, runners: Sequence[LaneRunner], grace_seconds: float) -> None:
        """Lets lanes end within the grace, and cuts them off after."""
        for runner in runners:
            runner.close()
        with anyio.move_on_after(grace_seconds):
            for runner in runners:
                await runner.ended.wait()
        for runner in runners:
            runner.scope.cancel()
        for runner in runners:
            await runner.ended.wait()
            if self._lanes.get(runner.lane) is runner:
                self._forget(runner.lane)

    def _wake(self) -> None:
        if self._source is not None:
            self._source.wake()

    def _forget(self, lane: Lane) -> None:
        runner = self._lanes.pop(lane, None)
        self._intake.forget(lane)
        if runner is not None:
            self._tally.closed(runner)
            self._around.emit(signals.LaneClosed(lane, runner.unfinished))

    def skip(self, lane_name: str | None, *, dry_run: bool) -> list[dict[str, Any]]:
        """Gives up the batches that wait to be tried again, of one lane or of all: they go where
        given-up batches go, and the lanes go on. What that is (or would be)."""
        chosen = [r for lane, r in self._lanes.items() if lane_name in {None, lane.name}]
        return [
            {
                "lane": batch.lane.name,
                "first": batch.first,
                "last": batch.last,
                "records": batch.count,
                "attempt": batch.attempt,
                "destination": to,
            }
            for runner in chosen
            for batch, to in runner.skip(dry_run=dry_run)
        ]

    # -- for people

    @property
    def returned(self) -> int:
        """How many keys have failed, and are back in their queue until they are tried again."""
        return 0 if self._source is None else len(self._source.view().held)

    def _tell(self, state: str, reason: str) -> None:
        changed = (state, reason) != (self._state, self._reason)
        self._state, self._reason = state, reason
        if changed:
            self._around.emit(signals.SourceChanged(self.name, state, reason))

    def places(self) -> dict[str, tuple[int, int]]:
        """Position and lag of the lanes of a log, where both are known."""
        source = self._source
        if source is None or source.manner is Manner.ASYNC:
            return {}
        return {
            lane.name: (seen.position, seen.lag)
            for lane, seen in source.view().lanes.items()
            if seen.position is not None and seen.lag is not None
        }

    def details(self) -> dict[str, Any]:
        """What its source says of itself, and what is asked of its lanes."""
        source = {} if self._source is None else dict(self._source.view().details)
        return {"source": source, **views.policy(self.policy)}

    def view(self, now: Instant) -> dict[str, Any]:
        """The trigger as `status` shows it."""
        source = self._source.view() if self._source is not None else None
        lanes = views.lanes(self._lanes, source, now, paused=self.paused is not None)
        state, reason = views.standing(self._state, self._reason, source, lanes)
        return {
            "kind": self._source.kind if self._source is not None else "",
            "state": state if self.paused is None else "paused",
            "reason": reason,
            "paused": None if self.paused is None else asdict(self.paused),
            "at_rest": self.at_rest,
            "connected": self.connected.is_set(),
            "lanes": lanes,
            **self._tally.view(self._lanes.values()),
        }


_QUESTIONS: Table[type[WorldError], str] = {
    Unreachable: "is it up, and is its address right",
    Refused: "are the credentials right, and do they permit it",
    Gone: "is it there, and is its name right",
}


def _unopened(error: WorldError) -> str:
    """Why a source could not be opened, and what may help. The local store says that by itself."""
    question = _QUESTIONS.get(type(error))
    asked = question is not None and not isinstance(error.__cause__, StoreError)
    return f"{error}; {question}? (streamfaas doctor)" if asked else str(error)


def _onward(log: Seekable, lane: Lane, stood: Table[Lane, Spot], at: Spot) -> Spot:
    """Where a lane is sent that never goes back."""
    here = stood.get(lane, at)
    if isinstance(here, int) and isinstance(at, int):
        return max(here, at)
    return here if isinstance(log, Branching) and log.is_past(lane, at) else at


def _first(group: BaseExceptionGroup[WorldError]) -> WorldError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, WorldError)
    return error
