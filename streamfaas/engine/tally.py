"""What has become of the lanes of a mapping, added up: of those that are, and that were."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, Protocol

from streamfaas.engine.lane import LaneStatus
from streamfaas.engine.strand import StrandStatus
from streamfaas.flow.record import Lane
from streamfaas.sources import Spot

COUNTED = tuple(each.name for each in fields(LaneStatus) if each.name != "position")
"""Of a lane's status, what is added up."""


class Runner(Protocol):
    """A lane that is run, as far as it is counted."""

    @property
    def lane(self) -> Lane: ...
    @property
    def status(self) -> LaneStatus: ...
    def view(self) -> StrandStatus: ...


class Tally:
    """No number in it ever falls."""

    def __init__(self) -> None:
        self._done = dict.fromkeys(COUNTED, 0)  # of lanes that have been closed,
        self._checkpoints: dict[str, int] = {}  # as are these
        self._blocked: dict[str, str] = {}

    def inherit(self, other: Tally) -> None:
        """Counts on from where another has ended."""
        self._done = other._done.copy()
        self._checkpoints = other._checkpoints.copy()

    def opened(self, lane: Lane) -> None:
        self._blocked.pop(lane.name, None)

    def closed(self, runner: Runner) -> None:
        """What its lane has in hand will come again, to somebody."""
        status, name = runner.status, runner.lane.name
        status.given_back += status.in_hand
        for each in COUNTED:
            self._done[each] += getattr(status, each)
        if status.position is not None:
            self._checkpoints[name] = status.position
        if (worst := runner.view()).blocked:
            self._blocked[name] = worst.reason

    def left_blocked(self, blocked: Mapping[Lane, str]) -> None:
        """What a source that is closed has held itself, and why."""
        self._blocked |= {lane.name: why for lane, why in blocked.items()}

    def moved(self, lane: Lane, spot: Spot) -> None:
        """A lane that is closed is read on from there."""
        self._blocked.pop(lane.name, None)
        self._checkpoints.pop(lane.name, None)
        if isinstance(spot, int) and spot:
            self._checkpoints[lane.name] = spot - 1

    def view(self, runners: Iterable[Runner]) -> dict[str, Any]:
        """With the lanes that there are."""
        running = tuple(runners)
        totals = {
            name: count + sum(getattr(each.status, name) for each in running)
            for name, count in self._done.items()
        }
        stand = {each.lane.name: each.status.position for each in running}
        known = {name: position for name, position in stand.items() if position is not None}
        return totals | {
            "checkpoints": self._checkpoints | known,
            "left_blocked": self._blocked,
        }
