"""A lane in small: what is given up, what is delivered, and how many invocations it takes."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_runs import batch, logs, positions
from streamfaas.flow.batch import Batch
from streamfaas.flow.outcome import Failure, Fault, Success
from streamfaas.flow.partial import Style, read
from streamfaas.flow.record import Instant
from streamfaas.flow.verdict import Again, Condition, Done, GiveUp, Moment, RetryPolicy, judge_log

FAILED = Failure(Fault.FUNCTION, "KeyError", "'total'")
THROTTLED = Failure(Fault.THROTTLED, "TooManyRequestsException", "Rate Exceeded.")


@dataclass
class Lane:
    """Runs a batch to its end with a function that fails at some positions."""

    policy: RetryPolicy
    poison: frozenset[int]
    says: Style | None = None  # None: it raises; else it reports where it failed
    down_until: float = 0.0
    throttles: int = 0
    now: float = 0.0
    invocations: int = 0
    delivered: list[int] = field(default_factory=list)
    given_up: list[Batch] = field(default_factory=list)
    tries: list[int] = field(default_factory=list)

    def run(self, whole: Batch, limit: int = 100_000) -> None:
        pending, streak = deque([whole]), 0
        while pending:
            current = pending.popleft()
            if not current.count:
                continue
            self.invocations += 1
            assert self.invocations < limit, "it does not end"
            told = self._outcome(current)
            failing = not isinstance(told, Success)
            streak = streak + 1 if failing and current.origin else 0
            match judge_log(
                current, told, self.policy, Moment(Instant(self.now), 0.0, 0.0, streak)
            ):
                case Done(done):
                    self.delivered += positions(done.runs)
                case Again(rest, at, _, done):
                    self.delivered += positions(done.runs) if done else []
                    self.now = max(self.now, at)
                    pending.extendleft(reversed(rest))
                case GiveUp(lost, condition, _, done, rest):
                    assert condition == Condition.EXHAUSTED
                    self.delivered += positions(done.runs) if done else []
                    self.given_up.append(lost)
                    self.tries.append(lost.tries + 1)
                    pending.extendleft(reversed(rest))

    def _outcome(self, current: Batch):
        if self.throttles:
            self.throttles -= 1
            return THROTTLED
        if self.now < self.down_until:
            return FAILED
        bad = [p for p in positions(current.runs) if p in self.poison]
        if not bad:
            return Success(b"null")
        if self.says is None:
            return FAILED
        items = ",".join(f'{{"itemIdentifier":{p}}}' for p in bad)
        answer = Success(b'{"batchItemFailures":[%b]}' % items.encode())
        return read(answer, current, self.says, lambda batch, name: name)

    @property
    def lost(self) -> list[int]:
        return [p for each in self.given_up for p in positions(each.runs)]


def depth(count: int) -> int:
    return max(0, (count - 1).bit_length())


@st.composite
def poisoned(draw):
    whole = Batch(tuple(draw(logs(runs_max=5))))
    held = positions(whole.runs)
    bad = draw(st.sets(st.sampled_from(held), max_size=5)) if held else set()
    return whole, frozenset(bad)


@given(poisoned(), st.integers(0, 6), st.none() | st.sampled_from(Style), st.integers(0, 3))
def test_exactly_the_poison_is_given_up_and_every_other_record_is_delivered_once(
    case, retries, says, throttles
):
    whole, poison = case
    lane = Lane(RetryPolicy(retries, bisect=True), poison, says, throttles=throttles)

    lane.run(whole)

    assert sorted(lane.delivered) == sorted(set(positions(whole.runs)) - poison)
    assert sorted(lane.lost) == sorted(poison)


@given(poisoned(), st.integers(0, 6))
def test_k_poison_records_of_n_cost_so_many_invocations_and_the_configured_retries(case, retries):
    whole, poison = case
    lane = Lane(RetryPolicy(retries, bisect=True), poison)

    lane.run(whole)

    retried = retries * max(1, len(poison)) if poison else 0
    assert lane.invocations <= 2 * len(poison) * depth(whole.count) + 1 + retried


@given(poisoned(), st.integers(0, 6), st.none() | st.sampled_from(Style), st.booleans())
def test_no_record_is_given_up_before_its_retries_or_tried_more_often_without_a_split(
    case, retries, says, bisect
):
    whole, poison = case
    lane = Lane(RetryPolicy(retries, bisect=bisect), poison, says)

    lane.run(whole)

    for lost, tries in zip(lane.given_up, lane.tries, strict=True):
        assert tries - lost.splits == retries + 1


@given(poisoned(), st.integers(1, 6))
def test_a_fault_that_passes_costs_no_splits(case, retries):
    whole, _ = case
    lane = Lane(RetryPolicy(retries, bisect=True), frozenset(), down_until=0.5)

    lane.run(whole)

    assert lane.delivered == positions(whole.runs)
    assert lane.invocations == (2 if whole.count else 0)


@given(st.integers(16, 300), st.integers(0, 10))
def test_a_function_that_is_down_is_not_asked_in_a_storm(count, retries):
    minute = 60.0
    lane = Lane(RetryPolicy(retries, bisect=True), frozenset(), down_until=60 * minute)

    lane.run(batch(0, count - 1))

    # for every record one pause at the least, once the descent to a single one has failed
    assert lane.now >= min(lane.down_until, count / 4)
    assert lane.invocations <= 3 * count + (retries + 2) * count


def test_eight_records_with_one_poison_are_halved_until_it_stands_alone():
    lane = Lane(RetryPolicy(2, bisect=True), frozenset([5]))

    lane.run(batch(0, 7))

    assert lane.delivered == [0, 1, 2, 3, 4, 6, 7]
    assert [positions(lost.runs) for lost in lane.given_up] == [[5]]
    # twice as a whole; [0-3] [4-7] [4-5] [4] [5] [6-7]; and one retry of [5]: a split uses none
    assert lane.invocations == 2 + 6 + 1
    assert lane.tries == [6]


def test_one_bad_record_in_ten_thousand_is_found_within_thirty_invocations():
    lane = Lane(RetryPolicy(10, bisect=True), frozenset([7_777]))

    lane.run(batch(0, 9_999))

    assert len(lane.delivered) == 9_999
    assert lane.lost == [7_777]
    assert lane.invocations - 10 <= 2 * 14 + 1


def test_without_bisect_the_whole_batch_is_given_up():
    lane = Lane(RetryPolicy(2), frozenset([5]))

    lane.run(batch(0, 7))

    assert lane.delivered == []
    assert lane.lost == list(range(8))
    assert lane.tries == [3]


def test_a_partial_answer_of_a_stream_is_where_it_goes_on():
    lane = Lane(RetryPolicy(3), frozenset([5]), Style.LOWEST)

    lane.run(batch(0, 7))

    assert lane.delivered == [0, 1, 2, 3, 4]
    assert [positions(lost.runs) for lost in lane.given_up] == [[5, 6, 7]]
    assert lane.tries == [4]


def test_a_partial_answer_with_bisect_gives_up_the_one_that_is_known_to_fail():
    lane = Lane(RetryPolicy(3, bisect=True), frozenset([5]), Style.LOWEST)

    lane.run(batch(0, 7))

    assert lane.delivered == [0, 1, 2, 3, 4, 6, 7]
    assert lane.lost == [5]
    assert lane.tries == [4]


def test_only_what_is_listed_is_tried_again_and_given_up():
    lane = Lane(RetryPolicy(2), frozenset([1, 5, 6]), Style.LISTED)

    lane.run(batch(0, 7))

    assert lane.delivered == [0, 2, 3, 4, 7]
    assert [positions(lost.runs) for lost in lane.given_up] == [[1, 5, 6]]
    assert lane.invocations == 3


@pytest.mark.parametrize("splits", [0, 3])
def test_halves_know_where_they_come_from(splits):
    whole = replace(batch(0, 9, attempt=1), splits=splits, origin=40 if splits else 0)

    head, tail = whole.bisect()

    assert (head.first, head.last, tail.first, tail.last) == (0, 4, 5, 9)
    assert {head.splits, tail.splits} == {splits + 1}
    assert {head.origin, tail.origin} == {40 if splits else 10}
    assert {head.attempt, tail.attempt} == {1}
