"""How things have gone lately: rates, times and failures of the last minute, at little cost."""

from __future__ import annotations

import math
import time
from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

from streamfaas.flow.outcome import Failure, Success
from streamfaas.telemetry import signals
from streamfaas.telemetry.metrics import NOT_RUN
from streamfaas.telemetry.signals import InvocationEnded, Signal

TICK_SECONDS = 2.0
MARKS_MAX = 31
"""So that the oldest is a minute old."""

RATE_SECONDS = 10.0
"""What rates are taken over, where there is as much."""

PLACES_TICKS = 5
PLACES_MAX = 4
"""Positions of lanes are remembered every tenth second, for half a minute."""

LEAP = 1 << 31
"""No lane comes so far from one look to the next: its positions were begun anew."""

AT_HAND_SECONDS = 5.0
"""What is done of within this time is on its way, and no backlog."""

COLD_SECONDS = 3600.0
COLD_MAX = 1_000
ERRORS_MAX = 5
ERROR_CHARACTERS = 400

STEP = 1.1
BOUNDS = tuple(1e-4 * STEP**number for number in range(170))
"""Bounds of durations in seconds, fine enough that a percentile is off by 5 % at most."""

Place: TypeAlias = tuple[int, int]
"""Position and lag of a lane."""

Places: TypeAlias = Mapping[str, Mapping[str, Place]]
"""Of the lanes of each trigger that has them."""


class Counted(NamedTuple):
    """What a tally stood at."""

    invocations: int
    failures: int
    records: int
    times: array[int]


class Tally:
    """Counts of one trigger, or of a function's direct calls, since the beginning."""

    __slots__ = ("cold_at", "errors", "failures", "invocations", "records", "times")

    def __init__(self) -> None:
        self.invocations = self.failures = self.records = 0
        self.times = array("L", bytes(array("L").itemsize * (len(BOUNDS) + 1)))
        self.cold_at: deque[float] = deque(maxlen=COLD_MAX)
        self.errors: deque[dict[str, Any]] = deque(maxlen=ERRORS_MAX)

    def counted(self) -> Counted:
        return Counted(self.invocations, self.failures, self.records, self.times[:])


NOTHING = Tally().counted()


@dataclass(frozen=True, slots=True)
class Mark:
    """How all tallies stood at a moment."""

    at: float
    cpu_seconds: float
    counted: Mapping[str, Counted] = field(default_factory=dict)


