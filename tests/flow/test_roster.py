from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from roster_model import NAMES, ROOMY, Pool, settled
from streamfaas.flow.admission import Share
from streamfaas.flow.record import Instant
from streamfaas.flow.roster import IDLE_SECONDS, STARVED_SECONDS, Roster
from streamfaas.testing.clock import ManualClock

EVENT_COUNT_MAX = 2_000
"""More than any simulated pool here needs to come to rest."""


@st.composite
def layouts(draw):
    """A limit, a bound of memory, and functions with their shares."""
    shares = {}
    for name in draw(st.sets(st.sampled_from(NAMES), min_size=1).map(sorted)):
        reserved, warm = draw(st.integers(0, 1)), draw(st.integers(0, 2))
        maximum = draw(st.none() | st.integers(max(1, reserved, warm), 3))
        shares[name] = Share(maximum, reserved, warm, draw(st.integers(1, 4)))
    reserved = sum(share.reserved for share in shares.values())
    least = 0 if all(share.reserved for share in shares.values()) else 1
    largest = max(share.memory_bytes for share in shares.values())
    limit = draw(st.integers(reserved + least, reserved + 3))
    return limit, draw(st.integers(largest, largest + 12)), shares


pools = st.builds(lambda layout, spare: Pool(*layout, spare=spare), layouts(), st.booleans())


class Machine(RuleBasedStateMachine):
    """Starts that succeed and fail, ends in any state, owners that go away, functions that are
    defined anew, and time."""

    @initialize(pool=pools)
    def open(self, pool):
        self.pool = pool

    def any_of(self, data, *states):
        return data.draw(st.sampled_from(sorted(self.all_of(*states))))

    def all_of(self, *states):
        return [w for w, state in self.pool.states.items() if state in states]

    @rule(data=st.data())
    def call(self, data):
        self.pool.call(data.draw(st.sampled_from(sorted(self.pool.shares))))

    @rule(data=st.data(), count=st.integers(1, 4))
    def ask(self, data, count):
        for _ in range(count):
            self.pool.ask(data.draw(st.sampled_from(sorted(self.pool.shares))))

    @precondition(lambda self: any(self.pool.waiting.values()))
    @rule(data=st.data())
    def withdraw(self, data):
        self.pool.withdraw(
            data.draw(st.sampled_from([n for n, held in self.pool.waiting.items() if held]))
        )

    @precondition(lambda self: self.all_of("starting"))
    @rule(data=st.data())
    def started(self, data):
        self.pool.started(self.any_of(data, "starting"))

    @precondition(lambda self: self.all_of("starting"))
    @rule(data=st.data())
    def start_failed(self, data):
        self.pool.start_failed(self.any_of(data, "starting"))

    @precondition(lambda self: self.all_of("busy"))
    @rule(data=st.data())
    def freed(self, data):
        self.pool.freed(self.any_of(data, "busy"))

    @precondition(lambda self: self.all_of("busy"))
    @rule(data=st.data())
    def done(self, data):
        self.pool.done(self.any_of(data, "busy"))

    @precondition(lambda self: self.pool.states)
    @rule(data=st.data())
    def exited(self, data):
        self.pool.exited(self.any_of(data, "starting", "idle", "busy", "draining"))

    @precondition(lambda self: self.all_of("draining"))
    @rule(data=st.data())
    def left(self, data):
        self.pool.exited(self.any_of(data, "draining"))

    @precondition(lambda self: self.pool.coming is None)
    @rule(layout=layouts(), data=st.data())
    def propose(self, layout, data):
        limit, memory, shares = layout
        now = self.pool.shares
        must = {
            name
            for name, share in shares.items()
            if name not in now or now[name].memory_bytes != share.memory_bytes
        }
        may = data.draw(st.sets(st.sampled_from(sorted(shares))))
        self.pool.propose(limit, memory, shares, sorted(must | may))

    @precondition(lambda self: self.pool.coming is not None and self.pool.coming[3])
    @rule(data=st.data())
    def begin(self, data):
        self.pool.begin(data.draw(st.sampled_from(self.pool.coming[3])))

    @precondition(lambda self: self.pool.coming is not None)
    @rule()
    def take_back(self):
        self.pool.take_back()

    @precondition(lambda self: self.pool.coming is not None)
    @rule()
    def replace(self):
        self.pool.replace()

    @rule()
    def look(self):
        self.pool.plan()

    @rule(seconds=st.sampled_from([0.3, 1.0, 5.0, IDLE_SECONDS]))
    def advance(self, seconds):
        self.pool.advance(seconds)

    @precondition(lambda self: self.pool.wake is not None)
    @rule()
    def advance_to_the_wake(self):
        self.pool.advance(self.pool.wake - self.pool.clock())

    @invariant()
    def holds(self):
        if hasattr(self, "pool"):
            self.pool.check()

    def teardown(self):
        if hasattr(self, "pool"):
            come_to_rest(self.pool)


