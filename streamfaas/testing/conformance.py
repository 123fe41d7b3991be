"""What every source must keep: one suite, driven as the engine drives, over any kind of source.

A kind brings a `Subject`: how to make a source object over a backing that outlives it, and how to
put records into it. Each check is a coroutine function that takes a fresh subject, runs in the
test's event loop, and raises AssertionError where the contract is broken.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import anyio
import orjson
from anyio.abc import TaskGroup

from streamfaas.flow.batch import Batch
from streamfaas.flow.errors import WorldError
from streamfaas.flow.event import Encoding
from streamfaas.flow.ledger import Ledger, QueueLedger
from streamfaas.flow.record import Instant, Lane, Record, Run
from streamfaas.sources import (
    Arrived,
    Closing,
    LaneView,
    Opened,
    Rereadable,
    Seekable,
    Source,
    SourceView,
    Spawn,
    Stretch,
)

PATIENCE_SECONDS = 60.0
"""How long anything that must happen may take; a machine of tests may be slow."""

QUIET_SECONDS = 0.3
"""How long nothing must happen where nothing may."""

CLOSE_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Subject:
    """A kind of source, and a backing that holds nothing yet.

    `make` gives a new source object over the backing; the clock of them all is the event loop's.
    `produce` adds so many records, no two of which are alike in key and value. `queue` says that
    records are settled one by one, and are in order for a key rather than for a lane.
    `unreachable` makes a source whose other side is not there. `revoke` makes an open source lose
    a lane (or several). `unordered`: it promises no order at all. `counts_itself`: its other side
    counts whatever it hands out, and after a restart nobody knows what of it was not run.
    """

    make: Callable[[], Source]
    produce: Callable[[int], Awaitable[None]]
    unreachable: Callable[[], Source] | None = None
    revoke: Callable[[Source], Awaitable[None]] | None = None
    queue: bool = False
    unordered: bool = False
    counts_itself: bool = False


Check: TypeAlias = Callable[[Subject], Awaitable[None]]
Identity: TypeAlias = tuple[bytes | None, bytes | None]


def checks(
    *, queue: bool, revoke: bool, unreachable: bool, seek: bool = False, reread: bool = False
) -> list[Check]:
    """The checks that apply to a subject which has these."""
    chosen = list(_OF_ALL)
    chosen += _OF_QUEUES if queue else _OF_LOGS
    chosen += _OF_SEEKABLE if seek else []
    chosen += _OF_REREADABLE if reread else []
    chosen += _OF_REVOKED if revoke else []
    chosen += _OF_UNREACHABLE if unreachable else []
    return chosen


# -- driving a source


@dataclass(slots=True)
class Driver:
    """Drives one source object as the engine would, but one step at a time. What has been taken
    over is kept in `taken` until it is settled; everything that ever came is in `seen`."""

    source: Source
    tasks: TaskGroup
    ready: set[Lane] = field(default_factory=set)
    ledgers: dict[Lane, Ledger] = field(default_factory=dict)
    taken: deque[Run] = field(default_factory=deque)
    closing: dict[Lane, float] = field(default_factory=dict)
    seen: list[Record] = field(default_factory=list)

    async def step(self) -> Opened | Arrived | Closing:
        """One arrival, taken in."""
        with anyio.fail_after(PATIENCE_SECONDS):
            arrival = await self.source.next(self.ready)
        match arrival:
            case Opened(lane):
                assert lane not in self.ledgers, f"{lane} was opened twice"
                self.ledgers[lane] = self.source.ledger(lane)
                self.ready.add(lane)
            case Closing(lane, grace_seconds):
                assert lane in self.ledgers, f"{lane} closes, and was never opened"
                assert lane not in self.closing, f"{lane} was told to close twice"
                self.closing[lane] = grace_seconds  # and it stays ready: the source knows
            case Arrived(run):
                assert run.lane in self.ready, f"{run.lane} was not ready"
                assert run.lane not in self.closing, f"{run.lane} is closing"
                self.ledgers[run.lane].take(run)
                records = self.source.records(Batch((run,)))
                assert len(records) == run.count
                self.taken.append(run)
                self.seen += records
        return arrival

    async def take(self, count: int) -> list[Record]:
        """Steps until so many records have come that this object had not seen before."""
        before = len(self.seen)
        while len(self.seen) - before < count:
            while not self.may_take():
                await self.finish(self.taken[0])
            await self.step()
        return self.seen[before:]

    def may_take(self) -> bool:
        """Whether something may come: a queue gives nothing to lanes that are busy."""
        queues = {lane for lane, ledger in self.ledgers.items() if isinstance(ledger, QueueLedger)}
        busy = {run.lane for run in self.taken} & queues
        return not self.ledgers or bool(self.ready - busy)

    async def finish(self, run: Run) -> None:
        self.taken.remove(run)
        settlement = self.ledgers[run.lane].finish(Batch((run,)))
        if settlement is not None:
            with anyio.fail_after(PATIENCE_SECONDS):
                await self.source.settle(settlement)

    async def finish_all(self) -> None:
        while self.taken:
            await self.finish(self.taken[0])

    async def release(self, run: Run, at: Instant | None, reason: str = "") -> None:
        self.taken.remove(run)
        ledger, counted = self.ledgers[run.lane], at is not None
        settlement = ledger.release(Batch((run,)), at, counted=counted, reason=reason)
        assert settlement is not None
        with anyio.fail_after(PATIENCE_SECONDS):
            await self.source.settle(settlement)

    def let_go(self, lane: Lane) -> None:
        """What is in hand of the lane is not finished with any more: it is about to be sought."""
        self.taken = deque(run for run in self.taken if run.lane != lane)
        self.ledgers.pop(lane, None)
        self.ready.discard(lane)

    async def until(self, lane: Lane, count: int) -> list[Record]:
        """So many records of a lane, from here on."""
        start, came = len(self.seen), list[Record]()
        while len(came) < count:
            await self.step()
            came = [record for record in self.seen[start:] if record.lane == lane]
        return came

    async def quiet(self) -> None:
        """No record comes for a while. Lanes that are opened meanwhile are ready, unless it is
        that none shall be."""
        none_ready = bool(self.ledgers) and not self.ready
        with anyio.move_on_after(QUIET_SECONDS):
            while True:
                arrival = await self.step()
                assert not isinstance(arrival, Arrived), f"{arrival} came unasked"
                if none_ready:
                    self.ready.clear()

    async def close(self) -> None:
        with anyio.fail_after(CLOSE_SECONDS):
            await self.source.close()


@contextlib.asynccontextmanager
async def driven(source: Source) -> AsyncIterator[Driver]:
    """An open source. It is closed at the end if nobody has done so."""
    async with _life(source) as driver:
        try:
            yield driver
        finally:
            with anyio.CancelScope(shield=True):
                await driver.close()


@contextlib.asynccontextmanager
async def crashed(source: Source) -> AsyncIterator[Driver]:
    """An open source that nobody closes: its tasks are gone at the end, and it hears nothing."""
    async with _life(source) as driver:
        yield driver


@contextlib.asynccontextmanager
async def _life(source: Source) -> AsyncIterator[Driver]:
    async with anyio.create_task_group() as tasks:
        with anyio.fail_after(PATIENCE_SECONDS):
            await source.open(_spawn(tasks))
        try:
            yield Driver(source, tasks)
        finally:
            tasks.cancel_scope.cancel()


def _spawn(tasks: TaskGroup) -> Spawn:
    def spawn(work: Callable[[], Awaitable[None]], name: str) -> None:
        async def run() -> None:
            await work()

        tasks.start_soon(run, name=name)

    return spawn


def identity(record: Record) -> Identity:
    """What makes a record this one, wherever it stands."""
    return record.key, record.value


def _identities(records: Iterable[Record]) -> set[Identity]:
    return {identity(record) for record in records}


def _in_order(records: Iterable[Record], subject: Subject) -> None:
    last: dict[object, int] = {}
    for record in () if subject.unordered else records:
        place = record.key if subject.queue else record.lane
        assert record.position > last.get(place, -1), f"{place!r}: {record.position} came too late"
        last[place] = record.position


# -- checks of all sources


async def check_everything_produced_arrives_in_order(subject: Subject) -> None:
    """What was there before, and what comes while the source is open."""
    await subject.produce(40)
    async with driven(subject.make()) as driver:
        await driver.take(40)
        assert len(_identities(driver.seen)) == 40
        await subject.produce(5)  # while it is open
        await driver.take(5)
        assert len(_identities(driver.seen)) == 45
        _in_order(driver.seen, subject)


async def check_what_is_finished_does_not_come_again_after_a_close(subject: Subject) -> None:
    """A close makes every settlement durable."""
    finished: set[Identity] = set()
    for _ in range(3):
        await subject.produce(10)
        async with driven(subject.make()) as driver:
            await driver.take(1)
            again = _identities(driver.seen) & finished
            assert not again, f"came again after it was finished with: {sorted(again)[:3]}"
            run = driver.taken[0]  # the oldest of its lane: a log's checkpoint moves
            finished |= _identities(driver.source.records(Batch((run,))))
            await driver.finish(run)
    async with driven(subject.make()) as driver:
        rest = await _everything(driver, 30, finished)
        assert not rest & finished
        assert len(rest | finished) == 30


async def check_nothing_is_lost_in_crashes(subject: Subject) -> None:
    """Lives that end at any step, some after settling a part, some in the middle of a call."""
    chance = random.Random(20)
    produced, settled, known = 0, set[Identity](), set[Identity]()
    for life in range(8):
        await subject.produce(6)
        produced += 6
        async with crashed(subject.make()) as driver:
            for _ in range(chance.randrange(12)):
                if driver.taken and chance.random() < 0.4:
                    run = chance.choice(list(driver.taken))
                    records = driver.source.records(Batch((run,)))
                    with anyio.move_on_after(0) if life % 3 == 2 else contextlib.nullcontext():
                        await driver.finish(run)
                    settled |= _identities(records)
                elif driver.may_take() and len(settled) + len(driver.taken) < produced:
                    with anyio.move_on_after(QUIET_SECONDS):
                        await driver.step()
            known |= _identities(driver.seen)
    async with driven(subject.make()) as driver:
        rest = await _everything(driver, produced, settled)
        assert len(rest | settled) == produced, "something was lost"
        assert known <= rest | settled
        _in_order(driver.seen, subject)


async def check_records_come_only_for_lanes_that_are_ready(subject: Subject) -> None:
    """For none, then for each alone, then for all."""
    await subject.produce(40)
    async with driven(subject.make()) as driver:
        await driver.take(1)
        await driver.finish(driver.taken[0])
        driver.ready.clear()
        driver.source.wake()
        await driver.quiet()
        for lane in sorted(driver.ledgers):  # each alone; `step` sees to it that it is this one
            driver.ready = {lane}
            driver.source.wake()
            with anyio.move_on_after(QUIET_SECONDS):
                await driver.step()
            await driver.finish_all()
        driver.ready = set(driver.ledgers)
        driver.source.wake()
        await _everything(driver, 40, set())


async def check_a_waiting_call_hears_that_a_lane_is_ready_again(subject: Subject) -> None:
    """`next` waits without a ready lane; `ready` changes, and `wake` is called."""
    await subject.produce(10)
    async with driven(subject.make()) as driver:
        while not driver.ledgers:
            await driver.step()
        driver.ready.clear()
        loop = asyncio.get_running_loop()

        def now_ready() -> None:
            driver.ready.update(driver.ledgers)
            driver.source.wake()

        await driver.quiet()  # which hears of all lanes, too
        loop.call_later(QUIET_SECONDS / 3, now_ready)
        while not driver.seen:
            await driver.step()


async def check_a_call_of_next_may_be_cancelled(subject: Subject) -> None:
    """The engine gives up a call when it has something better to do; nothing gets lost with it."""
    await subject.produce(15)
    async with driven(subject.make()) as driver:
        for number in range(60):
            with anyio.move_on_after(0.001 * (number % 7)):
                await driver.step()
            if driver.taken and number % 4 == 0:
                await driver.finish(driver.taken[0])
        await _everything(driver, 15, set())
        assert len(_identities(driver.seen)) == 15
        _in_order(driver.seen, subject)


async def check_closing_is_safe_at_any_time(subject: Subject) -> None:
    """Before an open, in the middle of one, and more than once."""
    await subject.produce(3)
    never = subject.make()
    with anyio.fail_after(CLOSE_SECONDS):
        await never.close()
        await never.close()
    half = subject.make()
    async with anyio.create_task_group() as tasks:
        with anyio.move_on_after(0):
            await half.open(_spawn(tasks))
        with anyio.fail_after(CLOSE_SECONDS):
            await half.close()
        tasks.cancel_scope.cancel()
    async with driven(subject.make()) as driver:
        await driver.take(1)
        await driver.close()
    async with driven(subject.make()) as driver:
        assert len(await _everything(driver, 3, set())) == 3


async def check_views_have_their_form_at_any_time(subject: Subject) -> None:
    """Before, during and after; what is not finished with counts as lag."""
    source = subject.make()
    _is_view(source.view())
    await subject.produce(12)
    async with driven(source) as driver:
        await driver.take(4)
        view = source.view()
        _is_view(view)
        assert view.state == "running", view
        lags = [lane.lag for lane in view.lanes.values()]
        assert None in lags or sum(lag or 0 for lag in lags) >= len(driver.seen)
        await _everything(driver, 12, set())
        _is_view(source.view())
    _is_view(source.view())


async def check_events_are_what_their_records_say(subject: Subject) -> None:
    """The event, its shape and its records agree, in halves too."""
    await subject.produce(8)
    async with driven(subject.make()) as driver:
        await driver.take(8)
        for run in driver.taken:
            batch = Batch((run,))
            event = orjson.loads(driver.source.event(batch))
            assert isinstance(event, dict)
            shaped = driver.source.shape(batch)
            if shaped.encoding is Encoding.JSON:
                assert orjson.loads(b"".join(shaped.parts)) == event
            info = driver.source.batch_info(batch)
            assert len(info) == 1
            assert all(name.endswith(("BatchInfo", "Invocation")) for name in info)
            orjson.dumps(info)
            if run.count > 1:
                head, tail = batch.split()
                both = driver.source.records(head) + driver.source.records(tail)
                assert both == driver.source.records(batch)


# -- of logs


async def check_a_lane_that_is_read_again_gives_the_same(subject: Subject) -> None:
    """`rewind` to the middle of what came."""
    await subject.produce(25)
    async with driven(subject.make()) as driver:
        await driver.take(25)
        lane = driver.taken[0].lane
        before = [record for record in driver.seen if record.lane == lane]
        middle = before[len(before) // 2].position
        driver.ledgers[lane].rewind(middle)
        driver.taken = deque(run for run in driver.taken if run.lane != lane)
        await driver.source.rewind(lane, middle)
        wanted = [record for record in before if record.position >= middle]
        start = len(driver.seen)
        again: list[Record] = []
        while len(again) < len(wanted):
            await driver.step()
            again = [record for record in driver.seen[start:] if record.lane == lane]
        assert again == wanted


async def check_a_checkpoint_holds_whatever_lies_behind_it(subject: Subject) -> None:
    """Finished out of order: what is finished behind something open comes again after a crash."""
    await subject.produce(20)
    async with driven(subject.make()) as driver:
        await driver.take(20)
        first: dict[Lane, Run] = {}
        for run in driver.taken:
            first.setdefault(run.lane, run)
        kept = _identities(
            r for run in first.values() for r in driver.source.records(Batch((run,)))
        )
        for run in list(driver.taken):
            if run is not first[run.lane]:
                await driver.finish(run)
    async with driven(subject.make()) as driver:
        came = await _everything(driver, len(kept), set())
        assert kept <= came


async def check_a_lane_goes_on_from_where_it_is_sent_to(subject: Subject) -> None:
    """Forth and back; it is not read in between, and a crash changes nothing of it."""
    await subject.produce(30)
    async with crashed(subject.make()) as driver:
        log = driver.source
        assert isinstance(log, Seekable)
        await driver.take(30)
        lane = driver.taken[0].lane
        before = [record for record in driver.seen if record.lane == lane]
        assert log.standing()[lane] == before[0].position
        ends = await log.places(list(driver.ledgers), "latest")
        assert ends[lane] == before[-1].position + 1
        for wanted in (before[len(before) // 2 :], before):
            driver.let_go(lane)
            await log.seek({lane: wanted[0].position})
            assert log.standing()[lane] == wanted[0].position
            await driver.quiet()
            await log.closed(lane)
            assert await driver.until(lane, len(wanted)) == wanted
        driver.let_go(lane)
        await log.seek({lane: before[-1].position})
    async with driven(subject.make()) as driver:
        while lane not in driver.ledgers:
            await driver.step()
        assert (await driver.until(lane, 1))[0] == before[-1]


async def check_a_seek_that_is_cut_off_leaves_one_of_the_two_places(subject: Subject) -> None:
    """Whether by a deadline or by a crash: it stands where it stood, or where it was sent to."""
    await subject.produce(30)
    async with driven(subject.make()) as driver:
        await driver.take(30)
        lane = driver.taken[0].lane
        first, *_, last = (each.position for each in driver.seen if each.lane == lane)
    stood = to = first
    for step in range(7):
        async with crashed(subject.make()) as driver:
            log = driver.source
            assert isinstance(log, Seekable)
            while lane not in driver.ledgers:
                await driver.step()
            assert log.standing()[lane] in {stood, to}
            stood = log.standing()[lane]
            to = last if stood == first else first
            driver.let_go(lane)
            with anyio.move_on_after(0.0002 * 2**step):
                await log.seek({lane: to})
            if step % 2:  # it goes on from where it says that it stands
                stands = log.standing()[lane]
                assert stands in {stood, to}
                await log.closed(lane)
                assert (await driver.until(lane, 1))[0].position == stands
    async with driven(subject.make()) as driver:
        while lane not in driver.ledgers:
            await driver.step()
        assert (await driver.until(lane, 1))[0].position in {stood, to}


# -- of queues


async def check_a_log_is_read_once_more_beside_its_reading(subject: Subject) -> None:
    """In pages, and in order; what it is read for otherwise does not move by that."""
    await subject.produce(12)
    async with driven(subject.make()) as driver:
        log = driver.source
        assert isinstance(log, Rereadable)
        await driver.take(12)
        found: dict[Lane, list[Identity]] = {}
        for lane, stretch in (await log.stretches((), Stretch())).items():
            asked, more = stretch, True
            while more:
                page = await log.reread(lane, asked, 3)
                found.setdefault(lane, []).extend(map(identity, page.records))
                asked, more = replace(asked, after=page.reached), page.more
        for lane in driver.ledgers:
            read = [identity(each) for each in driver.seen if each.lane == lane]
            assert found.get(lane, []) == read
    async with driven(subject.make()) as driver:
        await driver.take(12)


async def check_what_goes_back_comes_again_when_it_is_due(subject: Subject) -> None:
    """At once and uncounted, later and counted, and counted after a restart."""
    await subject.produce(3)
    loop = asyncio.get_running_loop()
    async with driven(subject.make()) as driver:
        await driver.take(1)
        run = driver.taken[0]
        (record,) = driver.source.records(Batch((run,)))
        assert run.deliveries == 0
        await driver.release(run, None)  # aborted or throttled: does not count
        run = await _until_again(driver, record)
        assert run.deliveries == 0
        at = Instant(loop.time() + 2 * QUIET_SECONDS)
        await driver.release(run, at)
        run = await _until_again(driver, record)
        assert loop.time() >= at
        assert run.deliveries == 1
    assert len(_identities(driver.seen)) == 3, "others were held up"
    async with driven(subject.make()) as driver:
        run = await _until_again(driver, record)
        forgets = "a restart forgets no failure"
        assert run.deliveries == 1 or (subject.counts_itself and run.deliveries > 1), forgets


async def check_a_record_is_in_the_hands_of_one_lane_only(subject: Subject) -> None:
    """Nothing comes twice while it is in hand."""
    await subject.produce(6)
    async with driven(subject.make()) as driver:
        await driver.take(6)
        held = [(run.first, run.last) for run in driver.taken]
        assert len(set(held)) == len(held)
        with anyio.move_on_after(QUIET_SECONDS):
            await driver.step()
        assert len(_identities(driver.seen)) == len(driver.seen) == 6


# -- of sources that lose lanes, and that cannot connect


async def check_a_lane_that_is_taken_away_is_let_go(subject: Subject) -> None:
    """What is settled before `closed` is durable; the rest comes to others."""
    assert subject.revoke is not None
    await subject.produce(40)
    async with driven(subject.make()) as driver:
        await driver.take(10)
        await subject.revoke(driver.source)
        while not driver.closing:
            await driver.step()
        await subject.produce(10)
        with anyio.move_on_after(QUIET_SECONDS):
            while True:  # `step` sees to it that nothing comes of a lane that closes
                await driver.step()
        for lane, grace_seconds in list(driver.closing.items()):
            assert grace_seconds > 0
            driver.ready.discard(lane)
            for run in [run for run in driver.taken if run.lane == lane]:
                await driver.finish(run)
            with anyio.fail_after(PATIENCE_SECONDS):
                await driver.source.closed(lane)
            driver.ledgers.pop(lane)
            driver.closing.pop(lane)
        finished = _identities(driver.seen) - _identities(
            r for run in driver.taken for r in driver.source.records(Batch((run,)))
        )
    async with driven(subject.make()) as driver:
        rest = await _everything(driver, 50, finished)
        assert not rest & finished
        assert len(rest | finished) == 50


async def check_an_unreachable_backing_is_the_typed_error(subject: Subject) -> None:
    """`open` raises a `WorldError` that says why; `close` works after it."""
    assert subject.unreachable is not None
    source = subject.unreachable()
    said = ""
    async with anyio.create_task_group() as tasks:
        with anyio.fail_after(PATIENCE_SECONDS):
            try:
                await source.open(_spawn(tasks))
            except WorldError as error:
                said = str(error)
        tasks.cancel_scope.cancel()
    assert said, "it opened, or does not say why it did not"
    with anyio.fail_after(CLOSE_SECONDS):
        await source.close()
    _is_view(source.view())


# -- small


async def _everything(driver: Driver, count: int, without: set[Identity]) -> set[Identity]:
    """Takes and finishes until `count` different records are known, those of `without` too."""
    await driver.finish_all()
    while len(_identities(driver.seen) | without) < count:
        await driver.step()
        await driver.finish_all()
    return _identities(driver.seen)


async def _until_again(driver: Driver, wanted: Record) -> Run:
    """Finishes whatever else comes."""
    while True:
        for run in list(driver.taken):
            if _identities(driver.source.records(Batch((run,)))) == {identity(wanted)}:
                return run
            await driver.finish(run)
        await driver.step()


def _is_view(view: SourceView) -> None:
    assert view.state in {"connecting", "running", "degraded"}, view.state
    assert isinstance(view.reason, str)
    for lane, about in view.lanes.items():
        assert isinstance(lane, Lane)
        assert isinstance(about, LaneView)
        assert about.lag is None or about.lag >= 0
    for lane, reason in view.blocked.items():
        assert isinstance(lane, Lane)
        assert reason
    orjson.dumps(dict(view.details))


_OF_ALL: tuple[Check, ...] = (
    check_everything_produced_arrives_in_order,
    check_what_is_finished_does_not_come_again_after_a_close,
    check_nothing_is_lost_in_crashes,
    check_records_come_only_for_lanes_that_are_ready,
    check_a_waiting_call_hears_that_a_lane_is_ready_again,
    check_a_call_of_next_may_be_cancelled,
    check_closing_is_safe_at_any_time,
    check_views_have_their_form_at_any_time,
    check_events_are_what_their_records_say,
)
_OF_LOGS: tuple[Check, ...] = (
    check_a_lane_that_is_read_again_gives_the_same,
    check_a_checkpoint_holds_whatever_lies_behind_it,
)
_OF_SEEKABLE: tuple[Check, ...] = (
    check_a_lane_goes_on_from_where_it_is_sent_to,
    check_a_seek_that_is_cut_off_leaves_one_of_the_two_places,
)
_OF_REREADABLE: tuple[Check, ...] = (check_a_log_is_read_once_more_beside_its_reading,)
_OF_QUEUES: tuple[Check, ...] = (
    check_what_goes_back_comes_again_when_it_is_due,
    check_a_record_is_in_the_hands_of_one_lane_only,
)
_OF_REVOKED: tuple[Check, ...] = (check_a_lane_that_is_taken_away_is_let_go,)
_OF_UNREACHABLE: tuple[Check, ...] = (check_an_unreachable_backing_is_the_typed_error,)
