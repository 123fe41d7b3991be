"""The lanes of a queue: each has one thing in hand at a time, until that is settled."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from typing import Generic, Protocol, TypeVar

from streamfaas.flow.ledger import Receipts
from streamfaas.flow.record import Lane


class Numbered(Protocol):
    """What a queue hands out: its number is its position in the lane that it is given to."""

    @property
    def number(self) -> int: ...


T = TypeVar("T", bound=Numbered)


class Slots(Generic[T]):
    """So many lanes are opened, one after the other, and stay. Those that are idle take turns."""

    def __init__(self, source: str, count: int) -> None:
        self.lanes = tuple(Lane(source, f"slot-{number}") for number in range(count))
        self._unopened = deque(self.lanes)
        self._idle = dict.fromkeys(self.lanes)  # a set that keeps its order
        self._in_hand: dict[Lane, T] = {}

    def unopened(self) -> Lane | None:
        """The next lane to be opened."""
        return self._unopened.popleft() if self._unopened else None

    def idle(self, ready: Collection[Lane]) -> Lane | None:
        """A lane that may take something: of those that are ready, the one that has rested
        longest."""
        return next((lane for lane in self._idle if lane in ready), None)

    def take(self, lane: Lane, thing: T) -> None:
        """The lane has it in hand from here on."""
        del self._idle[lane]
        self._in_hand[lane] = thing

    def settled(self, receipts: Receipts) -> T | None:
        """What of the lane's these are for; None where it is nothing that it has in hand."""
        thing = self._in_hand.get(receipts.lane)
        if thing is None:
            return None
        place = (thing.number, thing.number)
        return thing if place in receipts.finished + receipts.released else None

    def rest(self, lane: Lane) -> T | None:
        """The lane has nothing in hand any more; what it had."""
        thing = self._in_hand.pop(lane, None)
        self._idle[lane] = None
        return thing

    @property
    def in_hand(self) -> set[int]:
        """The numbers of it."""
        return {thing.number for thing in self._in_hand.values()}

    def shares(self, unfinished: int) -> Iterator[tuple[Lane, T | None, int]]:
        """Each lane with what it has in hand, and how much that is with its share of what waits."""
        each, rest = divmod(max(0, unfinished - len(self._in_hand)), len(self.lanes))
        for number, lane in enumerate(self.lanes):
            thing = self._in_hand.get(lane)
            yield lane, thing, each + (number < rest) + (thing is not None)