def come_to_rest(pool: Pool) -> None:
    """From any state, where starts succeed: all is served, all is given back."""
    if pool.coming is not None:
        pool.take_back()
    asked = {ticket for tickets in pool.waiting.values() for ticket in tickets}
    for _ in range(EVENT_COUNT_MAX):
        if not step(pool):
            break
    assert asked <= pool.served.keys(), "a ticket was never served"
    assert not any(pool.waiting.values())
    assert pool.wake is None, "nothing is left to wake for"
    assert set(pool.states.values()) <= {"idle"}
    for name, share in pool.shares.items():
        alive = len(pool.alive(name))
        assert alive <= share.warm, "an idle worker was never stopped"
        assert alive == share.warm or pool.memory_free < share.memory_bytes
    assert pool.roster.admission.common_free == pool.limit - sum(
        share.reserved for share in pool.shares.values()
    )
    shut_down(pool)


def step(pool: Pool) -> bool:
    """The next thing that happens in a world where all goes well, if anything does."""
    for event, state in (
        (pool.exited, "draining"),
        (pool.started, "starting"),
        (pool.freed, "busy"),
    ):
        if ready := [w for w, s in pool.states.items() if s == state]:
            event(ready[0])
            return True
    if pool.wake is None:
        return False
    pool.advance(pool.wake - pool.clock())
    return True


def shut_down(pool: Pool) -> None:
    for worker in list(pool.states):
        pool.states.pop(worker)
        pool.roster.exited(worker, pool.clock())
    assert pool.roster._memory_free == pool.memory
    assert pool.roster._memory_coming == 0


