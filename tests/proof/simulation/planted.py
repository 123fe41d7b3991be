"""Faults that are put into the daemon on purpose, each where such a fault would be made. A
simulation that does not find them proves nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from collections.abc import Mapping as Mapping_
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import orjson

from proof.simulation.broker import Broker
from proof.simulation.history import History, live
from proof.simulation.parts import Parts
from proof.simulation.plan import draw
from proof.simulation.queue import Queue, Tray
from proof.simulation.shelf import Sender
from proof.simulation.stream import Stream
from proof.simulation.workers import Row, Workers
from proof.simulation.world import Process
from streamfaas.destinations import Letter
from streamfaas.engine.lane import LanePolicy
from streamfaas.engine.mapping import Mapping
from streamfaas.flow.batch import Batch
from streamfaas.flow.errors import WorldError
from streamfaas.flow.event import Event
from streamfaas.flow.invocation import Invocation
from streamfaas.flow.ledger import Checkpoint, Ledger, LogLedger, QueueLedger, Receipts, Settlement
from streamfaas.flow.outcome import Failure, Fault, Outcome, Success
from streamfaas.flow.partial import Partial
from streamfaas.flow.record import Instant, Lane, Record
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
from streamfaas.sources import Closing
from streamfaas.store.intents import Intent
from streamfaas.store.outbox import Outbox

SEEDS = 300
"""Within so many histories each must be found."""


@dataclass(frozen=True, slots=True)
class Planted:
    """A fault, and the invariants of which one at least must be seen to break."""

    name: str
    parts: Parts
    breaks: frozenset[str]


TABLE: list[Planted] = []


def planted(part: str, *breaks: str) -> Callable[[Any], Any]:
    """Enters a class (or what it stands for) into the table, in the place of a part."""

    def enter(made: Any) -> Any:
        name = made.__name__.replace("_", " ")
        words = "".join(f" {c.lower()}" if c.isupper() else c for c in name).strip()
        TABLE.append(Planted(words, Parts(**{part: made}), frozenset(breaks)))
        return made

    return enter


def find(fault: Planted, seeds: int = SEEDS) -> History | None:
    """The first history that shows the fault."""
    for seed in range(seeds):
        history = live(draw(seed), fault.parts)
        if history.broken & fault.breaks:
            return history
    return None


# -- ledgers


class _OneTooFar(LogLedger):
    def finish(self, batch: Batch) -> Checkpoint | None:
        found = super().finish(batch)
        return None if found is None else Checkpoint(found.lane, found.position + 1)


@planted("stream", "I-03", "I-01")
class CommitsOneTooEarly(Stream):
    def ledger(self, lane: Lane) -> Ledger:
        return _OneTooFar(lane)


class _AsTaken(LogLedger):
    """The checkpoint of whatever has arrived."""

    def finish(self, batch: Batch) -> Checkpoint | None:
        found = super().finish(batch)
        return None if found is None else Checkpoint(found.lane, self._taken)


@planted("stream", "I-03", "I-01")
class CommitsWhatHasOnlyArrived(Stream):
    def ledger(self, lane: Lane) -> Ledger:
        return _AsTaken(lane)


class _Forgetful(QueueLedger):
    def release(self, batch: Batch, at: Instant | None, *, counted: bool) -> Receipts:
        return Receipts(self._lane, finished=self._close(batch))


@planted("tray", "I-03", "I-01")
class ForgetsAReleasedRecord(Tray):
    def ledger(self, lane: Lane) -> Ledger:
        return _Forgetful(lane)


@planted("stream", "I-01", "I-03")
class ReadsOnAfterDamage(Stream):
    """What was damaged is passed over by one record."""

    async def rewind(self, lane: Lane, position: int) -> None:
        await super().rewind(lane, position + 1)


class _Highest(LogLedger):
    def finish(self, batch: Batch) -> Checkpoint | None:
        super().finish(batch)
        given, self._given = self._given, max(self._given, batch.last)
        return Checkpoint(self._lane, batch.last) if batch.last > given else None


@planted("stream", "I-03")
class CommitsTheHighestThatIsDone(Stream):
    """Though a lower one is not."""

    def ledger(self, lane: Lane) -> Ledger:
        return _Highest(lane)


# -- sources


@planted("stream", "I-01", "I-03", "I-20")
class LosesOnRevoke(Stream):
    """What was in hand of a lane that is taken away counts as done."""

    async def closed(self, lane: Lane) -> None:
        if (share := self._shares.get(lane)) is not None and share.opened:
            share.settled = share.next
        await super().closed(lane)


@planted("stream", "I-03", "I-04")
class CommitsWithoutItsSeat(Stream):
    """As the simplest clients do: an offset is written by whoever comes."""

    def _commits(self, generation: int, offsets: dict[Lane, int]) -> None:
        self._broker.write(self._name, offsets)


@planted("stream", "I-01", "I-03")
class BeginsWhereItHadRead(Stream):
    """A lane that comes back goes on where reading stood, not where work was done."""

    def __init__(self, process: Process, broker: Broker) -> None:
        super().__init__(process, broker)
        self._had_read: dict[Lane, int] = {}

    def _begins_at(self, lane: Lane) -> int:
        return max(super()._begins_at(lane), self._had_read.get(lane, 0))

    async def closed(self, lane: Lane) -> None:
        if (share := self._shares.get(lane)) is not None:
            self._had_read[lane] = share.next
        await super().closed(lane)


@planted("stream", "I-06")
class LeavesWithoutALastCommit(Stream):
    commits_at_close = False


@planted("stream", "I-20", "I-06")
class GivesAwayBeforeItHasLetGo(Stream):
    """The next owner begins while our batch is still at work."""

    async def _give_away(self) -> None:
        self._leaving.clear()
        going = sorted(lane for lane, one in self._shares.items() if one.opened)
        await self._last_commit()
        self._shares.clear()
        self._generation = 0
        self._leaving.update(going)
        self._told.extend(Closing(lane, 5.0) for lane in going)
        self._stirred.set()


@planted("stream", "I-02", "I-03", "I-01")
class LeavesTheLastRecordOutOfAnEvent(Stream):
    def shape(self, batch: Batch) -> Event:
        event = super().shape(batch)
        rows = orjson.loads(event.parts[0])
        return replace(event, parts=(orjson.dumps(rows[:-1] if len(rows) > 1 else rows),))


@planted("stream", "I-02")
class SwapsTwoRecordsInAnEvent(Stream):
    def shape(self, batch: Batch) -> Event:
        event = super().shape(batch)
        rows = orjson.loads(event.parts[0])
        return replace(event, parts=(orjson.dumps([*rows[1:2], *rows[:1], *rows[2:]]),))


@planted("stream", "I-09", "I-02")
class TellsOfTheWrongRecords(Stream):
    """A document about the batch, and the first record is not in it."""

    def event(self, batch: Batch) -> bytes:
        _, rest = batch.cut(batch.first + 1) if batch.last > batch.first else (None, None)
        return super().event(batch if rest is None or not rest.count else rest)


@planted("tray", "I-21")
class HandsOutAKeyThatFailed(Tray):
    """The next record of the key goes out, though the one before waits for its turn."""

    async def settle(self, settlement: Settlement) -> None:
        await super().settle(settlement)
        assert isinstance(settlement, Receipts)
        for first, _ in settlement.released:
            if (item := self._queue.items.pop(first, None)) is not None:
                self._queue.items[first] = item  # at the end of the queue


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


@planted("stream", "I-10")
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


# -- what a mapping asks for


@planted("policy", "I-10")
def gives_up_what_it_should_halve(asked: LanePolicy) -> LanePolicy:
    return replace(asked, retry=replace(asked.retry, bisect=False))


@planted("policy", "I-12")
def forgets_how_old_a_record_is(asked: LanePolicy) -> LanePolicy:
    return replace(asked, retry=replace(asked.retry, age_seconds_max=None))


@planted("policy", "I-02")
def runs_what_nobody_wants(asked: LanePolicy) -> LanePolicy:
    return replace(asked, filter=None)


class _Picky:
    def wants(self, metadata: Mapping_[str, object], data: bytes | None) -> bool:
        return bool(data) and data[-1:] != b"x"


@planted("policy", "I-01", "I-03")
def filters_out_what_is_wanted(asked: LanePolicy) -> LanePolicy:
    return replace(asked, filter=asked.filter and _Picky())


@planted("policy", "I-01", "I-03")
def tells_nobody_of_the_answer(asked: LanePolicy) -> LanePolicy:
    return replace(asked, on_success=None)


@planted("stream", "I-21")
class SpreadsAKeyOverStrands(Stream):
    """Records go to strands by their position."""

    def records(self, batch: Batch) -> tuple[Record, ...]:
        return tuple(replace(one, key=b"%d" % one.position) for one in super().records(batch))


# -- workers and destinations


@planted("workers", "I-01", "I-03")
class OverlooksWhatAWorkerLeftOut(Workers):
    async def __call__(self, invocation: Invocation) -> Outcome:
        outcome = await super().__call__(invocation)
        return replace(outcome, until=None) if isinstance(outcome, Success) else outcome


@planted("workers", "I-01", "I-03")
class TakesADeadWorkerForAnAnswer(Workers):
    async def __call__(self, invocation: Invocation) -> Outcome:
        outcome = await super().__call__(invocation)
        crashed = isinstance(outcome, Failure) and outcome.fault is Fault.CRASH
        return Success(b"null", until=outcome.until) if crashed else outcome


@planted("workers", "I-01", "I-03")
class OverlooksWhatIsReportedAsFailed(Workers):
    def _reported(self, invocation: Invocation, failed: Sequence[int], n: int) -> bytes:
        return b"null"


@planted("workers", "I-01", "I-03")
class BeginsAgainAtTheFirstOfTheList(Workers):
    """And not at the lowest."""

    def _reported(self, invocation: Invocation, failed: Sequence[int], n: int) -> bytes:
        return super()._reported(invocation, failed[-1:], n)


@planted("workers", "I-01", "I-03")
class TakesNonsenseForAnAnswer(Workers):
    def _nonsense(self, rows: Sequence[Row], n: int) -> bytes:
        return b"{}"


@planted("sender", "I-01", "I-08")
class SettlesBeforeTheDestinationHasIt(Sender):
    """Sent is not arrived."""

    async def send(self, letters: Sequence[Letter]) -> None:
        with suppress(WorldError):
            await super().send(letters)


@planted("sender", "I-07")
class SendsADocumentTwice(Sender):
    async def send(self, letters: Sequence[Letter]) -> None:
        await super().send(letters)
        await super().send(letters)


# -- letters


@planted("outbox", "I-07")
class KeepsNoLetter(Outbox):
    async def intend(self, intent: Intent) -> None: ...
    async def delivered(self, id_: str) -> None: ...


@planted("outbox", "I-01", "I-03")
class TicksALetterOffBeforeItIsSent(Outbox):
    async def intend(self, intent: Intent) -> None:
        await super().intend(intent)
        await super().delivered(intent.id)


# -- the engine


@planted("mapping", "I-01", "I-03")
class SettlesWhatIsInHandAtAStop(Mapping):
    """Told to stop, it takes all that it has for done."""

    async def stop(self, grace_seconds: float) -> None:
        for runner in self._lanes.values():
            taken = getattr(runner._ledger, "_taken", -1)
            if runner.unfinished and self._source is not None and taken >= 0:
                await self._source.settle(Checkpoint(runner.lane, taken))
        await super().stop(grace_seconds)


@planted("mapping", "I-60")
class CountsAFailureAsDone(Mapping):
    def view(self, now: Instant) -> dict[str, Any]:
        view = super().view(now)
        return view | {"records": view["records"] + view["failures"]}
