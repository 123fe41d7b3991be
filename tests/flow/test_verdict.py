from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_runs import batch, logs, run, stretch
from streamfaas.flow.batch import Batch
from streamfaas.flow.outcome import Failure, Fault, Success
from streamfaas.flow.record import Instant
from streamfaas.flow.verdict import (
    BLOCKED_AFTER,
    NOT_COUNTED,
    Again,
    Condition,
    Done,
    GiveUp,
    Moment,
    Release,
    Reread,
    RetryPolicy,
    judge_group,
    judge_log,
    judge_queue,
)

COUNTED = frozenset({Fault.FUNCTION, Fault.TIMEOUT, Fault.CRASH, Fault.MEMORY, Fault.INIT})
NOW = Moment(Instant(1_000.0), 0.5)
ENDLESS = RetryPolicy()

policies = st.builds(
    RetryPolicy,
    retries_max=st.none() | st.integers(0, 12),
    backoff_seconds=st.floats(0.01, 20),
    backoff_seconds_max=st.floats(0.01, 100),
)
moments = st.builds(
    Moment,
    now=st.floats(0, 1e6).map(Instant),
    jitter=st.floats(0, 1, exclude_max=True),
)
batches = st.builds(
    lambda log, attempt: Batch(tuple(log), attempt), logs(runs_max=4), st.integers(0, 20)
)
faults = st.sampled_from(Fault)
judges = st.sampled_from([judge_log, judge_queue, judge_group])


def failure(fault: Fault, until: int | None = None) -> Failure:
    return Failure(fault, f"Runtime.{fault.name}", "it failed", until=until)


def parts(verdict):
    """What a verdict on all of a batch speaks of, in order."""
    match verdict:
        case Done(done):
            return (done,)
        case Again(rest):
            return rest
        case Reread(damaged):
            return (damaged,)
        case Release(back):
            return (back,)
        case GiveUp(lost):
            return (lost,)


def deliver_again(batch: Batch) -> Batch:
    """A queue hands the same batch out once more, and counts it."""
    return Batch(tuple(replace(run, deliveries=run.deliveries + 1) for run in batch.runs))


@given(batches, judges, policies, moments)
def test_a_success_is_done_with(batch, judge, policy, moment):
    assert judge(batch, Success(b"null"), policy, moment) == Done(batch)


@given(batches, faults, judges, policies, moments)
def test_every_verdict_is_about_the_whole_batch_and_never_in_the_past(
    batch, fault, judge, policy, moment
):
    verdict = judge(batch, failure(fault), policy, moment)

    assert stretch(run for part in parts(verdict) for run in part.runs) == stretch(batch.runs)
    if isinstance(verdict, Again | Reread):
        assert verdict.at >= moment.now
    if isinstance(verdict, Release) and verdict.at is not None:
        assert verdict.at >= moment.now
    if isinstance(verdict, GiveUp):
        assert verdict.failure == failure(fault)


@given(
    st.lists(st.sampled_from(sorted(NOT_COUNTED | COUNTED, key=str)), max_size=60),
    st.integers(0, 12),
    moments,
)
def test_a_log_tries_once_more_than_it_may_retry_and_throttles_do_not_count(
    faults, retries_max, moment
):
    policy = RetryPolicy(retries_max)
    current, counted = batch(0, 9), 0
    for fault in faults:
        counted += fault in COUNTED
        verdict = judge_log(current, failure(fault), policy, moment)
        if counted > retries_max:
            assert verdict == GiveUp(current, Condition.EXHAUSTED, failure(fault))
            return
        assert isinstance(verdict, Again)
        assert verdict.rest == (replace(current, attempt=counted),)
        assert not verdict.blocked, "it ends by itself"
        (current,) = verdict.rest


@given(
    st.lists(st.sampled_from(sorted(NOT_COUNTED | COUNTED, key=str)), max_size=60),
    st.integers(0, 12),
    moments,
)
def test_a_queue_tries_once_more_than_it_may_retry_and_throttles_do_not_count(
    faults, retries_max, moment
):
    policy = RetryPolicy(retries_max)
    current, counted = batch(0, 9), 0
    for fault in faults:
        counted += fault in COUNTED
        verdict = judge_queue(current, failure(fault), policy, moment)
        if counted > retries_max:
            assert verdict == GiveUp(current, Condition.EXHAUSTED, failure(fault))
            return
        assert isinstance(verdict, Release)
        assert verdict.back == current
        assert not verdict.blocked
        if fault in NOT_COUNTED:
            assert verdict.at is None
        else:
            assert verdict.at == moment.now + policy.delay(counted, moment.jitter)
            current = deliver_again(current)


