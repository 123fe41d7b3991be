"""What becomes of test events that were sent: followed by the signals that the daemon gives."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from streamfaas.flow import partial
from streamfaas.flow.batch import Batch
from streamfaas.flow.outcome import Outcome, Success
from streamfaas.flow.record import Lane, Record
from streamfaas.sources import Sent, Source
from streamfaas.telemetry import signals
from streamfaas.telemetry.signals import InvocationEnded, Signal

WAITING, ANSWERED, SUCCEEDED, FILTERED, ASIDE = (
    "waiting", "answered", "succeeded", "filtered", "set aside",
)  # fmt: skip


EARLY_MAX = 10_000
"""Signals, and keys of files, that are kept for an event of which is not known yet where it is."""


@dataclass(slots=True)
class Fate:
    """Of one test event. Times are of the daemon's clock; `fails`: its last attempt failed, and it
    is known what comes next."""

    sent: Sent
    sent_at: float
    request_id: str = ""
    position: int | None = None
    state: str = WAITING
    ended_at: float = 0.0
    settled_at: float = 0.0
    run_seconds: float = 0.0
    init_seconds: float = 0.0
    attempts: int = 0
    failed: bool = False
    fails: bool = False

    @property
    def open(self) -> bool:
        return self.state in {WAITING, ANSWERED}


class Fates:
    """Those of one trigger. An event in a log is known by lane and position; one in a queue by its
    key (see `Sendable.known_by`) or its request id, until its first attempt tells its position.

    It may be run before who has sent it knows where it lies: from `begin` to `ready`, what happens
    is kept, and heard after that.
    """

    def __init__(
        self,
        name: str,
        clock: Callable[[], float],
        *,
        known_by: Callable[[Record], bytes | None] | None = None,
        reports: Callable[[], bool] = lambda: False,
    ) -> None:
        """`reports`: whether answers are read as reports of failed items."""
        self._name = name
        self._clock = clock
        self.all: list[Fate] = []
        self.known_by = known_by
        self._reports = reports
        self._reported: OrderedDict[str, frozenset[int]] = OrderedDict()
        self._keys: OrderedDict[bytes, int] = OrderedDict()
        self._left_out: OrderedDict[bytes, None] = OrderedDict()
        self._early: deque[Signal] | None = None
        self._at: dict[tuple[Lane | None, int], Fate] = {}
        self._by_key: dict[bytes, Fate] = {}
        self._by_request: dict[str, Fate] = {}

    def begin(self) -> None:
        """Something is about to be sent."""
        self._early = deque(maxlen=EARLY_MAX)

    def ready(self) -> tuple[Signal, ...]:
        """It was sent, or not; what was kept meanwhile is to be heard now."""
        early, self._early = self._early or (), None
        return tuple(early)

    def add(self, sent: Sent, *, request_id: str = "", filtered: bool = False) -> Fate:
        """It lies there."""
        fate = Fate(sent, self._clock(), request_id, sent.position)
        self.all.append(fate)
        if filtered or sent.key in self._left_out:
            fate.state, fate.settled_at = FILTERED, fate.sent_at
        elif sent.lane is not None and sent.position is not None:
            self._at[sent.lane, sent.position] = fate
        elif request_id:
            self._by_request[request_id] = fate
        elif sent.key is not None:
            self._by_key[sent.key] = fate
            if (position := self._keys.get(sent.key)) is not None:
                self._place(fate, position)
        return fate

    def count(self, state: str) -> int:
        return sum(fate.state == state for fate in self.all)

    @property
    def open(self) -> Iterator[Fate]:
        return (fate for fate in self.all if fate.open)

    # -- what happens

    def saw(self, ended: InvocationEnded, source: Source, batch: Batch) -> None:
        """Before the signal is heard: which event of a queue it is about."""
        known_by = self.known_by
        if known_by is None or ended.lane is None or ended.lane.source != self._name:
            return
        if failed := self._failed(ended.outcome, source, batch):
            self._reported[ended.request_id] = failed
            if len(self._reported) > EARLY_MAX:
                self._reported.popitem(last=False)
        for record in source.records(batch):
            if (key := known_by(record)) is None:
                continue
            self._keys[key] = record.position
            if len(self._keys) > EARLY_MAX:
                self._keys.popitem(last=False)
            if (fate := self._by_key.pop(key, None)) is not None:
                self._place(fate, record.position)

    def filtered(self, record: Record) -> Fate | None:
        """The trigger's filter leaves out what is known by its key; the event that it is."""
        if self.known_by is None or record.lane.source != self._name:
            return None
        if (key := self.known_by(record)) is None:
            return None
        if (fate := self._by_key.pop(key, None)) is not None:
            fate.state, fate.settled_at = FILTERED, self._clock()
            return fate
        self._left_out[key] = None
        if len(self._left_out) > EARLY_MAX:
            self._left_out.popitem(last=False)
        return None

    def hear(self, signal: Signal) -> list[Fate]:
        """Those of ours that it is about."""
        if not isinstance(signal, _TOLD) or signal.lane is None:
            return []
        if signal.lane.source != self._name:
            return []
        if self._early is not None:
            self._early.append(_light(signal))
            return []
        if isinstance(signal, InvocationEnded):
            return self._ended(signal, signal.lane)
        found = self._within(signal.lane, signal.first, signal.last)
        for fate in found:
            fate.fails = True
            fate.state = ASIDE if isinstance(signal, signals.BatchSetAside) else WAITING
            fate.settled_at = self._clock()
        return found

    def settle(self, settled: Callable[[Lane], int | None]) -> list[Fate]:
        """Those that turn out to be finished with, by how far their lanes are."""
        done = []
        for fate in self.all:
            lane = fate.sent.lane
            if fate.state != ANSWERED:
                continue
            reached = None if lane is None else settled(lane)
            if lane is None or (reached is not None and reached >= (fate.position or 0)):
                fate.state, fate.settled_at = SUCCEEDED, self._clock()
                done.append(fate)
        return done

    def _failed(self, outcome: Outcome, source: Source, batch: Batch) -> frozenset[int]:
        """Positions that an answer says it failed at. A queue's lane is never beyond a place, so
        that nothing else would tell before they are set aside or tried again."""
        if not isinstance(outcome, Success) or not self._reports():
            return frozenset()
        told = partial.read(outcome, batch, source.style, source.locate)
        if isinstance(told, Success):
            return frozenset()
        rest = told.rest if isinstance(told, partial.Partial) else batch
        return frozenset(record.position for record in source.records(rest))

    def _ended(self, ended: InvocationEnded, lane: Lane) -> list[Fate]:
        if (mine := self._by_request.pop(ended.request_id, None)) is not None:
            self._place(mine, ended.first)
        found = self._within(lane, ended.first, ended.last)
        report, good = ended.outcome.report, isinstance(ended.outcome, Success)
        reported = self._reported.pop(ended.request_id, frozenset())
        for fate in found:
            ok = good and fate.position not in reported
            fate.attempts = ended.attempt + 1
            fate.ended_at = self._clock()
            fate.run_seconds = report.duration_seconds
            fate.init_seconds = report.init_seconds or 0.0
            fate.failed, fate.fails = not ok, False
            fate.state = ANSWERED if ok else WAITING
        return found

    def _place(self, fate: Fate, position: int) -> None:
        fate.position = position
        self._at[None, position] = fate

    def _within(self, lane: Lane, first: int, last: int) -> list[Fate]:
        """Of a log those of the lane; of a queue whatever lane has them."""
        if last - first < len(self._at):
            keys: Any = ((each, at) for at in range(first, last + 1) for each in (lane, None))
        else:
            keys = [key for key in self._at if key[0] in {lane, None} and first <= key[1] <= last]
        found = (self._at.get(key) for key in keys)
        return [fate for fate in found if fate is not None and fate.open]


_TOLD = (
    InvocationEnded,
    signals.LaneRetrying,
    signals.BatchSplit,
    signals.BatchSetAside,
)


def _light(signal: Signal) -> Signal:
    """Without what the function answered."""
    if isinstance(signal, InvocationEnded) and isinstance(signal.outcome, Success):
        return replace(signal, outcome=replace(signal.outcome, answer=b""))
    return signal
