"""Faults of how messages of a queue are kept, finished with, and given back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from proof.simulation.mailbox import Mailbox
from proof.simulation.messages import Messages, Post
from proof.simulation.table import planted
from proof.simulation.world import Process
from streamfaas.flow.batch import Batch
from streamfaas.flow.ledger import Receipts, Settlement
from streamfaas.flow.outcome import Outcome
from streamfaas.flow.partial import Partial
from streamfaas.flow.verdict import Moment, Release, RetryPolicy, Verdict, judge_queue
from streamfaas.wire.sqs import Undone


@planted("messages", "I-01", "I-03")
class DeletesWhatHasFailed(Messages):
    async def settle(self, settlement: Settlement) -> None:
        assert isinstance(settlement, Receipts)
        done = settlement.finished + settlement.released
        await super().settle(replace(settlement, finished=done, released=()))


@planted("messages", "I-06", "I-21", first=34)
class ForgetsToKeepWhatItHas(Messages):
    """What is in hand for long is not hidden any more."""

    def __init__(self, process: Process, mailbox: Mailbox) -> None:
        super().__init__(process, mailbox)
        self._hand.extend = _nothing  # type: ignore[method-assign]


async def _nothing() -> None: ...


@planted("messages", "I-21", first=27)
class RunsAGroupTwiceAtOnce(Messages):
    """Its next messages, while those before are in hand."""

    def _rest(self, lane: Any) -> None:
        super()._rest(lane)
        self._groups.clear()

    def _deal(self, lane: Any) -> bool:
        self._groups.clear()
        return super()._deal(lane)


@planted("messages", "I-21", first=34)
class RunsWhatCameBehindAFailedMessage(Messages):
    """It waits in our hands, and not in the queue."""

    def __init__(self, process: Process, mailbox: Mailbox) -> None:
        super().__init__(process, mailbox)
        self._gathering.drop = lambda _key: []  # type: ignore[method-assign]


@planted("messages", "I-01", "I-03", "I-30", first=101)
class TakesWhatFollowsAFailedMessageForDone(Messages):
    """Of a group, though the function stopped there."""

    def __init__(self, process: Process, mailbox: Mailbox) -> None:
        super().__init__(process, mailbox)
        if mailbox.fifo:
            self.judge = self._verdict

    def _verdict(
        self, batch: Batch, out: Outcome | Partial, policy: RetryPolicy, moment: Moment
    ) -> Verdict:
        verdict = judge_queue(batch, out, policy, moment)
        if isinstance(verdict, Release) and verdict.back.count > 1 and isinstance(out, Partial):
            at = next(p for p in _positions(verdict.back) if p > verdict.back.first)
            head, tail = verdict.back.cut(at)
            assert head is not None
            return replace(verdict, back=head, done=tail)
        return verdict


def _positions(batch: Batch) -> list[int]:
    return [run.first for run in batch.runs]


class _Trusting(Post):
    async def delete_batch(self, receipts: Sequence[str]) -> tuple[Undone, ...]:
        await super().delete_batch(receipts)
        return ()


@planted("messages", "I-06", "I-30", "I-07")
class TakesARequestForDoneOfWhichPartWasNot(Messages):
    """A batch of deletes may fail in part."""

    post = _Trusting


class _Old(Post):
    """Deletes by the first receipt that it was given."""

    def __init__(self, process: Process, mailbox: Mailbox, seat: str) -> None:
        super().__init__(process, mailbox, seat)
        self._first: dict[str, str] = {}

    async def delete_batch(self, receipts: Sequence[str]) -> tuple[Undone, ...]:
        first = [self._first.setdefault(one.rsplit("-", 1)[0], one) for one in receipts]
        return await super().delete_batch(first)

    async def receive(
        self, messages_max: int, wait_seconds: int = 0, visibility_seconds: int | None = None
    ) -> Sequence[Mapping[str, Any]]:
        found = await super().receive(messages_max, wait_seconds, visibility_seconds)
        for each in found:
            self._first.setdefault(each["ReceiptHandle"].rsplit("-", 1)[0], each["ReceiptHandle"])
        return found


@planted("messages", "I-06", "I-30", "I-07")
class DeletesByAReceiptThatIsNoGoodAnyMore(Messages):
    post = _Old


@planted("messages", "I-12", "I-01", "I-30")
class CountsNoReceive(Messages):
    """So that what fails for ever comes back for ever."""

    def __init__(self, process: Process, mailbox: Mailbox) -> None:
        super().__init__(process, mailbox)
        self._returned.deliveries = lambda _id, _receives: 0  # type: ignore[method-assign]


@planted("messages", "I-12", "I-01", "I-03")
class GivesUpAtOnce(Messages):
    async def settle(self, settlement: Settlement) -> None:
        assert isinstance(settlement, Receipts)
        if settlement.released and settlement.at is None:
            settlement = replace(settlement, finished=settlement.released, released=())
        await super().settle(settlement)
