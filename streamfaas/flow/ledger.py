"""What may be forgotten: the only code that says a record is finished with."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, TypeAlias

from streamfaas.flow.batch import Batch
from streamfaas.flow.record import Instant, Lane, Run
from streamfaas.flow.value import value


@value
class Checkpoint:
    """Everything in `lane` at or before `position` is finished with."""

    lane: Lane
    position: int


@dataclass(frozen=True, slots=True)
class Receipts:
    """Exactly these ranges of positions are finished with, or go back (a queue: no order).

    What goes back may be handed out again from `at` on (None: at once), and has been delivered
    once more if `counted` (not so where the call was aborted or throttled); `reason` says why."""

    lane: Lane
    finished: tuple[tuple[int, int], ...] = ()
    released: tuple[tuple[int, int], ...] = ()
    at: Instant | None = None
    counted: bool = True
    reason: str = field(default="", compare=False)  # for people


Settlement: TypeAlias = Checkpoint | Receipts


class Ledger(Protocol):
    """Taken on arrival, before anything looks at the records, so that a record that nobody wants
    still moves the checkpoint."""

    ordered: ClassVar[bool]
    """Whether positions are a lane's own and rise (logs), or those of the whole mapping."""

    def take(self, run: Run) -> None: ...
    def finish(self, batch: Batch) -> Settlement | None: ...
    def release(
        self, batch: Batch, at: Instant | None, *, counted: bool, reason: str = ""
    ) -> Settlement | None: ...
    def rewind(self, position: int) -> None: ...
    @property
    def unfinished(self) -> int: ...
    @property
    def span(self) -> int: ...


class LogLedger:
    """For logs: a checkpoint rises only past an unbroken stretch of finished positions.

    Positions between the runs of a log hold no records, so what is not taken holds nothing back.
    """

    ordered: ClassVar[bool] = True

    __slots__ = ("_given", "_lane", "_open", "_taken")

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._open = _Stretches()
        self._taken = -1  # everything up to here has been taken, or was a gap
        self._given = -1  # the last checkpoint

    @property
    def unfinished(self) -> int:
        """How many positions hold the checkpoint back."""
        return self._open.positions

    @property
    def span(self) -> int:
        """How far the newest position taken is ahead of the oldest that is unfinished."""
        lowest = self._open.lowest
        return 0 if lowest is None else self._taken - lowest + 1

    def take(self, run: Run) -> None:
        assert run.lane == self._lane
        assert run.first > self._taken, (run.first, self._taken)
        if self._taken < 0:  # where reading begins there is nothing yet to tell of
            self._given = run.first - 1
        self._taken = run.last
        self._open.add(run.first, run.last)

    def finish(self, batch: Batch) -> Checkpoint | None:
        assert batch.lane == self._lane
        for run in batch.runs:
            self._open.remove(run.first, run.last)
        lowest = self._open.lowest
        risen = self._taken if lowest is None else lowest - 1
        if risen <= self._given:
            return None
        self._given = risen
        return Checkpoint(self._lane, risen)

    def release(self, batch: Batch, at: Instant | None, *, counted: bool, reason: str = "") -> None:
        """A log cannot take a record back: it stays open and holds the checkpoint."""

    def rewind(self, position: int) -> None:
        """Everything from `position` on is not taken any more: it will be read again."""
        assert position > self._given
        self._open.truncate(position)
        self._taken = min(self._taken, position - 1)


class QueueLedger:
    """For queues and requests: each record is finished with on its own."""

    ordered: ClassVar[bool] = False

    __slots__ = ("_lane", "_open")

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._open = _Stretches()

    @property
    def unfinished(self) -> int:
        """How many positions have neither been finished nor given back."""
        return self._open.positions

    @property
    def span(self) -> int:
        return self._open.positions

    def take(self, run: Run) -> None:
        assert run.lane == self._lane
        self._open.add(run.first, run.last)

    def finish(self, batch: Batch) -> Receipts:
        return Receipts(self._lane, finished=self._close(batch))

    def release(
        self, batch: Batch, at: Instant | None, *, counted: bool, reason: str = ""
    ) -> Receipts:
        back = self._close(batch)
        return Receipts(self._lane, released=back, at=at, counted=counted, reason=reason)

    def rewind(self, position: int) -> None:
        raise AssertionError("a queue is not read again from a position")

    def _close(self, batch: Batch) -> tuple[tuple[int, int], ...]:
        assert batch.lane == self._lane
        for run in batch.runs:
            self._open.remove(run.first, run.last)
        return tuple((run.first, run.last) for run in batch.runs)


class _Stretches:
    """Stretches of positions, disjoint and rising: parallel lists, so that bisect needs no key."""

    __slots__ = ("_firsts", "_lasts", "positions")

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        self.positions = 0

    @property
    def lowest(self) -> int | None:
        return self._firsts[0] if self._firsts else None

    def add(self, first: int, last: int) -> None:
        index = bisect_left(self._lasts, first)
        assert index == len(self._firsts) or last < self._firsts[index], "taken twice"
        self._firsts.insert(index, first)
        self._lasts.insert(index, last)
        self.positions += last - first + 1

    def remove(self, first: int, last: int) -> None:
        """Takes out a stretch that lies within one of these; what is left of that one stays."""
        index = bisect_left(self._lasts, first)
        assert index < len(self._firsts), "finished twice, or never taken"
        start, stop = self._firsts[index], self._lasts[index]
        assert start <= first <= last <= stop, "finished twice, or never taken"
        self.positions -= last - first + 1
        if start == first and last == stop:
            del self._firsts[index], self._lasts[index]
        elif start == first:
            self._firsts[index] = last + 1
        elif last == stop:
            self._lasts[index] = first - 1
        else:
            self._firsts.insert(index + 1, last + 1)
            self._lasts.insert(index, first - 1)

    def truncate(self, position: int) -> None:
        """Takes out everything from `position` on."""
        while self._lasts and self._lasts[-1] >= position:
            first, last = self._firsts.pop(), self._lasts.pop()
            self.positions -= last - first + 1
            if first < position:
                self.add(first, position - 1)
