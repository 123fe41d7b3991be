"""What of a lane goes to destinations: intended, sent, and known until it cannot come again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

from streamfaas.destinations import HOPS_MAX, Destination, Letter
from streamfaas.engine.panes import event_of
from streamfaas.flow.batch import Batch
from streamfaas.flow.errors import CorruptBatch, StoreError, TooLarge, Unreachable, WorldError
from streamfaas.flow.letters import hops_of
from streamfaas.flow.outcome import Failure, Fault, Outcome, Success
from streamfaas.flow.record import Instant, Record, Run
from streamfaas.flow.sift import spared, without
from streamfaas.flow.verdict import Condition, RetryPolicy, deliveries
from streamfaas.sources import Asynchronous
from streamfaas.store import intents
from streamfaas.store.intents import Intent
from streamfaas.telemetry import signals
from streamfaas.telemetry.recording import Sending
from streamfaas.wire import documents, notes
from streamfaas.wire.documents import AsyncEnding, StreamEnding

if TYPE_CHECKING:
    from streamfaas.engine.lane import LaneRunner
    from streamfaas.engine.strand import Strand


SENDING = RetryPolicy(backoff_seconds=1.0, backoff_seconds_max=60.0)
"""How far apart letters are sent again, whatever their function is given."""


class Outbox(Protocol):
    """Where letters are kept until they are delivered: see `store.outbox`."""

    async def intend(self, intent: Intent) -> None: ...
    async def delivered(self, id_: str, place: str) -> None: ...
    async def guarding(self, mapping: str, lane: str) -> tuple[Intent, ...]: ...
    async def settled(self, mapping: str, lane: str, upto_position: int) -> None: ...
    async def settled_ids(self, ids: Sequence[str]) -> None: ...


class Aside:
    """The letters of one lane.

    A letter is written down before it is sent, and only once it is delivered are its records
    finished with. Until that is durable it guards them: if they come again, because the daemon was
    killed in between, the letter is sent if it was not, and the function does not run again.
    """

    def __init__(self, lane: LaneRunner) -> None:
        self.guards: list[Intent] = []
        """Letters of an earlier life of the lane whose records have not come again yet."""
        self._lane = lane
        self._outbox = lane.around.outbox
        self._ordered = True
        self._delivered: list[Intent] = []  # in this life, and not known to be settled

    async def open(self, *, ordered: bool) -> None:
        """What is still on its way. Positions of a log are its lane's, those of a queue belong to
        the whole mapping."""
        self._ordered = ordered
        if self._outbox is not None:
            try:
                await self._forget()
                self.guards = list(await self._outbox.guarding(self._mapping, self._scope))
            except StoreError as error:
                raise Unreachable(str(error)) from error

    def spare(self, run: Run) -> list[Run]:
        """A run in pieces: of what a letter speaks of nothing is left to be run. What has become of
        those records is known, and counted."""
        status, policy = self._lane.status, self._lane.policy
        pieces = spared(run, _ranges_of([each for each in self.guards if not self._again(each)]))
        failures = [each for each in self.guards if each.kind == intents.FAILURE]
        set_aside = _spoken_of(run, _ranges_of(failures))
        status.set_aside += set_aside
        status.records += run.count - sum([piece.count for piece in pieces]) - set_aside
        if policy.set_aside.name != policy.last_resort.name:
            there = [each for each in failures if each.destination == policy.last_resort.name]
            status.elsewhere += _spoken_of(run, _ranges_of(there))
        return pieces

    def _again(self, guard: Intent) -> bool:
        """Whether what it speaks of runs again, since a state may lack what only a letter about
        success knows of. That of a window is lost where there are no windows any more."""
        success = guard.kind == intents.SUCCESS and self._lane.panes is not None
        return success or guard.kind == intents.WINDOWED

    async def resume(self, batch: Batch, strand: Strand) -> bool:
        """Sends the letters about a batch that an earlier life has not; those about what ran again
        are ticked off at its end, since others tell of that. False: closed first."""
        for guard in [guard for guard in self.guards if _about(guard, batch)]:
            known, left = guard, _not_yet(guard, batch, ordered=self._ordered)
            again = self._again(guard)
            if guard.state == intents.INTENDED and not (again and left):
                to = self._destination(guard)
                parcel = _Parcel(guard, guard.letters, to, strand.trace.sending(to.kind, to.name))
                if not await (self._tick(parcel, strand) if again else self._send(parcel, strand)):
                    return False
                known = replace(guard, state=intents.DELIVERED)
            if not left or left[-1] != known.ranges[-1]:
                self._delivered.append(known)
            at = self.guards.index(guard)
            self.guards[at : at + 1] = [replace(known, ranges=left)] if left else []
        return True

    async def settled(self, batch: Batch) -> None:
        """The source has been told that the batch is finished with."""
        if not self._delivered:
            return
        assert self._outbox is not None
        try:
            if self._ordered:
                await self._forget()
            elif mine := [each for each in self._delivered if _about(each, batch)]:
                await self._outbox.settled_ids([each.id for each in mine])
                self._delivered = [each for each in self._delivered if each not in mine]
        except StoreError as error:
            raise Unreachable(str(error)) from error

    # -- what becomes a letter

    async def give_up(
        self, batch: Batch, condition: str, outcome: Failure | None, strand: Strand
    ) -> bool:
        """Until the failure destination has it (and the dead-letter one, of an asynchronous
        invocation). False: the lane was closed first."""
        policy, batch = self._lane.policy, batch.of_records
        parcels = [self._failure(batch, condition, outcome, strand, policy.set_aside)]
        if policy.dead_letter is not None:
            parcels.append(self._dead(batch, condition, outcome, strand, policy.dead_letter))
        if any(_goes_round(each) for each in parcels):
            condition = Condition.RECURSIVE
            parcels = [self._failure(batch, condition, outcome, strand, policy.last_resort)]
        if not await self._deliver(parcels, strand):
            return False
        to = parcels[0].place or parcels[0].to.name
        elsewhere = to != policy.set_aside.name
        self._lane.status.elsewhere += batch.count if elsewhere else 0
        strand.tell(
            signals.BatchSetAside(
                self._lane.lane, batch.first, batch.last, batch.count, condition, to, elsewhere
            )
        )
        return True

    async def succeeded(self, batch: Batch, outcome: Success, strand: Strand) -> bool:
        """Until the success destination, where there is one, has the answer."""
        to = self._lane.policy.on_success
        if to is None:
            return True
        kind = intents.SUCCESS if batch.pane is None else intents.WINDOWED
        batch = batch.of_records
        ending = self._ending(batch, documents.SUCCESS, outcome, strand)
        if isinstance(ending, AsyncEnding):
            letters = documents.async_letters(ending, payload=to.payload)
        else:
            letters = documents.success_letters(
                ending, per_record=to.per_record, payload=to.payload
            )
        parcel = self._parcel(batch, kind, documents.SUCCESS, letters, to, strand=strand)
        if _goes_round(parcel):  # such a chain ends here, where it can be seen
            return await self.give_up(batch, Condition.RECURSIVE, None, strand)
        return await self._deliver([parcel], strand)

    def _failure(
        self,
        batch: Batch,
        condition: str,
        outcome: Failure | None,
        strand: Strand,
        to: Destination,
    ) -> _Parcel:
        ending = self._ending(batch, condition, outcome, strand)
        if isinstance(ending, AsyncEnding):
            letters = documents.async_letters(ending, payload=to.payload)
            event = ending.event
        else:
            letters = documents.failure_letters(
                ending, per_record=to.per_record, payload=to.payload
            )
            event = ending.payload or b""
        return self._parcel(
            batch, intents.FAILURE, condition, letters, to, strand=strand, event=event
        )

    def _dead(
        self,
        batch: Batch,
        condition: str,
        outcome: Failure | None,
        strand: Strand,
        to: Destination,
    ) -> _Parcel:
        ending = self._ending(batch, condition, outcome, strand)
        assert isinstance(ending, AsyncEnding)
        letter = documents.dead_letter(ending)
        letters = (replace(letter, id=f"{letter.id}-dead"),)
        # the catalogue has the event from the failure destination's; beside a dead letter there are
        # Lambda's three attributes, and no fourth
        return self._parcel(
            batch, intents.SUCCESS, condition, letters, to, strand=strand, stamped=False
        )

    def _ending(
        self, batch: Batch, condition: str, outcome: Outcome | None, strand: Strand
    ) -> StreamEnding | AsyncEnding:
        lane, source = self._lane, self._lane.source
        records: tuple[Record, ...] = ()
        payload: bytes | None = None
        # what cannot be shown has its positions in the document
        with suppress(CorruptBatch):
            records = source.records(batch)
        with suppress(CorruptBatch):  # bytes that are no event may be told all the same
            payload = event_of(source, batch)
        tries = max(batch.tries, deliveries(batch))
        # what grew too old before it ever ran counts as run once, as on AWS
        invokes = max(1, tries) if condition in _NOT_NOW else tries + 1
        if isinstance(source, Asynchronous):
            return AsyncEnding(
                condition=condition,
                invokes=invokes,
                outcome=outcome,
                request_id=source.request_id(batch),
                function_arn=lane.policy.function_arn,
                event=payload or b"",
                at=lane.around.wall(),
                hops=hops_of(records),
            )
        reported = isinstance(outcome, Failure) and outcome.fault is Fault.REPORT
        return StreamEnding(
            batch=batch,
            condition=condition,
            invokes=invokes,
            outcome=None if condition == Condition.TOO_OLD else outcome,
            request_id=strand.request_id or lane.around.request_id(),
            function_arn=lane.policy.function_arn,
            batch_info=source.batch_info(batch),
            payload=payload,
            at=lane.around.wall(),
            records=records,
            function_error=None if reported else documents.UNHANDLED,
        )

    def _parcel(
        self,
        batch: Batch,
        kind: intents.Kind,
        condition: str,
        letters: tuple[Letter, ...],
        to: Destination,
        *,
        strand: Strand,
        event: bytes = b"",
        stamped: bool = True,
    ) -> _Parcel:
        sending = strand.trace.sending(to.kind, to.name)
        letters = sending.stamped(letters) if stamped else letters
        intent = Intent(
            id=letters[0].id if len(letters) == 1 else f"{letters[0].id}+{len(letters) - 1}",
            mapping=self._mapping,
            lane=self._scope,
            ranges=_ranges(batch),
            destination=to.name,
            kind=kind,
            condition=condition,
            count=batch.count,
            letters=letters,
            event=event or None,
            made_ms=int(self._lane.around.wall() * 1000),
            hops=letters[0].hops,
        )
        return _Parcel(intent, letters, to, sending)

    # -- and is delivered

    async def _deliver(self, parcels: Sequence[_Parcel], strand: Strand) -> bool:
        """All are written down before the first is sent: a crash in between forgets none."""
        outbox = self._outbox
        if outbox is not None:
            for each in parcels:
                if not await self._until(partial(outbox.intend, each.intent), strand, _STORE):
                    return False
                self._delivered.append(each.intent)
        for each in parcels:
            if not await self._send(each, strand):
                return False
        return True

    async def _send(self, parcel: _Parcel, strand: Strand) -> bool:
        letters, to = parcel.letters, parcel.to
        too_large: list[TooLarge] = []

        async def send() -> None:
            try:
                await self._way(to, strand).send(letters)
            except TooLarge as error:
                too_large.append(error)
                raise

        if not await self._until(send, strand, to.name):
            return False
        elsewhere, strand.diverted = strand.diverted, False
        if elsewhere:
            parcel.place = self._lane.policy.last_resort.name
        if too_large and to.notes and not await self._note(parcel, strand):
            return False
        parcel.sending.done(len(letters))
        return await self._tick(parcel, strand)

    async def _tick(self, parcel: _Parcel, strand: Strand) -> bool:
        """It is known for good that nothing is left to be sent of it."""
        outbox, place = self._outbox, parcel.place or parcel.to.name
        return outbox is None or await self._until(
            lambda: outbox.delivered(parcel.intent.id, place), strand, _STORE
        )

    async def _note(self, parcel: _Parcel, strand: Strand) -> bool:
        """Until a destination knows of letters that it could not be given, and where they are."""
        letters, to = parcel.letters, parcel.to
        told = [notes.note(each, self._lane.policy.last_resort.name) for each in letters]

        async def send() -> None:
            if not strand.diverted:
                with suppress(TooLarge):  # then it takes next to nothing, and nothing is lost
                    await to.send(told)
                    parcel.place = to.name

        done = await self._until(send, strand, to.name)
        strand.diverted = False
        return done

    def _way(self, to: Destination, strand: Strand) -> Destination:
        """Where letters go: elsewhere, once a person does not want to wait for a destination."""
        return self._lane.policy.last_resort if strand.diverted else to

    async def _until(
        self,
        step: Callable[[], Awaitable[None]],
        strand: Strand,
        name: str,
    ) -> bool:
        """Until a step succeeds. False: the lane was closed first. A lane that is closing tries
        once: what the function is done with within the grace would run again elsewhere."""
        around, failures = self._lane.around, 0
        while not (self._lane.closing and failures):
            try:
                await step()
            except (WorldError, StoreError) as error:
                failures += 1
                pause = SENDING.delay(failures, around.jitter())
                if isinstance(error, TooLarge) and not strand.diverted:
                    # nothing would ever change that: it is kept where there is no such limit
                    strand.diverted, pause = True, 0.0
                strand.tell(signals.DestinationFailed(self._lane.lane, name, str(error), pause))
                until = Instant(around.clock() + pause)
                await strand.hold_up(name, f"destination: {error}", until)
            else:
                return True
        return False

    async def _forget(self) -> None:
        """What is below a durable checkpoint never comes again."""
        upto = self._lane.source.durable(self._lane.lane)
        if self._outbox is not None and self._ordered and upto is not None:
            first = self._delivered[0].ranges[-1][1] if self._delivered else upto
            if upto >= first:
                await self._outbox.settled(self._mapping, self._scope, upto)
                self._delivered = [e for e in self._delivered if e.ranges[-1][1] > upto]

    def _destination(self, guard: Intent) -> Destination:
        """Where its letters were to go, or what stands in its place today."""
        policy = self._lane.policy
        usual = policy.set_aside
        if guard.kind != intents.FAILURE and policy.on_success is not None:
            usual = policy.on_success
        known = (usual, policy.dead_letter, policy.last_resort)
        return next((to for to in known if to and to.name == guard.destination), usual)

    @property
    def _mapping(self) -> str:
        return self._lane.lane.source

    @property
    def _scope(self) -> str:
        return self._lane.lane.name if self._ordered else ""


_STORE = "the local store"
_NOT_NOW = frozenset({Condition.TOO_OLD, Condition.SKIPPED})
"""Conditions that come up between two invocations, and not by one."""


@dataclass(slots=True)
class _Parcel:
    """Letters, where they go, the note that they are to go there, and what is traced of it.
    `place`: where they are instead, if they are."""

    intent: Intent
    letters: tuple[Letter, ...]
    to: Destination
    sending: Sending
    place: str = ""


def _goes_round(parcel: _Parcel) -> bool:
    return parcel.letters[0].hops > HOPS_MAX


def _about(intent: Intent, batch: Batch) -> bool:
    """Whether it speaks of anything that the batch accounts for (another strand may have more)."""
    return any(
        first <= run.last and run.first <= last
        for run in batch.runs
        for first, last in intent.ranges
    )


def _ranges_of(guards: Sequence[Intent]) -> list[tuple[int, int]]:
    return sorted({each for guard in guards for each in guard.ranges})


def _spoken_of(run: Run, ranges: Sequence[tuple[int, int]]) -> int:
    """How many of its records the ranges hold."""
    return run.count - sum([piece.count for piece in spared(run, ranges)])


def _not_yet(intent: Intent, batch: Batch, *, ordered: bool) -> tuple[tuple[int, int], ...]:
    """Of which stretches records may still come. A queue hands them out in any order."""
    if ordered:
        return () if intent.ranges[-1][1] <= batch.last else intent.ranges
    return without(intent.ranges, [(run.first, run.last) for run in batch.runs])


def _ranges(batch: Batch) -> tuple[tuple[int, int], ...]:
    """The stretches of positions that a batch accounts for, neighbours as one."""
    found: list[tuple[int, int]] = []
    for run in batch.runs:
        if found and found[-1][1] + 1 == run.first:
            found[-1] = (found[-1][0], run.last)
        else:
            found.append((run.first, run.last))
    return tuple(found)