class Lately:
    """Listens to signals, which only counts up; whoever `tick`s it remembers, every two seconds,
    what the counts were. Calls that we ended ourselves, or that never ran, are no invocations.

    It also knows since when a source is not well, and what the last errors were.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,  # noqa: TID251 - when errors were, for people
        cpu_clock: Callable[[], float] = time.process_time,
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._cpu_clock = cpu_clock
        self._tallies: dict[str, Tally] = {}
        self._marks = deque([Mark(clock(), cpu_clock())], maxlen=MARKS_MAX)
        self._places: deque[tuple[float, Places]] = deque(maxlen=PLACES_MAX)
        self._ran: set[str] = set()
        self._unwell: dict[str, float] = {}
        self._ticks = 0

    def __call__(self, signal: Signal) -> None:
        if type(signal) is InvocationEnded:
            self._invocation(signal)
        elif type(signal) is signals.SourceChanged:
            self._source(signal.source, signal.state)

    def _invocation(self, signal: InvocationEnded) -> None:
        lane, outcome = signal.lane, signal.outcome
        source = signal.function if lane is None else lane.source
        tally = self._tallies.get(source)
        if tally is None:
            tally = self._tallies[source] = Tally()
        if not isinstance(outcome, Success):
            tally.errors.append(self._error(signal, outcome))
            if outcome.fault in NOT_RUN:
                return
            tally.failures += 1
        report = outcome.report
        tally.invocations += 1
        tally.records += signal.records
        tally.times[bisect_left(BOUNDS, report.duration_seconds)] += 1
        if report.init_seconds is not None:
            tally.cold_at.append(self._clock())

    def _error(self, signal: InvocationEnded, outcome: Failure) -> dict[str, Any]:
        return {
            "at_ms": int(self._wall_clock() * 1000),
            "lane": None if signal.lane is None else signal.lane.name,
            "first": signal.first,
            "last": signal.last,
            "attempt": signal.attempt,
            "request_id": signal.request_id,
            "type": outcome.type[:ERROR_CHARACTERS],
            "message": outcome.message[:ERROR_CHARACTERS],
        }

    def _source(self, source: str, state: str) -> None:
        if state == "running":
            self._ran.add(source)
            self._unwell.pop(source, None)
        elif state != "connecting" and source in self._ran:
            self._unwell.setdefault(source, self._clock())

    # -- what is remembered

    def tick(self, places: Callable[[], Places]) -> None:
        """`places` is asked now and then."""
        now, last = self._clock(), self._marks[-1].counted
        counted = {
            source: _unchanged(tally, last.get(source)) or tally.counted()
            for source, tally in self._tallies.items()
        }
        self._marks.append(Mark(now, self._cpu_clock(), counted))
        if self._ticks % PLACES_TICKS == 0:
            self._places.append((now, places()))
        self._ticks += 1

    # -- what is shown

    @property
    def cpu(self) -> float:
        """Cores that the daemon itself uses."""
        mark = self._mark(self._clock() - RATE_SECONDS)
        return (self._cpu_clock() - mark.cpu_seconds) / self._since(mark)

    def unwell_seconds(self, source: str) -> float | None:
        """For how long a source that ran has not been well; None: it never ran, or is well."""
        since = self._unwell.get(source)
        return None if since is None else self._clock() - since

    def function(self, name: str) -> dict[str, Any]:
        """Of all its triggers and direct calls together."""
        return self._rates([one for one in self._tallies if one.partition("/")[0] == name])

    def trigger(self, name: str) -> dict[str, Any]:
        return self._rates([name])

    def errors(self, name: str) -> list[dict[str, Any]]:
        """The last ones of a trigger, the newest first."""
        tally = self._tallies.get(name)
        return [] if tally is None else list(reversed(tally.errors))

    def lane(
        self, trigger: str, name: str, position: int | None, lag: int | None
    ) -> dict[str, Any]:
        """Records a second that are finished with, and that come, up to now; and how long it will
        take until there is no lag, if that goes on (None: for ever, or it is not known)."""
        found = [
            (at, *places[trigger][name])
            for at, places in self._places
            if name in places.get(trigger, ())
        ]
        nothing = {"done_per_second": None, "came_per_second": None, "caught_up_in_seconds": None}
        now = self._clock()
        if found and position is not None and lag is not None and now > found[-1][0]:
            found.append((now, position, lag))
        if len(found) < 2:
            return nothing
        (begun, first, first_lag), (ended, last, last_lag) = found[0], found[-1]
        if any(not 0 <= after[1] - before[1] < LEAP for before, after in pairwise(found)):
            return nothing  # it was sent elsewhere meanwhile
        done = (last - first) / (ended - begun)
        came = max(0.0, (last + last_lag - first - first_lag) / (ended - begun))
        wait = None
        if lag is not None and lag <= done * AT_HAND_SECONDS:
            wait = lag / done if lag else 0.0
        elif lag is not None and done > came:
            wait = lag / (done - came)
        return {"done_per_second": done, "came_per_second": came, "caught_up_in_seconds": wait}

    def _rates(self, sources: Collection[str]) -> dict[str, Any]:
        now = self._clock()
        short, long = self._mark(now - RATE_SECONDS), self._marks[0]
        quick, whole = self._between(sources, short), self._between(sources, long)
        seconds = self._since(short)
        cold = [at for one in sources for at in self._tally(one).cold_at]
        return {
            "invocations_per_second": quick.invocations / seconds,
            "records_per_second": quick.records / seconds,
            "errors_percent": 100 * whole.failures / whole.invocations
            if whole.invocations
            else 0.0,
            "batch_records": whole.records / whole.invocations if whole.invocations else None,
            "p50_seconds": percentile(whole.times, 0.5),
            "p99_seconds": percentile(whole.times, 0.99),
            "cold_starts_per_hour": sum(at > now - COLD_SECONDS for at in cold),
        }

    def _between(self, sources: Collection[str], mark: Mark) -> Counted:
        """What was counted since a mark."""
        invocations, failures, records, times = 0, 0, 0, array("L", NOTHING.times)
        for source in sources:
            now, then = self._tally(source), mark.counted.get(source, NOTHING)
            if now.invocations == then.invocations:
                continue
            invocations += now.invocations - then.invocations
            failures += now.failures - then.failures
            records += now.records - then.records
            for at, (after, before) in enumerate(zip(now.times, then.times, strict=True)):
                times[at] += after - before
        return Counted(invocations, failures, records, times)

    def _tally(self, source: str) -> Tally:
        return self._tallies.get(source) or Tally()

    def _mark(self, upto: float) -> Mark:
        """The newest mark that is as old as that, or the oldest."""
        return next((mark for mark in reversed(self._marks) if mark.at <= upto), self._marks[0])

    def _since(self, mark: Mark) -> float:
        return max(self._clock() - mark.at, 0.1)


def percentile(times: array[int], share: float) -> float | None:
    """The duration that this share of the calls did not exceed, in seconds; None: there is none."""
    total, seen = sum(times), 0
    for at, count in enumerate(times):
        seen += count
        if count and seen >= share * total:
            return BOUNDS[min(at, len(BOUNDS) - 1)] / math.sqrt(STEP)
    return None


def _unchanged(tally: Tally, last: Counted | None) -> Counted | None:
    """What idles costs nothing."""
    return last if last is not None and last.invocations == tally.invocations else None
