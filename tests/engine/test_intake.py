from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from streamfaas.engine.intake import HELD_BYTES_MAX, Intake
from streamfaas.flow.record import Lane

LANES = [Lane("f/t", f"topic-{number}") for number in range(4)]
SIZES = st.sampled_from([0, 1, HELD_BYTES_MAX // 2, HELD_BYTES_MAX, HELD_BYTES_MAX + 1])


@dataclass
class Holds:
    """A lane that holds so much."""

    lane: Lane
    held_bytes: int = 0
    full: bool = False
    closing: bool = False


class Reading(RuleBasedStateMachine):
    """Lanes that open, fill, empty and close, over an intake that may be shut."""

    def __init__(self) -> None:
        super().__init__()
        self.lanes: dict[Lane, Holds] = {}
        self.woken = 0

    @initialize(is_shut=st.booleans())
    def make(self, is_shut: bool) -> None:
        self.is_shut = is_shut
        self.intake = Intake(self.lanes, self.wake, is_shut=is_shut)
        self.ready = self.intake.ready
        for lane in LANES[:2]:
            self.open(lane, full=False, closing=False)

    def wake(self) -> None:
        self.woken += 1

    @property
    def within(self) -> bool:
        return sum(each.held_bytes for each in self.lanes.values()) <= HELD_BYTES_MAX

    @rule(lane=st.sampled_from(LANES), full=st.booleans(), closing=st.booleans())
    def open(self, lane: Lane, full: bool, closing: bool) -> None:
        if lane not in self.lanes:
            opened = Holds(lane, full=full, closing=closing)
            if not closing:
                self.lanes[lane] = opened
            self.intake.begin(opened)
            assert (lane in self.ready) == (not full and not closing and not self.is_shut)

    @precondition(lambda self: self.ready)
    @rule(data=st.data(), size=SIZES, full=st.booleans())
    def arrive(self, data: st.DataObject, size: int, full: bool) -> None:
        holds = self.lanes[data.draw(st.sampled_from(sorted(self.ready)))]
        holds.held_bytes, holds.full = holds.held_bytes + size, full
        self.intake.weigh(holds, size)
        assert (holds.lane in self.ready) == (not full and (self.within or not holds.held_bytes))

    @precondition(lambda self: self.lanes)
    @rule(data=st.data(), full=st.booleans())
    def take_out(self, data: st.DataObject, full: bool) -> None:
        holds = self.lanes[data.draw(st.sampled_from(sorted(self.lanes)))]
        holds.held_bytes = data.draw(SIZES.filter(lambda left: left <= holds.held_bytes))
        holds.full = full and holds.full
        woken, before = self.woken, set(self.ready)
        self.intake.has_room(holds.lane)
        assert self.woken == woken + (self.ready != before)
        if not self.is_shut and not holds.full and not holds.held_bytes:
            assert holds.lane in self.ready, "an empty lane waits for nobody"
        if not self.is_shut and self.within:
            waits = self.lanes.keys() - self.ready
            assert all(self.lanes[each].full for each in waits), "there is room for it"

    @rule(lane=st.sampled_from(LANES))
    def close(self, lane: Lane) -> None:
        self.lanes.pop(lane, None)
        self.intake.forget(lane)

    @rule()
    def shut(self) -> None:
        self.is_shut = True
        self.intake.shut()

    @rule()
    def reopen(self) -> None:
        self.is_shut = False
        self.intake.reopen()

    @invariant()
    def only_lanes_that_are_open_are_read_and_none_while_it_is_shut(self) -> None:
        assert self.ready is self.intake.ready, "whoever reads goes by this very set"
        assert self.ready <= self.lanes.keys()
        assert not (self.is_shut and self.ready)


Reading.TestCase.settings = settings(max_examples=40, stateful_step_count=25)
TestReading = pytest.mark.slow(Reading.TestCase)
