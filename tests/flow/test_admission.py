from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamfaas.flow.admission import Admission, Share

NAMES = ("a", "b", "c")


@st.composite
def limits(draw, least=3):
    shares = {}
    for name in sorted(draw(st.sets(st.sampled_from(NAMES), min_size=least))):
        reserved = draw(st.integers(0, 3))
        maximum = draw(st.none() | st.integers(max(1, reserved), 6))
        shares[name] = Share(maximum, reserved)
    reserved = sum(share.reserved for share in shares.values())
    least = 0 if all(share.reserved for share in shares.values()) else 1
    return draw(st.integers(reserved + least, reserved + 5)), shares


def has_room(limit, shares, busy, name) -> bool:
    """The rule, told from the beginning: everybody's reserve stays free for them alone; and where
    others are still in it, who were there before, the limit holds all the same."""
    share = shares[name]
    if busy[name] >= (limit if share.maximum is None else share.maximum):
        return False
    if busy[name] < share.reserved:
        return sum(busy.values()) < limit
    kept = sum(max(0, shares[o].reserved - busy[o]) for o in NAMES if o != name)
    return sum(busy.values()) + kept < limit


@settings(max_examples=300)
@given(limits(), st.lists(st.tuples(st.sampled_from(NAMES), st.booleans()), max_size=60))
def test_nobody_is_over_a_share_or_kept_from_a_reserve_and_no_slot_leaks(made, steps):
    limit, shares = made
    admission = Admission(limit, shares)
    busy = dict.fromkeys(NAMES, 0)
    for name, enters in steps:
        if enters:
            room = has_room(limit, shares, busy, name)
            assert admission.room(name) == room
            assert admission.admit(name) == room
            busy[name] += room
        elif busy[name]:
            admission.leave(name)
            busy[name] -= 1
        assert {n: admission.busy(n) for n in NAMES} == busy
        assert sum(busy.values()) <= limit
        for n, share in shares.items():
            assert share.maximum is None or busy[n] <= share.maximum
            assert admission.free(n) >= min(share.reserved, share.maximum or limit) - busy[n]
            assert admission.free(n) == could_enter(limit, shares, busy, n)
    for name in NAMES:
        for _ in range(busy[name]):
            admission.leave(name)
    reserved = sum(share.reserved for share in shares.values())
    assert admission.common_free == limit - reserved
    assert all(admission.busy(name) == 0 for name in NAMES)


def could_enter(limit, shares, busy, name) -> int:
    tried = dict(busy)
    while has_room(limit, shares, tried, name):
        tried[name] += 1
    return tried[name] - busy[name]


def test_what_is_reserved_stays_free_while_others_press():
    admission = Admission(3, {"a": Share(), "b": Share(reserved=1)})

    assert [admission.admit("a") for _ in range(3)] == [True, True, False]
    assert admission.admit("b")
    assert not admission.admit("b")


def test_a_ceiling_holds_though_there_is_room():
    admission = Admission(10, {"a": Share(maximum=1)})
    admission.enter("a")

    assert not admission.room("a")
    with pytest.raises(AssertionError):
        admission.enter("a")


def test_leaving_without_having_entered_is_refused():
    with pytest.raises(AssertionError):
        Admission(1, {"a": Share()}).leave("a")


def test_more_reserved_than_there_is_is_refused():
    with pytest.raises(AssertionError):
        Admission(3, {"a": Share(reserved=2), "b": Share(reserved=2)})


def test_a_limit_that_leaves_nothing_for_a_function_is_refused():
    with pytest.raises(AssertionError):
        Admission(2, {"a": Share(reserved=2), "b": Share()})


@pytest.mark.parametrize(
    "wrong",
    [
        {"maximum": 0},
        {"maximum": 2, "reserved": 3},
        {"maximum": 2, "warm": 3},
        {"reserved": -1},
        {"warm": -1},
        {"memory_bytes": 0},
    ],
)
def test_a_share_that_contradicts_itself_is_refused(wrong):
    with pytest.raises(AssertionError):
        Share(**wrong)


@settings(max_examples=300)
@given(st.data())
def test_shares_may_be_replaced_at_any_time_and_what_is_in_flight_counts(data):
    limit, shares = data.draw(limits(least=1))
    admission = Admission(limit, shares)
    busy = dict.fromkeys(NAMES, 0)
    for _ in range(data.draw(st.integers(0, 40))):
        step = data.draw(st.sampled_from(("enter", "enter", "enter", "leave", "replace")))
        name = data.draw(st.sampled_from(NAMES))
        if step == "replace":
            limit, shares = data.draw(limits(least=1))
            admission.replace(limit, shares)
        elif step == "leave" and busy[name]:
            admission.leave(name)
            busy[name] -= 1
        elif step == "enter" and name in shares:
            everybody = {n: shares.get(n, Share(1)) for n in NAMES}
            room = has_room(limit, everybody, busy, name)
            assert admission.room(name) == room
            assert admission.free(name) == could_enter(limit, everybody, busy, name)
            assert admission.admit(name) == room
            busy[name] += room
        assert {n: admission.busy(n) for n in shares} == {n: busy[n] for n in shares}
        assert admission.strained == strained(limit, shares, busy)


def strained(limit, shares, busy) -> bool:
    """More is in flight than the shares would have let in."""
    over = any(
        busy[n] > (limit if s.maximum is None else s.maximum) for n, s in shares.items()
    ) or any(busy[n] for n in NAMES if n not in shares)
    reserved = sum(share.reserved for share in shares.values())
    beyond = sum(max(0, busy[n] - (shares[n].reserved if n in shares else 0)) for n in NAMES)
    return over or beyond > limit - reserved


def test_a_reserve_that_is_new_is_not_used_by_those_who_were_there_before():
    admission = Admission(2, {"a": Share()})
    admission.enter("a")
    admission.enter("a")
    admission.replace(2, {"a": Share(), "b": Share(reserved=1)})

    assert not admission.admit("b"), "the limit holds"
    admission.leave("a")
    assert not admission.admit("a"), "it is kept"
    assert admission.admit("b")
    assert not admission.strained
