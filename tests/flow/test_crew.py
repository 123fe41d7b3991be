"""Definitions of functions that come and go while their workers are about."""

from __future__ import annotations

import pytest

from roster_model import ROOMY, Pool, settled
from streamfaas.flow.admission import Share


def anew(pool: Pool, **shares) -> Pool:
    """All functions get these shares, and other workers."""
    pool.propose(pool.limit, pool.memory, shares, sorted(shares))
    return pool


def test_who_is_busy_finishes_and_leaves_and_who_waits_goes_to_the_new_in_order():
    pool = settled(Pool(10, ROOMY, {"a": Share(maximum=1, warm=1)}))
    old = pool.call("a")
    second, third = pool.ask("a"), pool.ask("a")

    anew(pool, a=Share(maximum=1)).replace()
    settled(pool)

    assert pool.states[old] == "busy"
    assert pool.waiting["a"] == [second, third], "never more at once than the maximum"
    pool.freed(old)
    assert pool.states[old] == "draining"
    assert pool.definition[pool.served[second]] == 1
    pool.freed(pool.served[second])
    assert pool.served[third] in pool.of("a", "busy")


def test_who_is_idle_or_starting_leaves_at_once_and_the_new_ones_are_there():
    pool = settled(Pool(10, ROOMY, {"a": Share(warm=2)}))
    pool.call("a")
    old = set(pool.states)
    anew(pool, a=Share(warm=1))
    assert pool.begin("a")
    settled(pool)
    assert not pool.of("a", "starting")

    pool.replace()

    assert sorted(pool.states[w] for w in old) == ["busy", "draining"]
    assert pool.call("a") not in old


def test_what_was_proposed_and_is_taken_back_leaves_and_nothing_has_changed():
    pool = settled(Pool(10, ROOMY, {"a": Share(warm=1)}))
    (mine,) = pool.of("a", "idle")
    anew(pool, a=Share(), b=Share(warm=1))
    assert pool.begin("a")
    assert pool.begin("b")

    pool.take_back()
    settled(pool)

    assert set(pool.states) == {mine}
    assert pool.call("a") == mine
    with pytest.raises(KeyError):
        pool.roster.claim("b")


def test_another_share_alone_keeps_the_workers():
    pool = settled(Pool(10, ROOMY, {"a": Share(maximum=1, warm=1)}))
    before = set(pool.states)
    pool.call("a")
    pool.propose(10, ROOMY, {"a": Share(maximum=2, warm=1)}, [])
    pool.ask("a")

    pool.replace()
    settled(pool)

    assert before <= set(pool.states)
    assert len(pool.of("a", "busy")) == 2


def test_a_function_that_is_left_out_runs_to_its_end_within_the_limit():
    pool = settled(Pool(1, ROOMY, {"a": Share(warm=1)}))
    old = pool.call("a")
    anew(pool, b=Share(warm=1)).replace()
    ticket = pool.ask("b")
    settled(pool)
    assert ticket not in pool.served, "the limit is for all, whoever they were"

    pool.freed(old)
    pool.plan()

    assert ticket in pool.served


def test_new_workers_take_no_memory_that_old_ones_have():
    pool = settled(Pool(10, 2, {"a": Share(warm=1, memory_bytes=1)}))
    assert pool.call("a") is not None
    pool.plan()
    settled(pool)
    anew(pool, a=Share(warm=2, memory_bytes=1))

    assert not pool.begin("a"), "a spare has the rest"
    pool.replace()
    settled(pool)

    assert len(pool.of("a", "idle")) == 1
    assert pool.busy("a") == 1


def test_only_one_change_is_made_ready_at_a_time():
    pool = anew(Pool(10, ROOMY, {"a": Share()}), a=Share())
    with pytest.raises(AssertionError):
        pool.roster.propose({})


def test_a_function_that_needs_other_memory_needs_other_workers():
    pool = Pool(10, ROOMY, {"a": Share(memory_bytes=1)})
    with pytest.raises(AssertionError):
        pool.roster.replace(10, ROOMY, {"a": Share(memory_bytes=2)})
