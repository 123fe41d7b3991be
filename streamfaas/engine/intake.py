"""Which lanes of a mapping may read more: those that have room, within a budget that they share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from streamfaas.flow.record import Lane

HELD_BYTES_MAX = 64 * 1024 * 1024
"""What the lanes of one mapping may hold together, beyond the first run of each."""


class Holder(Protocol):
    """A lane that is run, as far as its intake goes."""

    @property
    def lane(self) -> Lane: ...
    @property
    def closing(self) -> bool: ...
    @property
    def full(self) -> bool: ...
    @property
    def held_bytes(self) -> int: ...


class Intake:
    """`ready` is what a source goes by, a live collection: `wake` tells it that there is more."""

    def __init__(
        self, lanes: Mapping[Lane, Holder], wake: Callable[[], None], *, is_shut: bool
    ) -> None:
        self.ready: set[Lane] = set()
        self._full: set[Lane] = set()
        self._lanes = lanes
        self._wake = wake
        self._is_shut = is_shut
        self._most_bytes = 0  # that lanes may hold: what has come since it was added up only goes

    def shut(self) -> None:
        """Nothing more is to be read, of any lane, until `reopen`."""
        self._is_shut = True
        self._full |= self.ready
        self.ready.clear()

    def reopen(self) -> None:
        self._is_shut = False
        for lane in list(self._full):
            self.has_room(lane)

    def begin(self, runner: Holder) -> None:
        """A lane is ready to run."""
        if not runner.closing:
            (self._full if runner.full or self._is_shut else self.ready).add(runner.lane)
            self._wake()

    def forget(self, lane: Lane) -> None:
        self.ready.discard(lane)
        self._full.discard(lane)

    def weigh(self, runner: Holder, size_bytes: int) -> None:
        """So much has come for a lane: it may have enough, or all of them together."""
        self._most_bytes += size_bytes
        if runner.full or (runner.held_bytes and not self._within):
            self.ready.discard(runner.lane)
            self._full.add(runner.lane)

    def has_room(self, lane: Lane) -> None:
        """A lane has taken a batch out: it, and whoever waited for the common budget, may read."""
        if self._is_shut or not self._full:
            return
        within = self._within
        changed = False
        for name in list(self._full) if within else [lane]:
            runner = self._lanes.get(name)
            if runner is not None and not runner.full and (within or not runner.held_bytes):
                self._full.discard(name)
                self.ready.add(name)
                changed = True
        if changed:
            self._wake()

    @property
    def _within(self) -> bool:
        """Added up where it might not be so: it is asked for each run, and lanes may be many."""
        if self._most_bytes > HELD_BYTES_MAX:
            self._most_bytes = sum(runner.held_bytes for runner in self._lanes.values())
        return self._most_bytes <= HELD_BYTES_MAX
