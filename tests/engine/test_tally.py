from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamfaas.engine.lane import LaneStatus
from streamfaas.engine.strand import StrandStatus
from streamfaas.engine.tally import COUNTED, Tally
from streamfaas.flow.record import Lane

LANE = Lane("f/t", "topic-0")


@dataclass
class Runner:
    status: LaneStatus
    lane: Lane = LANE
    standing: StrandStatus = field(default_factory=StrandStatus)

    def view(self) -> StrandStatus:
        return self.standing


@st.composite
def statuses(draw: st.DrawFn) -> LaneStatus:
    counts = {name: draw(st.integers(0, 100)) for name in COUNTED}
    status = LaneStatus(position=draw(st.none() | st.integers(0, 9)), **counts)
    status.received += max(0, -status.in_hand)  # no more than was received has become something
    return status


@pytest.mark.slow
@given(st.lists(statuses(), max_size=6), st.integers(0, 6), st.booleans())
def test_no_number_falls_when_a_lane_closes_and_nothing_of_it_is_in_hand_any_more(
    lives, closed, inherits
):
    tally, runners = Tally(), [Runner(status) for status in lives]
    for number in range(min(closed, len(lives))):
        running = runners[number:]
        before, in_hand = tally.view(running), running[0].status.in_hand
        tally.closed(running[0])
        after = tally.view(running[1:])
        given_back = {"given_back": before["given_back"] + in_hand}
        assert {name: after[name] for name in COUNTED} == {
            **{name: before[name] for name in COUNTED},
            **given_back,
        }
    if inherits:
        heir, ended = Tally(), tally.view([])
        heir.inherit(tally)
        assert heir.view([]) == {**ended, "left_blocked": {}}


def test_where_a_closed_lane_stood_is_kept_until_it_is_read_on_from_elsewhere():
    tally = Tally()
    tally.closed(Runner(LaneStatus(position=7)))
    assert tally.view([])["checkpoints"] == {"topic-0": 7}
    assert tally.view([Runner(LaneStatus(position=9))])["checkpoints"] == {"topic-0": 9}
    tally.moved(LANE, 3)
    assert tally.view([])["checkpoints"] == {"topic-0": 2}
    tally.moved(LANE, 0)
    assert tally.view([])["checkpoints"] == {}


def test_a_lane_that_was_left_blocked_is_so_until_it_opens_or_is_read_on_from_elsewhere():
    blocked = StrandStatus(blocked=True, reason="it fails")
    for heal in (Tally.opened, lambda tally, lane: tally.moved(lane, 0)):
        tally = Tally()
        tally.closed(Runner(LaneStatus(), standing=blocked))
        tally.left_blocked({Lane("f/t", "topic-1"): "a range is lost"})
        both = {"topic-0": "it fails", "topic-1": "a range is lost"}
        assert tally.view([])["left_blocked"] == both
        heal(tally, LANE)
        assert tally.view([])["left_blocked"] == {"topic-1": "a range is lost"}
