"""One lane, from what arrives to what is settled: READ THIS FIRST, and then `strand`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import anyio

from streamfaas.destinations import Destination
from streamfaas.engine.aside import Aside, Outbox
from streamfaas.engine.panes import Panes, WindowStore, event_of
from streamfaas.engine.strand import Strand, StrandStatus
from streamfaas.flow.batch import Batch, BatchPolicy
from streamfaas.flow.errors import CorruptBatch
from streamfaas.flow.event import Encoding, Event
from streamfaas.flow.invocation import Invocation, Manner
from streamfaas.flow.ledger import Checkpoint
from streamfaas.flow.outcome import Outcome
from streamfaas.flow.record import Instant, Lane, Record, Run
from streamfaas.flow.sift import sorted_out, strand_of
from streamfaas.flow.verdict import RetryPolicy
from streamfaas.sources import Source
from streamfaas.telemetry import signals
from streamfaas.telemetry.recorder import Recorder
from streamfaas.telemetry.recording import NOWHERE, Origin
from streamfaas.telemetry.signals import Emit

Dispatch = Callable[[Invocation], Awaitable[Outcome]]

AHEAD_MAX = 100_000
"""Positions between the oldest unfinished one and the newest taken, where strands run ahead of
each other: past it the lane reads no more until the one behind catches up."""

AHEAD_BYTES_MAX = 16 * 1024 * 1024
"""What such a lane may hold of records that wait for their strand."""


class Filter(Protocol):
    """Says which records a mapping wants, by what their source shows of them."""

    def wants(self, metadata: Mapping[str, object], data: bytes | None) -> bool: ...


@dataclass(frozen=True, slots=True)
class LanePolicy:
    """What a mapping asks of its lanes. `set_aside` takes what is given up, `last_resort` what may
    not even go there (a chain of destinations that goes round), `on_success` (if any) what the
    function answered, `dead_letter` the events of asynchronous invocations that failed. `partial`:
    answers are read as reports of failed items. `strands`: how many batches of a lane may be in
    flight, the records of one key in order. `filter`: which records are wanted. `window_seconds`:
    how long tumbling windows are (0: there are none). `origin`: where records come from, as traces
    have it."""

    function: str
    function_arn: str
    batch: BatchPolicy
    retry: RetryPolicy
    set_aside: Destination
    last_resort: Destination
    on_success: Destination | None = None
    dead_letter: Destination | None = None
    partial: bool = False
    strands: int = 1
    filter: Filter | None = None
    window_seconds: float = 0.0
    origin: Origin = NOWHERE

    def __post_init__(self) -> None:
        assert self.strands == 1 or not self.window_seconds, "a lane has one window at a time"


class Witness(Protocol):
    """Who may want to look at the batches that are run. It is false while that is not so, and then
    costs nothing."""

    def __bool__(self) -> bool: ...

    def saw(self, ended: signals.InvocationEnded, source: Source, batch: Batch) -> None:
        """An attempt at a batch has ended, as is about to be told. Never raises, never waits."""

    def filtered(self, record: Record) -> None:
        """The filter leaves a record out. Never raises, never waits."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the lane is given of the world: the way to the workers, time, chance, ears, where
    letters are kept until they are delivered (None: nowhere, they are only sent), where windows
    are kept (None: there are none), and who keeps traces.

    `clock` is the event loop's, `wall` epoch seconds. `jitter` gives 0 ≤ x < 1. `request_id` gives
    a new one each time. `witness` (if any) is shown each batch that was run.
    """

    dispatch: Dispatch
    clock: Callable[[], Instant]
    wall: Callable[[], float]
    jitter: Callable[[], float]
    request_id: Callable[[], str]
    emit: Emit
    outbox: Outbox | None = None
    windows: WindowStore | None = None
    witness: Witness | None = None
    recorder: Recorder = field(default_factory=Recorder)


@dataclass(slots=True)
class LaneStatus:
    """What has become of the lane's records so far: `received` = `records` + `set_aside` +
    `filtered` + `given_back` + those in hand. `expired` are among those set aside. No number ever
    falls: what is read again was given back. `elsewhere`: of those set aside, in the last resort
    and not where they were to go."""

    position: int | None = None
    received: int = 0
    records: int = 0
    filtered: int = 0
    set_aside: int = 0
    expired: int = 0
    elsewhere: int = 0
    given_back: int = 0
    batches: int = 0
    failures: int = 0

    @property
    def in_hand(self) -> int:
        """Records that nothing has become of yet."""
        done = self.records + self.set_aside + self.filtered + self.given_back
        return self.received - done


@dataclass(slots=True)
class _Damage:
    """Where the bytes of a lane are found to be wrong, and how often in a row they were. `tail` is
    kept back by a lane that must look into them, until all before it is finished with."""

    position: int = -1
    times: int = 0
    tail: Run | None = None
    error: CorruptBatch | None = None
    handed_on: bool = False


class LaneRunner:
    """Carries one lane until it is closed: what arrives is counted, sorted and handed to strands,
    and what they have finished with is settled.

    `offer` hands it what arrived; `full` says that it wants no more for now, and `on_room` is
    called when that ends. Nothing that is unfinished when it closes is settled: it comes again.
    """

    def __init__(
        self,
        lane: Lane,
        source: Source,
        policy: LanePolicy,
        surroundings: Surroundings,
        on_room: Callable[[Lane], None],
    ) -> None:
        self.lane = lane
        self.source = source
        self.policy = policy
        self.around = surroundings
        self.on_room = on_room
        self.status = LaneStatus()
        self.closing = False
        self.paused = False
        """Nothing new is run for now; what runs goes on, and may be settled."""
        self.scope = anyio.CancelScope()
        """Cancelled when the grace has ended: what is in flight is cut off, its worker killed."""
        self.ended = anyio.Event()
        self.aside = Aside(self)
        self.panes: Panes | None = None
        if surroundings.windows is not None and source.manner is Manner.STREAM:
            self.panes = Panes(self, policy.window_seconds, surroundings.windows)
        assert self.panes is not None or not policy.window_seconds
        self.strands = tuple(Strand(self, number) for number in range(policy.strands))
        self._ledger = source.ledger(lane)
        windows = bool(policy.window_seconds)
        self._looks = policy.filter is not None or policy.strands > 1 or windows
        self._damage = _Damage()
        self._far_ahead = False

    @property
    def held_bytes(self) -> int:
        return sum([strand.batcher.held_bytes for strand in self.strands])

    @property
    def held_records(self) -> int:
        return sum([strand.batcher.held_records for strand in self.strands])

    @property
    def age_seconds(self) -> float | None:
        """Of the oldest record in hand; None where none has a time, 0 where there is none."""
        oldest = min((strand.oldest for strand in self.strands if strand.oldest), default=0.0)
        if oldest:
            return max(0.0, self.around.wall() - oldest)
        return None if self.status.in_hand else 0.0

    @property
    def unfinished(self) -> int:
        return self._ledger.unfinished

    @property
    def full(self) -> bool:
        """Enough is waiting: nothing more is to be read for now."""
        if self.closing or self._damage.tail is not None:
            return True
        if len(self.strands) == 1:
            return self.strands[0].full
        return (
            self._ledger.span >= AHEAD_MAX
            or self.held_bytes >= AHEAD_BYTES_MAX
            or all(strand.full for strand in self.strands)
        )

    async def open(self) -> None:
        """Finds out which letters of an earlier life are still on their way, and which window."""
        await self.aside.open(ordered=self._ledger.ordered)
        if self.panes is not None:
            await self.panes.open()
            if self.panes.gone:
                self.panes = None

    def offer(self, run: Run) -> None:
        if self.closing:
            return
        self._ledger.take(run)
        self.status.received += run.count
        if self._looks or self.aside.guards or self.panes is not None:
            self._sort(run)
        else:
            self.strands[0].offer(run)
        if len(self.strands) > 1:
            self._tell_if_far_ahead()

    def pause(self, *, paused: bool) -> None:
        self.paused = paused
        for strand in self.strands:
            strand.wake()

    @property
    def at_rest(self) -> bool:
        """Nothing runs, and all that is settled survives a crash."""
        settled, durable = self.status.position, self.source.durable(self.lane)
        on_disk = settled is None or durable is None or durable >= settled
        return on_disk and all(strand.at_rest for strand in self.strands)

    def close(self) -> None:
        """No new invocation from here on; `run` ends once what is in flight has ended."""
        self.closing = True
        if self.panes is not None:
            self.panes.wound_up.set()
        for strand in self.strands:
            strand.wake()

    async def wind_up(self) -> bool:
        """Nothing more will come: waits until the window that is open, if there is one, has had its
        last invocation, however long that takes. False: the lane was closed first."""
        if self.panes is None:
            return True
        self.panes.ending = True
        for strand in self.strands:
            strand.wake()
        await self.panes.wound_up.wait()
        return not self.closing

    async def forget(self) -> None:
        """The lane has come to its end, and never opens again."""
        if self.panes is not None:
            await self.panes.forget()

    async def run(self) -> None:
        if self.panes is not None and (last := self.panes.last) is not None:
            await self.strands[0].carry(last)
        if len(self.strands) == 1:
            return await self.strands[0].run()
        async with anyio.create_task_group() as tasks:
            for strand in self.strands:
                tasks.start_soon(strand.run, name=f"{self.lane.name}: strand {strand.number}")
        return None

    def skip(self, *, dry_run: bool = False) -> list[tuple[Batch, str]]:
        """Gives up what waits to be tried again: it goes where given-up batches go, and if that is
        what it waits for, to the last resort. What that is, and where it goes."""
        waiting = [strand for strand in self.strands if strand.waiting is not None]
        found = [(s.waiting, s.skips_to) for s in waiting if s.waiting is not None]
        for strand in () if dry_run else waiting:
            strand.skip()
        return found

    def view(self) -> StrandStatus:
        """How its strands stand, as one: as the one that is worst off."""
        return max((strand.status for strand in self.strands), key=_concern)

    # -- what strands ask of it

    def shape(self, batch: Batch) -> Event:
        """`CorruptBatch` where the bytes are known to be damaged, or are found to be."""
        tail = self._damage.tail
        if tail is not None and batch.first == tail.first:
            assert self._damage.error is not None
            raise self._damage.error
        if batch.pane is not None:
            return Event(Encoding.JSON, (event_of(self.source, batch),))
        return self.source.shape(batch)

    async def settle(self, batch: Batch, strand: Strand) -> bool:
        """The batch is finished with. False: the lane was closed first, and it comes again.

        Settlements reach the source in the order of the ledger: nothing waits in between, but in a
        lane with windows, which has one strand.
        """
        if self.panes is not None and batch.final:
            await self.panes.ended(batch)
            return True
        if self.aside.guards and not await self.aside.resume(batch, strand):
            return False
        settlement = self._ledger.finish(batch)
        if settlement is not None:
            at = settlement.position if isinstance(settlement, Checkpoint) else batch.last
            self.status.position, begun = at, strand.trace.now()
            if self.panes is not None:
                await self.panes.settled(at)
            await self.source.settle(settlement)
            strand.trace.settled(at, begun)
            await self.aside.settled(batch)
        return True

    async def release(
        self, batch: Batch, at: Instant | None, *, counted: bool, reason: str
    ) -> None:
        """The batch goes back to its queue."""
        self.status.given_back += batch.count
        settlement = self._ledger.release(batch, at, counted=counted, reason=reason)
        if settlement is not None:
            await self.source.settle(settlement)

    def damaged(self, batch: Batch) -> int:
        """How often in a row damage was found at this very place before."""
        damage = self._damage
        damage.times = damage.times + 1 if batch.first == damage.position else 0
        damage.position = batch.first
        return damage.times

    async def read_again(self, batch: Batch) -> None:
        """Lets go of everything from the damage on; the source hands it over anew."""
        for strand in self.strands:
            strand.drop()
        self.status.given_back += self.status.in_hand
        self._damage.tail, self._damage.handed_on = None, False
        self._ledger.rewind(batch.first)
        await self.source.rewind(self.lane, batch.first)
        self.on_room(self.lane)

    def rested(self) -> None:
        """A strand has finished with a batch: there may be room, or it is time for the damage."""
        if not self._looks:
            return
        self.on_room(self.lane)
        damage = self._damage
        if damage.tail is None or not all(strand.idle for strand in self.strands):
            return
        if damage.handed_on:  # nothing in it was to be run: it is finished with
            damage.tail, damage.handed_on = None, False
            self.on_room(self.lane)
        else:
            damage.handed_on = True
            self.strands[0].offer(damage.tail)

    def _tell_if_far_ahead(self) -> None:
        """Once, when what has run ahead of the oldest unfinished record reaches its bound."""
        far = self._ledger.span >= AHEAD_MAX
        if far and not self._far_ahead:
            self.around.emit(signals.LaneFarAhead(self.lane, self._ledger.span, self.unfinished))
        self._far_ahead = far

    # -- what arrives where somebody must look

    def _sort(self, run: Run) -> None:
        pieces = self.aside.spare(run)
        for piece in pieces if self.panes is None else self.panes.spare(pieces):
            if not self._looks:
                self.strands[0].offer(piece)
            elif piece.count:
                self._look(piece)
            else:  # nobody looks into it any more: it cannot be found damaged by a strand
                self.strands[0].offer(piece.nothing(piece.first, piece.last))

    def _look(self, run: Run) -> None:
        if self._damage.tail is not None:
            return  # it will be read again with what is damaged before it
        try:
            records = self.source.records(Batch((run,)))
        except CorruptBatch as damage:
            tail = run
            if damage.position > run.first:
                run, tail = run.cut(damage.position)
                self._look(run)
            self._damage.tail, self._damage.error = tail, damage
            self.rested()
            return
        for number, piece in sorted_out(run, records, self._place):
            self.strands[number].offer(piece)

    def _place(self, record: Record) -> int | None:
        wanted = self.policy.filter
        if wanted is not None and not wanted.wants(*self.source.face(record)):
            self.status.filtered += 1
            if self.around.witness:
                self.around.witness.filtered(record)
            return None
        return strand_of(record, len(self.strands))


def _concern(status: StrandStatus) -> tuple[bool, int, int]:
    return status.blocked, _CONCERN[status.state], status.attempt


_CONCERN = {"idle": 0, "closing": 1, "running": 2, "retrying": 3, "blocked": 4}
