"""What becomes of a batch once its outcome is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

from streamfaas.flow.batch import Batch
from streamfaas.flow.outcome import Failure, Fault, Outcome, Success
from streamfaas.flow.record import Instant

BLOCKED_AFTER = 5
"""From this failure on, a batch that can only be tried again is shown as blocked."""

ATTEMPTS_WITH_DESTINATION = 10
"""Retries where there is a failure destination and nothing else was asked for, as on Lambda."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, and how far apart. `retries_max` None: never give up."""

    retries_max: int | None = None
    backoff_seconds: float = 1.0
    backoff_seconds_max: float = 60.0

    def __post_init__(self) -> None:
        assert self.retries_max is None or self.retries_max >= 0
        assert self.backoff_seconds >= 0
        assert self.backoff_seconds_max >= 0

    def delay(self, failures: int, jitter: float) -> float:
        """Seconds to wait after `failures` failures in a row (1 or more): doubling from the
        first to the longest, and up to a quarter less by `jitter` (0 ≤ jitter < 1)."""
        assert 0 <= jitter < 1
        whole = self.backoff_seconds * 2.0 ** min(max(failures - 1, 0), 32)
        return min(whole, self.backoff_seconds_max) * (1 - jitter / 4)


@dataclass(frozen=True, slots=True)
class Moment:
    """When a verdict is given, and the randomness it may use: `flow` has neither of its own."""

    now: Instant
    jitter: float = 0.0


class Condition:
    """Why a batch was given up, in Lambda's words for stream sources."""

    EXHAUSTED = "RetryAttemptsExhausted"
    TOO_LARGE = "MaximumPayloadSizeExceeded"


@dataclass(frozen=True, slots=True)
class Done:
    """The batch is finished with."""

    batch: Batch


@dataclass(frozen=True, slots=True)
class Again:
    """The batch runs again at `at`. `blocked`: it has failed so often that a person should look."""

    batch: Batch
    at: Instant
    blocked: bool = False


@dataclass(frozen=True, slots=True)
class Reread:
    """The batch's bytes are damaged: the source is to read them again at `at`. Whoever carries
    this out hands `batch.attempt` on to the batch that is then found damaged at the same place."""

    batch: Batch
    at: Instant
    blocked: bool


@dataclass(frozen=True, slots=True)
class Release:
    """Queues: the batch goes back where it came from, to be handed out again from `at` on (None:
    at once, not counted)."""

    batch: Batch
    at: Instant | None
    blocked: bool = False


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The batch goes to the failure destination, and only then is it finished with."""

    batch: Batch
    condition: str
    failure: Failure


Verdict: TypeAlias = Done | Again | Reread | Release | GiveUp
Judge: TypeAlias = Callable[[Batch, Outcome, RetryPolicy, Moment], Verdict]

NOT_COUNTED = frozenset({Fault.THROTTLED, Fault.ABORTED})
"""Failures that say nothing about the batch, and use up no attempt."""


def judge_log(batch: Batch, outcome: Outcome, policy: RetryPolicy, moment: Moment) -> Verdict:
    """A log keeps its order: the batch is tried again here, and the lane waits for it."""
    match outcome:
        case Success():
            return Done(batch)
        case Failure(fault=fault) if fault in NOT_COUNTED:
            return Again(batch, _later(policy, 1, moment))
        case Failure(fault=Fault.CORRUPT):
            return _reread(batch, policy, moment)
        case Failure(fault=Fault.OVERSIZE) as failure if _alone(batch, failure):
            return GiveUp(batch, Condition.TOO_LARGE, failure)
        case Failure() as failure:
            failures = batch.attempt + 1
            if policy.retries_max is not None and failures > policy.retries_max:
                return GiveUp(batch, Condition.EXHAUSTED, failure)
            tried = replace(batch, attempt=failures)
            blocked = policy.retries_max is None and failures >= BLOCKED_AFTER
            return Again(tried, _later(policy, failures, moment), blocked)


def judge_queue(batch: Batch, outcome: Outcome, policy: RetryPolicy, moment: Moment) -> Verdict:
    """A queue gets back what failed and counts for itself: `Run.deliveries` are its attempts, and
    a batch has had as many as the run in it that was delivered most often."""
    match outcome:
        case Success():
            return Done(batch)
        case Failure(fault=fault) if fault in NOT_COUNTED:
            return Release(batch, None)
        case Failure(fault=Fault.OVERSIZE) as failure if _alone(batch, failure):
            return GiveUp(batch, Condition.TOO_LARGE, failure)
        case Failure() as failure:
            failures = max(run.deliveries for run in batch.runs) + 1
            if policy.retries_max is not None and failures > policy.retries_max:
                return GiveUp(batch, Condition.EXHAUSTED, failure)
            blocked = policy.retries_max is None and failures >= BLOCKED_AFTER
            return Release(batch, _later(policy, failures, moment), blocked)


def judge_request(batch: Batch, outcome: Outcome, policy: RetryPolicy, moment: Moment) -> Verdict:
    """A request is answered once, well or badly."""
    match outcome:
        case Success():
            return Done(batch)
        case Failure() as failure:
            return GiveUp(batch, Condition.EXHAUSTED, failure)


def _alone(batch: Batch, failure: Failure) -> bool:
    """Whether the one record that is too large is the whole batch. A count may be an estimate;
    `until` is not: a worker that gives one has left everything after the record out."""
    return batch.count <= 1 or failure.until is not None


def _reread(batch: Batch, policy: RetryPolicy, moment: Moment) -> Verdict:
    """Once at once, since a bad transfer heals by itself; then blocked, at the longest backoff."""
    tried = replace(batch, attempt=batch.attempt + 1)
    if batch.attempt == 0:
        return Reread(tried, moment.now, blocked=False)
    return Reread(tried, _later(policy, 32, moment), blocked=True)


def _later(policy: RetryPolicy, failures: int, moment: Moment) -> Instant:
    return Instant(moment.now + policy.delay(failures, moment.jitter))