Machine.TestCase.settings = settings(
    max_examples=250,
    stateful_step_count=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestMachine = pytest.mark.slow(Machine.TestCase)


# -- named examples


def test_a_first_call_starts_a_worker_and_a_spare():
    pool = Pool(10, ROOMY, {"a": Share()})
    ticket = pool.ask("a")
    assert len(pool.of("a", "starting")) == 2

    settled(pool)

    assert pool.served[ticket] in pool.of("a", "busy")
    assert len(pool.of("a", "idle")) == 1


def test_without_a_spare_there_are_as_many_workers_as_calls():
    pool = Pool(10, ROOMY, {"a": Share()}, spare=False)
    pool.ask("a")
    pool.ask("a")

    assert len(pool.of("a", "starting")) == 2


def test_the_warm_minimum_is_started_before_anybody_asks_and_replaced_when_it_dies():
    pool = settled(Pool(10, ROOMY, {"a": Share(warm=2), "b": Share()}))
    assert len(pool.of("a", "idle")) == 2
    assert not pool.of("b")

    first = pool.call("a")
    pool.freed(first)
    pool.exited(first)

    assert len(pool.of("a", "starting")) == 1


def test_the_worker_used_last_is_used_again():
    pool = settled(Pool(10, ROOMY, {"a": Share(warm=2)}))
    first, second = pool.call("a"), pool.call("a")
    pool.freed(second)
    pool.freed(first)

    assert pool.call("a") == first


def test_a_crash_at_work_costs_no_start():
    pool = settled(Pool(10, ROOMY, {"a": Share()}))
    pool.ask("a")
    settled(pool)
    (busy,) = pool.of("a", "busy")

    pool.exited(busy)

    assert pool.call("a") is not None, "the spare was there"
    pool.plan()
    assert pool.of("a", "starting"), "and another is coming"


def test_a_function_never_has_more_calls_than_its_maximum_nor_more_than_a_spare_beside():
    pool = Pool(10, ROOMY, {"a": Share(maximum=2)})
    for _ in range(5):
        pool.ask("a")
    settled(pool)

    assert len(pool.of("a", "busy")) == 2
    assert len(pool.of("a", "idle")) == 1
    assert len(pool.waiting["a"]) == 3


def test_failed_starts_wait_longer_each_time_and_go_one_at_a_time():
    pool = Pool(10, ROOMY, {"a": Share()}, spare=False)
    pool.ask("a")
    pauses = []
    for _ in range(8):
        (only,) = pool.of("a", "starting")
        pool.start_failed(only)
        failed_at = pool.clock()
        pool.ask("a")
        while not pool.of("a"):
            pool.advance(pool.wake - pool.clock())
        pauses.append(pool.clock() - failed_at)

    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    pool.started(*pool.of("a", "starting"))
    assert len(pool.of("a", "starting")) == 8, "one has succeeded: now all who wait"


def test_a_worker_that_dies_before_it_was_ever_used_is_not_replaced_at_once():
    pool = settled(Pool(10, ROOMY, {"a": Share(warm=1)}))
    (fresh,) = pool.of("a", "idle")

    pool.exited(fresh)

    assert not pool.of("a")
    assert pool.wake == pool.clock() + 1
    pool.advance(1)
    assert pool.of("a", "starting")


def test_a_start_that_ends_by_an_exit_counts_as_failed():
    pool = Pool(10, ROOMY, {"a": Share(warm=1)})
    (starting,) = pool.of("a", "starting")

    pool.exited(starting)

    assert not pool.of("a")
    assert pool.wake == pool.clock() + 1


def test_an_idle_worker_is_stopped_after_a_minute_and_the_warm_one_is_kept():
    pool = settled(Pool(10, ROOMY, {"a": Share(warm=1)}))
    calls = [pool.call("a"), pool.call("a"), pool.call("a")]
    settled(pool)
    for worker in pool.of("a", "busy"):
        pool.freed(worker)
    assert len(calls) == 3
    assert len(pool.of("a", "idle")) == 4

    pool.advance(IDLE_SECONDS - 1)
    assert len(pool.of("a", "idle")) == 4
    pool.advance(1)

    assert len(pool.of("a", "idle")) == 1
    settled(pool)
    pool.advance(1_000)
    assert len(pool.of("a", "idle")) == 1


def test_a_spare_is_not_stopped_and_started_over_and_over_while_its_function_is_in_use():
    pool = Pool(10, ROOMY, {"a": Share()})
    pool.ask("a")
    settled(pool)
    before = set(pool.states)
    for _ in range(20):
        for worker in pool.of("a", "busy"):
            pool.freed(worker)
        pool.advance(IDLE_SECONDS / 4)
        assert pool.call("a") is not None

    assert set(pool.states) == before
    assert pool.numbered == 2


def test_a_spare_goes_when_its_function_is_no_longer_in_use():
    pool = Pool(10, ROOMY, {"a": Share()})
    pool.ask("a")
    settled(pool)
    pool.freed(*pool.of("a", "busy"))

    pool.advance(IDLE_SECONDS)
    settled(pool)

    assert not pool.of("a")
    assert pool.wake is None


def test_where_memory_is_short_the_longest_idle_worker_makes_room_at_once():
    pool = Pool(10, 3, {n: Share(memory_bytes=1) for n in NAMES}, spare=False)
    for name in ("a", "b"):
        pool.ask(name)
        pool.ask(name) if name == "b" else None
        settled(pool)
        pool.advance(1)
    for worker in [*pool.of("b", "busy"), *pool.of("a", "busy")]:
        pool.freed(worker)
        pool.advance(1)
    longest = pool.of("b", "idle")[0]

    pool.ask("c")

    assert [w for w, s in pool.states.items() if s == "draining"] == [longest]
    assert not pool.of("c"), "memory is free when it has left, not before"
    pool.exited(longest)
    assert pool.of("c", "starting")


def test_a_function_that_grows_takes_neither_the_warm_minimum_nor_the_last_of_another():
    shares = {"a": Share(memory_bytes=1), "b": Share(warm=1, memory_bytes=1)}
    shares["c"] = Share(memory_bytes=1)
    pool = settled(Pool(10, 3, shares, spare=False))
    pool.ask("c")
    pool.ask("a")
    settled(pool)
    pool.freed(*pool.of("c", "busy"))

    pool.ask("a")

    assert not [w for w, s in pool.states.items() if s == "draining"]
    pool.freed(*pool.of("a", "busy"))
    assert not pool.waiting["a"], "it had its turn all the same"


def test_a_function_without_any_worker_takes_even_a_warm_one():
    shares = {"a": Share(memory_bytes=2, warm=1), "b": Share(memory_bytes=2)}
    pool = settled(Pool(10, 3, shares))

    ticket = pool.ask("b")
    assert len(pool.of("a", "draining")) == 1
    settled(pool)

    assert ticket in pool.served
    come_to_rest(pool)


def test_a_function_in_constant_demand_does_not_keep_the_only_memory_for_ever():
    pool = Pool(10, 1, {"a": Share(memory_bytes=1), "b": Share(memory_bytes=1)})
    pool.ask("a")
    settled(pool)
    pool.ask("a")
    ticket, since = pool.ask("b"), pool.clock()
    while ticket not in pool.served:
        pool.ask("a")
        pool.advance(0.1)
        if busy := pool.of("a", "busy"):
            pool.freed(*busy)
        settled(pool)
        assert pool.clock() - since < 3 * STARVED_SECONDS

    assert pool.clock() - since >= STARVED_SECONDS, "not so soon that starting is all they do"


def test_memory_is_kept_for_a_large_worker_that_has_waited_longer():
    shares = {"a": Share(memory_bytes=1), "b": Share(memory_bytes=3), "c": Share(memory_bytes=1)}
    pool = Pool(10, 3, shares, spare=False)
    pool.ask("a")
    pool.ask("a")
    settled(pool)
    large = pool.ask("b")
    small = pool.ask("c")
    assert pool.memory_free == 1
    assert not pool.of("c"), "or small ones would always come before"

    for worker in pool.of("a", "busy"):
        pool.freed(worker)
    settled(pool)

    assert large in pool.served
    assert small not in pool.served
    pool.freed(*pool.of("b", "busy"))
    settled(pool)
    assert small in pool.served


def test_idle_workers_are_not_stopped_in_vain():
    shares = {"a": Share(memory_bytes=3), "b": Share(memory_bytes=1)}
    pool = Pool(10, 6, shares, spare=False)
    pool.ask("a")
    for _ in range(3):
        pool.ask("b")
    settled(pool)
    for worker in pool.of("b", "busy"):
        pool.freed(worker)
    assert pool.memory_free == 0

    pool.ask("a")

    assert not [w for w, s in pool.states.items() if s == "draining"], "two would not be enough"


def test_over_all_functions_the_oldest_ticket_goes_first():
    pool = settled(Pool(1, ROOMY, {"a": Share(warm=1), "b": Share(warm=1)}))
    running = pool.call("a")
    assert pool.call("b") is None
    assert pool.call("a") is None

    pool.freed(running)

    assert pool.waiting == {"a": [1], "b": []}


def test_nobody_slips_past_those_who_wait_for_the_common_limit():
    roster = Roster(1, ROOMY, {"a": Share(warm=1), "b": Share(warm=1)})
    for number, name in enumerate(roster.plan(ManualClock()()).start):
        roster.starting(number, name)
        roster.started(number, ManualClock()())
    running = roster.claim("a")
    roster.ask(0, "b")
    roster.plan(ManualClock()())

    roster.freed(running, ManualClock()())

    assert roster.claim("a") is None
    assert [ticket for ticket, _ in roster.plan(ManualClock()()).assign] == [0]


def test_a_function_at_its_own_maximum_does_not_slow_the_others_down():
    pool = settled(Pool(10, ROOMY, {"a": Share(maximum=1, warm=1), "b": Share(warm=1)}))
    pool.call("a")
    pool.call("a")
    settled(pool)
    assert pool.waiting["a"]
    assert pool.of("a", "idle")

    assert pool.roster.claim("b") is not None


def test_what_is_reserved_is_there_though_others_wait():
    pool = settled(Pool(2, ROOMY, {"a": Share(), "b": Share(reserved=1, warm=1)}))
    for _ in range(3):
        pool.ask("a")
    settled(pool)

    assert pool.call("b") is not None


def test_a_withdrawn_ticket_is_never_served():
    pool = Pool(10, ROOMY, {"a": Share()})
    gone, kept = pool.ask("a"), pool.ask("a")
    pool.waiting["a"].remove(gone)
    pool.roster.withdraw(gone, "a")

    settled(pool)

    assert set(pool.served) == {kept}


def test_tickets_rise():
    roster = Roster(1, ROOMY, {"a": Share()})
    roster.ask(5, "a")

    with pytest.raises(AssertionError):
        roster.ask(5, "a")


def test_words_out_of_turn_are_refused():
    pool = Pool(10, ROOMY, {"a": Share(warm=1)})
    now, roster = pool.clock(), pool.roster
    with pytest.raises(AssertionError, match="not planned"):
        roster.starting(7, "a")
    with pytest.raises(AssertionError):
        roster.freed(0, now)
    roster.started(0, now)
    with pytest.raises(AssertionError):
        roster.started(0, now)
    with pytest.raises(AssertionError):
        roster.start_failed(0, now)
    with pytest.raises(AssertionError):
        roster.freed(0, now)


def test_a_function_that_could_never_have_a_worker_is_refused():
    with pytest.raises(AssertionError):
        Roster(1, 10, {"a": Share(memory_bytes=11)})


def test_a_freed_worker_goes_straight_to_who_waits_for_its_own_function():
    roster = Roster(10, 1 << 40, {"f": Share(maximum=1, memory_bytes=1)}, spare=False)
    assert roster.ask(1, "f")
    (function,) = roster.plan(Instant(0.0)).start
    roster.starting(7, function)
    roster.started(7, Instant(0.0))
    assert roster.plan(Instant(0.0)).assign == ((1, 7),)
    assert not roster.ask(2, "f")  # it has all that it may have, and all are in use
    assert roster.pass_on(7) == 2
    assert roster.admission.busy("f") == 1
    assert roster.pass_on(7) is None
    roster.freed(7, Instant(1.0))
    assert roster.claim("f") == 7


def test_a_freed_worker_is_not_passed_on_past_who_waits_for_another_function():
    shares = {name: Share(memory_bytes=1) for name in "fg"}
    roster = Roster(1, 1 << 40, shares, spare=False)
    roster.ask(1, "f")
    roster.plan(Instant(0.0))
    roster.starting(7, "f")
    roster.started(7, Instant(0.0))
    assert roster.plan(Instant(0.0)).assign == ((1, 7),)
    roster.ask(2, "g")
    roster.ask(3, "f")
    assert roster.pass_on(7) is None


def test_there_is_room_for_as_many_calls_as_could_run_at_once():
    roster = Roster(4, 3, {"a": Share(maximum=3, memory_bytes=1), "b": Share(memory_bytes=1)})
    assert roster.room("a") == 3
    assert roster.room("nobody") == 0
    roster.ask(1, "a")
    assert roster.room("a") == 2, "one waits"
    roster.plan(Instant(0))
    assert roster.room("a") == 2, "a worker and its spare start, and one more could"
    roster.ask(2, "b")
    roster.plan(Instant(0))  # the last of the memory
    assert roster.room("b") == 0
    assert roster.room("a") == 1


def test_a_function_without_a_worker_has_room_for_the_call_that_makes_others_leave():
    roster = Roster(2, 1, {"a": Share(memory_bytes=1), "b": Share(memory_bytes=1)}, spare=False)
    roster.ask(1, "a")
    roster.plan(Instant(0))
    roster.starting(1, "a")
    roster.started(1, Instant(0))
    assert roster.room("b") == 1
    roster.ask(2, "b")
    assert roster.room("b") == 0