@given(batches, st.sampled_from(sorted(COUNTED, key=str)), moments)
def test_without_an_end_to_retries_nothing_is_given_up_but_a_person_is_told(batch, fault, moment):
    verdict = judge_log(batch, failure(fault), ENDLESS, moment)
    assert isinstance(verdict, Again)
    assert [part.attempt for part in verdict.rest] == [batch.attempt + 1]
    assert verdict.blocked == (batch.attempt + 1 >= BLOCKED_AFTER)
    assert verdict.at == moment.now + ENDLESS.delay(batch.attempt + 1, moment.jitter)

    delivered = replace(batch.runs[-1], deliveries=batch.attempt)
    queued = Batch((*batch.runs[:-1], delivered))
    verdict = judge_queue(queued, failure(fault), ENDLESS, moment)
    assert isinstance(verdict, Release)
    assert verdict.blocked == (batch.attempt + 1 >= BLOCKED_AFTER)


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True), policies)
def test_a_delay_doubles_up_to_the_longest_and_is_at_most_a_quarter_less(failures, jitter, policy):
    delay = policy.delay(failures, jitter)

    longest = min(policy.backoff_seconds * 2 ** min(failures - 1, 60), policy.backoff_seconds_max)
    assert 0.75 * longest <= delay <= longest
    assert delay <= policy.backoff_seconds_max
    assert policy.delay(failures + 1, jitter) >= delay
    assert policy.delay(failures, 0.0) == longest


@pytest.mark.parametrize("judge", [judge_log, judge_queue])
def test_a_record_that_is_too_large_alone_is_given_up_within_one_attempt(judge):
    failed = failure(Fault.OVERSIZE)

    verdict = judge(batch(4, 4), failed, ENDLESS, NOW)

    assert verdict == GiveUp(batch(4, 4), Condition.TOO_LARGE, failed)


@pytest.mark.parametrize("judge", [judge_log, judge_queue])
def test_a_worker_that_found_one_record_too_large_is_believed_over_a_count(judge):
    failed = failure(Fault.OVERSIZE, until=5)

    assert isinstance(judge(batch(3, 4), failed, ENDLESS, NOW), GiveUp)


@pytest.mark.parametrize("judge", [judge_log, judge_queue])
def test_good_records_beside_one_too_large_are_not_given_up_with_it(judge):
    assert not isinstance(judge(batch(3, 4), failure(Fault.OVERSIZE), ENDLESS, NOW), GiveUp)


def test_damaged_bytes_are_read_again_at_once_and_then_at_the_longest_pause():
    failed = failure(Fault.CORRUPT)

    first = judge_log(batch(0, 9), failed, RetryPolicy(0), NOW)
    assert first == Reread(batch(0, 9, attempt=1), NOW.now, blocked=False)

    second = judge_log(first.batch, failed, RetryPolicy(0), NOW)
    assert second == Reread(batch(0, 9, attempt=2), Instant(1_000 + 60 * 0.875), blocked=True)


def test_what_was_throttled_waits_the_shortest_time_each_time():
    current = batch(0, 9, attempt=7)

    verdict = judge_log(current, failure(Fault.THROTTLED), RetryPolicy(7), NOW)

    assert verdict == Again((current,), Instant(1_000.875))


def test_a_batch_of_a_queue_is_judged_by_the_run_that_was_delivered_most_often():
    mixed = Batch((run(0, 1, deliveries=3), run(5, 6)))
    failed = failure(Fault.FUNCTION)

    assert isinstance(judge_queue(mixed, failed, RetryPolicy(4), NOW), Release)
    assert isinstance(judge_queue(mixed, failed, RetryPolicy(3), NOW), GiveUp)


def test_no_retries_means_one_attempt():
    failed = failure(Fault.CRASH)

    assert isinstance(judge_log(batch(0, 9), failed, RetryPolicy(0), NOW), GiveUp)


@pytest.mark.parametrize(
    "wrong", [{"retries_max": -1}, {"backoff_seconds": -1.0}, {"backoff_seconds_max": -1.0}]
)
def test_a_policy_below_nothing_is_refused(wrong):
    with pytest.raises(AssertionError):
        RetryPolicy(**wrong)


@pytest.mark.parametrize("jitter", [-0.1, 1.0])
def test_jitter_out_of_its_range_is_refused(jitter):
    with pytest.raises(AssertionError):
        ENDLESS.delay(1, jitter)
