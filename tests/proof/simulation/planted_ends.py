"""Faults of what a mapping asks for, of workers, destinations and letters, and of the engine."""

from __future__ import annotations

from collections.abc import Mapping as Mapping_
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from proof.simulation.faces import Row
from proof.simulation.shelf import Sender
from proof.simulation.stream import Stream
from proof.simulation.table import planted
from proof.simulation.workers import Workers
from streamfaas.destinations import Letter
from streamfaas.engine.lane import LanePolicy
from streamfaas.engine.mapping import Mapping, Pause
from streamfaas.flow.batch import Batch
from streamfaas.flow.errors import WorldError
from streamfaas.flow.invocation import Invocation
from streamfaas.flow.ledger import Checkpoint
from streamfaas.flow.outcome import Failure, Fault, Outcome, Success
from streamfaas.flow.record import Instant, Record
from streamfaas.store.intents import Intent
from streamfaas.store.outbox import Outbox

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


@planted("workers", "I-01", "I-03", first=232)
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
    def _reported(self, invocation: Invocation, failed: Sequence[Row], n: int) -> bytes:
        return b"null"


@planted("workers", "I-01", "I-03", first=105)
class BeginsAgainAtTheFirstOfTheList(Workers):
    """And not at the lowest."""

    def _reported(self, invocation: Invocation, failed: Sequence[Row], n: int) -> bytes:
        return super()._reported(invocation, failed[-1:], n)


@planted("workers", "I-01", "I-03", first=30)
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


@planted("outbox", "I-07", first=262)
class KeepsNoLetter(Outbox):
    async def intend(self, intent: Intent) -> None: ...
    async def delivered(self, id_: str, place: str = "") -> None: ...


@planted("outbox", "I-01", "I-03", first=161)
class TicksALetterOffBeforeItIsSent(Outbox):
    async def intend(self, intent: Intent) -> None:
        await super().intend(intent)
        await super().delivered(intent.id)


# -- the engine


@planted("mapping", "I-01", "I-03", first=34)
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


@planted("mapping", "bug")
class PausesOnlyItsReading(Mapping):
    """What it has read already runs on."""

    def pause(self, pause: Pause) -> None:
        super().pause(pause)
        for runner in self._lanes.values():
            runner.pause(paused=False)
