"""What becomes of a batch once its outcome is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

from streamfaas.flow.batch import Batch
from streamfaas.flow.outcome import Failure, Fault, Outcome, Success
from streamfaas.flow.partial import Partial, Style
from streamfaas.flow.record import Instant
from streamfaas.flow.value import value

BLOCKED_AFTER = 5
"""From this failure on, a batch that can only be tried again is shown as blocked."""

ATTEMPTS_WITH_DESTINATION = 10
"""Retries where there is a failure destination and nothing else was asked for, as on Lambda."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, how far apart, and how long. `retries_max` None: never give up; `age_seconds_max`
    None: no record is ever too old. `bisect`: a batch that fails twice is halved, to find the
    records that make it fail."""

    retries_max: int | None = None
    backoff_seconds: float = 1.0
    backoff_seconds_max: float = 60.0
    bisect: bool = False
    age_seconds_max: float | None = None

    def __post_init__(self) -> None:
        assert self.retries_max is None or self.retries_max >= 0
        assert self.backoff_seconds >= 0
        assert self.backoff_seconds_max >= 0
        assert self.age_seconds_max is None or self.age_seconds_max > 0

    def delay(self, failures: int, jitter: float) -> float:
        """Seconds to wait after `failures` failures in a row (1 or more): doubling from the
        first to the longest, and up to a quarter less by `jitter` (0 ≤ jitter < 1)."""
        assert 0 <= jitter < 1
        whole = self.backoff_seconds * 2.0 ** min(max(failures - 1, 0), 32)
        return min(whole, self.backoff_seconds_max) * (1 - jitter / 4)


@value
class Moment:
    """When a verdict is given, and what else it may go by, since `flow` has none of it: the wall
    clock (epoch seconds), randomness, and how many parts of a bisected batch have failed in a row
    (this one included)."""

    now: Instant
    jitter: float = 0.0
    wall: float = 0.0
    streak: int = 0


class Condition:
    """Why records were given up, in Lambda's words where it has one: for stream sources, and (as
    recorded on AWS) other words for asynchronous invocations."""

    EXHAUSTED = "RetryAttemptsExhausted"
    TOO_OLD = "RecordAgeExceeded"
    TOO_LARGE = "MaximumPayloadSizeExceeded"
    SKIPPED = "Skipped"  # by a person
    RECURSIVE = "RecursiveInvocation"  # a chain of destinations that goes round
    ASYNC_EXHAUSTED = "RetriesExhausted"
    ASYNC_TOO_OLD = "EventAgeExceeded"


@value
class Done:
    """The batch is finished with."""

    batch: Batch


@dataclass(frozen=True, slots=True)
class Again:
    """`rest`, part by part in this order, runs again from `at` on; `done` is finished with.
    `blocked`: it has failed so often that a person should look."""

    rest: tuple[Batch, ...]
    at: Instant
    blocked: bool = False
    done: Batch | None = None


@dataclass(frozen=True, slots=True)
class Reread:
    """The batch's bytes are damaged: the source is to read them again at `at`. Whoever carries
    this out hands `batch.attempt` on to the batch that is then found damaged at the same place."""

    batch: Batch
    at: Instant
    blocked: bool


@dataclass(frozen=True, slots=True)
class Release:
    """Queues: `back` goes where it came from, to be handed out again from `at` on (None: at once),
    and counts as delivered if `counted`; `done` is finished with. `in_order`: what comes behind it
    in hand goes back as well, unrun."""

    back: Batch
    at: Instant | None
    counted: bool = True
    blocked: bool = False
    done: Batch | None = None
    in_order: bool = False


@dataclass(frozen=True, slots=True)
class GiveUp:
    """`lost` goes to the failure destination, and only then is it finished with; so is `done`, and
    `rest` runs on."""

    lost: Batch
    condition: str
    failure: Failure | None
    done: Batch | None = None
    rest: tuple[Batch, ...] = ()


Verdict: TypeAlias = Done | Again | Reread | Release | GiveUp
Judge: TypeAlias = Callable[[Batch, Outcome | Partial, RetryPolicy, Moment], Verdict]

NOT_COUNTED = frozenset({Fault.THROTTLED, Fault.ABORTED})
"""Failures that say nothing about the batch, and use up no attempt."""


# -- logs


def judge_log(
    batch: Batch, outcome: Outcome | Partial, policy: RetryPolicy, moment: Moment
) -> Verdict:
    """A log keeps its order: the batch is tried again here, and the lane waits for it."""
    match outcome:
        case Success():
            return Done(batch)
        case Partial() as told:
            return _reported(told, policy, moment)
        case Failure(fault=fault) if fault in NOT_COUNTED:
            return Again((batch,), _later(policy, 1, moment))
        case Failure(fault=Fault.CORRUPT):
            return _reread(batch, policy, moment)
        case Failure(fault=Fault.OVERSIZE) as failure:
            return _oversize(batch, failure, moment)
        case Failure() as failure:
            return _failed(batch, failure, policy, moment)


def _failed(batch: Batch, failure: Failure, policy: RetryPolicy, moment: Moment) -> Verdict:
    """All of it failed, and nobody knows at which record.

    With bisect it runs once more as it is, so that a fault that passes costs no splits; then it is
    halved again and again, which uses up no retry, until what fails stands alone and is tried as
    often as any batch. More failures in a row than it takes to get there mean that the function
    fails at everything: then pauses come before splits.
    """
    exhausted = _exhausted(batch.attempt + 1, policy)
    if policy.bisect and batch.count > 1 and (batch.attempt or exhausted):
        storm = _storm(batch, moment)
        if not storm:
            return Again(batch.bisect(), moment.now)
        if exhausted:
            return Again(batch.bisect(), _later(policy, storm, moment))
    if exhausted:
        return GiveUp(batch, Condition.EXHAUSTED, failure)
    return _retry(batch, batch.attempt + 1, policy, moment)


def _reported(told: Partial, policy: RetryPolicy, moment: Moment) -> Verdict:
    """The function says where it failed. On a stream that is where it stopped, and whoever gets
    further than before has not failed there before; a list is of records that failed each time."""
    done, rest, style, failure = told.done, told.rest, told.style, told.failure
    # what held no record was no step forward
    onwards = style is Style.LOWEST and done is not None and done.count > 0
    failures = 1 if onwards else rest.attempt + 1
    verdict: Verdict
    if not _exhausted(failures, policy):
        verdict = _retry(rest, failures, policy, moment)
    elif policy.bisect and style is Style.LOWEST and rest.count > 1:
        # it alone is known to fail; what follows has not been looked at
        rest = replace(rest, attempt=failures - 1)
        head, tail = _first_of(rest)
        verdict = GiveUp(head, Condition.EXHAUSTED, failure, rest=(replace(tail, attempt=0),))
    else:
        lost = replace(rest, attempt=failures - 1)
        verdict = GiveUp(lost, Condition.EXHAUSTED, failure)
    return replace(verdict, done=done)


def _first_of(batch: Batch) -> tuple[Batch, Batch]:
    """Its first record with the positions before it, and the others."""
    runs = batch.runs
    index = next(index for index, run in enumerate(runs) if run.count)
    at = runs[index].payload.fit(runs[index].first, runs[index].last, 1, 1)
    head, tail = batch.cut(at)
    assert head is not None
    assert tail is not None
    return head, tail


def _retry(batch: Batch, failures: int, policy: RetryPolicy, moment: Moment) -> Again:
    blocked = policy.retries_max is None and failures >= BLOCKED_AFTER
    tried = replace(batch, attempt=failures)
    pauses = max(failures, _storm(batch, moment))
    return Again((tried,), _later(policy, pauses, moment), blocked)


def _storm(batch: Batch, moment: Moment) -> int:
    """How many more parts of a batch have failed in a row than it takes to find one bad record."""
    return max(0, moment.streak - (batch.origin - 1).bit_length()) if batch.origin else 0


def _reread(batch: Batch, policy: RetryPolicy, moment: Moment) -> Verdict:
    """Once at once, since a bad transfer heals by itself; then blocked, at the longest backoff."""
    tried = replace(batch, attempt=batch.attempt + 1)
    if batch.attempt == 0:
        return Reread(tried, moment.now, blocked=False)
    return Reread(tried, _later(policy, 32, moment), blocked=True)


def _oversize(batch: Batch, failure: Failure, moment: Moment) -> Verdict:
    """One record that alone is too large will never run. A count may be an estimate; `until` is
    not: a worker that gives one has left everything after the record out."""
    if batch.count <= 1 or failure.until is not None:
        return GiveUp(batch, Condition.TOO_LARGE, failure)
    return Again(batch.split(), moment.now)


# -- queues


def judge_queue(
    batch: Batch, outcome: Outcome | Partial, policy: RetryPolicy, moment: Moment
) -> Verdict:
    """A queue gets back what failed and counts for itself: `Run.deliveries` are its attempts, and
    a batch has had as many as the run in it that was delivered most often."""
    match outcome:
        case Success():
            return Done(batch)
        case Partial(done, rest, _, failure):
            return replace(_handed_back(rest, failure, policy, moment), done=done)
        case Failure(fault=fault) if fault in NOT_COUNTED:
            return Release(batch, None, counted=False)
        case Failure(fault=Fault.OVERSIZE) as failure:
            return _oversize(batch, failure, moment)
        case Failure() as failure:
            return _handed_back(batch, failure, policy, moment)


def judge_group(
    batch: Batch, outcome: Outcome | Partial, policy: RetryPolicy, moment: Moment
) -> Verdict:
    """A queue whose batches are of one group, in order: what is given up is what the function
    stopped at, and what follows has not been looked at: it runs on. What goes back takes what
    follows along, even where the batch had been split."""
    verdict = judge_queue(batch, outcome, policy, moment)
    if isinstance(verdict, Release):
        return replace(verdict, in_order=True)
    if isinstance(verdict, GiveUp) and isinstance(outcome, Partial) and verdict.lost.count > 1:
        head, tail = _first_of(verdict.lost)
        return replace(verdict, lost=head, rest=(tail,))
    return verdict


def _handed_back(
    batch: Batch, failure: Failure, policy: RetryPolicy, moment: Moment
) -> Release | GiveUp:
    failures = deliveries(batch) + 1
    if _exhausted(failures, policy):
        return GiveUp(batch, Condition.EXHAUSTED, failure)
    blocked = policy.retries_max is None and failures >= BLOCKED_AFTER
    return Release(batch, _later(policy, failures, moment), blocked=blocked)


def judge_async(
    batch: Batch, outcome: Outcome | Partial, policy: RetryPolicy, moment: Moment
) -> Verdict:
    """An asynchronous invocation, as Lambda has them: a function that fails is run again after
    fixed waits, a throttle is waited out for as long again as the event is old (1 s to 5 min) and
    not counted, and the event is given up as soon as its next run would come too late. It is one
    item at most: a report that names it is a failure of all of it."""
    if isinstance(outcome, Partial):
        outcome = outcome.failure
    match outcome:
        case Success():
            return Done(batch)
        case Failure(fault=Fault.ABORTED):
            return Release(batch, None, counted=False)
        case Failure(fault=Fault.THROTTLED) as failure:
            age = max(0.0, moment.wall - batch.oldest)
            wait = min(max(age, THROTTLED_SECONDS_MIN), THROTTLED_SECONDS_MAX)
            return _in_time(batch, failure, wait, policy, moment, counted=False)
        case Failure() as failure:
            failures = deliveries(batch) + 1
            if _exhausted(failures, policy):
                return GiveUp(batch, Condition.ASYNC_EXHAUSTED, failure)
            wait = policy.delay(failures, 0.0)
            return _in_time(batch, failure, wait, policy, moment, counted=True)


def _in_time(
    batch: Batch,
    failure: Failure,
    wait: float,
    policy: RetryPolicy,
    moment: Moment,
    *,
    counted: bool,
) -> Verdict:
    limit = policy.age_seconds_max
    if limit is not None and moment.wall + wait > batch.oldest + limit:
        return GiveUp(batch, Condition.ASYNC_TOO_OLD, failure)
    return Release(batch, Instant(moment.now + wait), counted=counted)


THROTTLED_SECONDS_MIN = 1.0
THROTTLED_SECONDS_MAX = 300.0


def deliveries(batch: Batch) -> int:
    """How often a queue has handed out that of it which it handed out most often."""
    return max(run.deliveries for run in batch.runs)


def _exhausted(failures: int, policy: RetryPolicy) -> bool:
    return policy.retries_max is not None and failures > policy.retries_max


def _later(policy: RetryPolicy, failures: int, moment: Moment) -> Instant:
    return Instant(moment.now + policy.delay(failures, moment.jitter))
