"""Faults of verdicts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from proof.simulation.broker import Broker
from proof.simulation.queue import Queue, Tray
from proof.simulation.stream import Stream
from proof.simulation.table import planted
from proof.simulation.world import Process
from streamfaas.flow.batch import Batch
from streamfaas.flow.outcome import Failure, Fault, Outcome, Success
from streamfaas.flow.partial import Partial
from streamfaas.flow.verdict import (
    Again,
    Condition,
    Done,
    GiveUp,
    Moment,
    Release,
    RetryPolicy,
    Verdict,
    judge_log,
    judge_queue,
)

# -- verdicts


class _Judging(Stream):
    def __init__(self, process: Process, broker: Broker) -> None:
        super().__init__(process, broker)
        self.judge = self.verdict

    def verdict(
        self, batch: Batch, out: Outcome | Partial, policy: RetryPolicy, moment: Moment
    ) -> Verdict:
        return judge_log(batch, out, policy, moment)


@planted("stream", "I-01", "I-03", "I-13")
class SkipsWhatIsTooLarge(_Judging):
    def verdict(
        self, batch: Batch, out: Outcome | Partial, policy: RetryPolicy, moment: Moment
    ) -> Verdict:
        match judge_log(batch, out, policy, moment):
            case GiveUp(lost, Condition.TOO_LARGE, _):
                return Done(lost)
            case other:
                return other


@planted("stream", "I-01", "I-03")
class DropsWhatIsExhausted(_Judging):
    def verdict(
        self, batch: Batch, out: Outcome | Partial, policy: RetryPolicy, moment: Moment
    ) -> Verdict:
        match judge_log(batch, out, policy, moment):
            case GiveUp(lost, Condition.EXHAUSTED, _):
                return Done(lost)
            case other:
                return other


@planted("stream", "I-12")
class TriesOnceTooOften(_Judging):
    def verdict(
        self, batch: Batch, out: Outcome | Partial, policy: RetryPolicy, moment: Moment
    ) -> Verdict:
        if policy.retries_max is not None:
            policy = replace(policy, retries_max=policy.retries_max + 1)
        return judge_log(batch, out, policy, moment)


@planted("stream", "I-12", "I-09")
class CountsAThrottleAsAnAttempt(_Judging):
    def verdict(
        self, batch: Batch, out: Outcome | Partial, policy: RetryPolicy, moment: Moment
    ) -> Verdict:
        if isinstance(out, Failure) and out.fault is Fault.THROTTLED:
            out = replace(out, fault=Fault.FUNCTION)
        return judge_log(batch, out, policy, moment)


@planted("stream", "I-01", "I-03")
class TakesATimeoutForAnAnswer(_Judging):
    def verdict(
        self, batch: Batch, out: Outcome | Partial, policy: RetryPolicy, moment: Moment
    ) -> Verdict:
        if isinstance(out, Failure) and out.fault is Fault.TIMEOUT:
            return Done(batch)
        return judge_log(batch, out, policy, moment)


@planted("tray", "I-06")
class ReleasesWhatHasSucceeded(Tray):
    """A batch that a queue has done goes back to it, the first time."""

    def __init__(self, process: Process, queue: Queue) -> None:
        super().__init__(process, queue)
        self.judge = self._verdict
        self._seen: set[int] = set()

    def _verdict(
        self, batch: Batch, out: Outcome | Partial, policy: RetryPolicy, moment: Moment
    ) -> Verdict:
        if isinstance(out, Success) and batch.first not in self._seen:
            self._seen.add(batch.first)
            return Release(batch, None, counted=False)
        return judge_queue(batch, out, policy, moment)


@planted("stream", "I-01", "I-03")
class ForgetsTheSecondHalf(_Judging):
    """Of what it has split."""

    def verdict(
        self, batch: Batch, out: Outcome | Partial, policy: RetryPolicy, moment: Moment
    ) -> Verdict:
        match judge_log(batch, out, policy, moment):
            case Again((first, second)) as again:
                return replace(again, rest=(first,), done=second)
            case other:
                return other


@planted("stream", "I-10", first=47)
class TakesOneOffWhereItShouldHalve(_Judging):
    def verdict(
        self, batch: Batch, out: Outcome | Partial, policy: RetryPolicy, moment: Moment
    ) -> Verdict:
        match judge_log(batch, out, policy, moment):
            case Again((first, second)) as again:
                whole = replace(first, runs=first.runs + second.runs)
                head, tail = whole.cut(next(at for at in _positions(whole) if at > whole.first))
                assert head is not None
                assert tail is not None
                return replace(again, rest=(head, tail))
            case other:
                return other


def _positions(batch: Batch) -> Iterator[int]:
    yield from (at for at in range(batch.first, batch.last + 1) if batch.holds(at))


@planted("tray", "I-01", "I-30")
class CountsNoDelivery(Tray):
    """So that what fails for ever comes back for ever."""

    def __init__(self, process: Process, queue: Queue) -> None:
        super().__init__(process, queue)
        self.judge = self._verdict

    def _verdict(
        self, batch: Batch, out: Outcome | Partial, policy: RetryPolicy, moment: Moment
    ) -> Verdict:
        match judge_queue(batch, out, policy, moment):
            case Release() as release:
                return replace(release, counted=False)
            case other:
                return other
