"""What may be forgotten: the only code that says a record is finished with."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from streamfaas.flow.batch import Batch
from streamfaas.flow.record import Instant, Lane, Run


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Everything in `lane` at or before `position` is finished with."""

    lane: Lane
    position: int


@dataclass(frozen=True, slots=True)
class Receipts:
    """Exactly these ranges of positions are finished with, or go back (a queue: no order).

    What goes back may be handed out again from `at` on; None: at once, and not counted as a
    delivery (the call was aborted or throttled)."""

    lane: Lane
    finished: tuple[tuple[int, int], ...] = ()
    released: tuple[tuple[int, int], ...] = ()
    at: Instant | None = None


Settlement: TypeAlias = Checkpoint | Receipts


class Ledger(Protocol):
    """Taken on arrival, before anything looks at the records, so that a record that nobody wants
    still moves the checkpoint."""

    def take(self, run: Run) -> None: ...
    def finish(self, batch: Batch) -> Settlement | None: ...
    def release(self, batch: Batch, at: Instant | None) -> Settlement | None: ...
    def rewind(self, position: int) -> None: ...
    @property
    def unfinished(self) -> int: ...


class LogLedger:
    """For logs: a checkpoint rises only past an unbroken stretch of finished positions."""

    __slots__ = ("_firsts", "_given", "_lane", "_lasts", "_taken")

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        # open stretches, disjoint and rising: parallel lists, so that bisect needs no key
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        self._taken = -1
        self._given = -1

    @property
    def unfinished(self) -> int:
        """How many positions hold the checkpoint back."""
        return sum(b - a + 1 for a, b in zip(self._firsts, self._lasts, strict=True))

    def take(self, run: Run) -> None:
        assert run.lane == self._lane
        assert run.first > self._taken, (run.first, self._taken)
        self._taken = run.last
        self._firsts.append(run.first)
        self._lasts.append(run.last)

    def finish(self, batch: Batch) -> Checkpoint | None:
        assert batch.lane == self._lane
        for run in batch.runs:
            self._close(run.first, run.last)
        risen = self._firsts[0] - 1 if self._firsts else self._taken
        if risen <= self._given:
            return None
        self._given = risen
        return Checkpoint(self._lane, risen)

    def release(self, batch: Batch, at: Instant | None) -> None:
        """A log cannot take a record back: it stays open and holds the checkpoint."""

    def rewind(self, position: int) -> None:
        """Everything from `position` on is not taken any more: it will be read again."""
        assert position > self._given
        while self._firsts and self._lasts[-1] >= position:
            last = self._lasts.pop()
            first = self._firsts.pop()
            if first < position:
                self._firsts.append(first)
                self._lasts.append(min(last, position - 1))
        self._taken = min(self._taken, position - 1)

    def _close(self, first: int, last: int) -> None:
        index = bisect_left(self._lasts, first)
        assert index < len(self._firsts), "finished twice, or never taken"
        start, stop = self._firsts[index], self._lasts[index]
        assert start <= first, "finished twice, or never taken"
        assert last <= stop, "finished twice, or never taken"
        if start == first and stop == last:
            del self._firsts[index], self._lasts[index]
        elif start == first:
            self._firsts[index] = last + 1
        elif stop == last:
            self._lasts[index] = first - 1
        else:
            self._lasts[index] = first - 1
            self._firsts.insert(index + 1, last + 1)
            self._lasts.insert(index + 1, stop)


class QueueLedger:
    """For queues and requests: each record is finished with on its own."""

    __slots__ = ("_lane", "_open")

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._open: set[tuple[int, int]] = set()

    @property
    def unfinished(self) -> int:
        """How many positions have neither been finished nor given back."""
        return sum(last - first + 1 for first, last in self._open)

    def take(self, run: Run) -> None:
        assert run.lane == self._lane
        assert (run.first, run.last) not in self._open
        self._open.add((run.first, run.last))

    def finish(self, batch: Batch) -> Receipts:
        return Receipts(self._lane, finished=self._close(batch))

    def release(self, batch: Batch, at: Instant | None) -> Receipts:
        return Receipts(self._lane, released=self._close(batch), at=at)

    def rewind(self, position: int) -> None:
        raise AssertionError("a queue is not read again from a position")

    def _close(self, batch: Batch) -> tuple[tuple[int, int], ...]:
        """Takes the batch out of the open ranges; a part leaves its remainder open."""
        closed = []
        for run in batch.runs:
            whole = next((f, l) for f, l in self._open if f <= run.first and run.last <= l)
            self._open.remove(whole)
            if whole[0] < run.first:
                self._open.add((whole[0], run.first - 1))
            if run.last < whole[1]:
                self._open.add((run.last + 1, whole[1]))
            closed.append((run.first, run.last))
        return tuple(closed)
