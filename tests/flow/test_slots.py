from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from streamfaas.flow.ledger import Receipts
from streamfaas.flow.record import Lane
from streamfaas.flow.slots import Slots


@dataclass(frozen=True)
class Event:
    number: int


class Hands(RuleBasedStateMachine):
    """Lanes that take and settle what a queue hands out, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0
        self.held: dict[Lane, Event] = {}

    @initialize(count=st.integers(1, 5))
    def make(self, count: int) -> None:
        self.slots = Slots[Event]("f/t", count)
        self.rested = list(self.slots.lanes)
        assert [self.slots.unopened() for _ in range(count + 1)] == [*self.slots.lanes, None]

    @rule(data=st.data())
    def take(self, data: st.DataObject) -> None:
        ready = data.draw(st.sets(st.sampled_from(self.slots.lanes)))
        lane = self.slots.idle(ready)
        assert lane == next((each for each in self.rested if each in ready), None)
        if lane is not None:
            self.number += 1
            self.rested.remove(lane)
            self.held[lane] = Event(self.number)
            self.slots.take(lane, self.held[lane])

    @rule(data=st.data(), finished=st.booleans(), of_another=st.booleans())
    def settle(self, data: st.DataObject, finished: bool, of_another: bool) -> None:
        lane = data.draw(st.sampled_from(self.slots.lanes))
        held = self.held.get(lane)
        number = self.number + 1 if of_another or held is None else held.number
        place = ((number, number),)
        receipts = Receipts(lane, finished=place) if finished else Receipts(lane, released=place)
        settled = self.slots.settled(receipts)
        assert settled == (None if of_another else held)
        if settled is not None:
            self.rest(lane)

    @rule(data=st.data())
    def let_go(self, data: st.DataObject) -> None:
        self.rest(data.draw(st.sampled_from(self.slots.lanes)))

    def rest(self, lane: Lane) -> None:
        assert self.slots.rest(lane) == self.held.pop(lane, None)
        if lane not in self.rested:
            self.rested.append(lane)

    @invariant()
    def all_that_is_unfinished_has_its_share(self) -> None:
        waiting = 7
        shares = list(self.slots.shares(waiting + len(self.held)))
        assert [lane for lane, _, _ in shares] == list(self.slots.lanes)
        assert {lane: event for lane, event, _ in shares if event} == self.held
        assert sum(lag for _, _, lag in shares) == waiting + len(self.held)
        assert all(lag >= (event is not None) for _, event, lag in shares)
        assert self.slots.in_hand == {event.number for event in self.held.values()}


Hands.TestCase.settings = settings(max_examples=40, stateful_step_count=25)
TestHands = pytest.mark.slow(Hands.TestCase)
