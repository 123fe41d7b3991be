"""What every source must keep, whatever its kind."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterable

import anyio
import orjson

from streamfaas.flow.batch import Batch
from streamfaas.flow.errors import WorldError
from streamfaas.flow.event import Encoding
from streamfaas.flow.record import Lane, Record
from streamfaas.sources import LaneView, SourceView
from streamfaas.testing.conformance.driving import (
    QUIET_SECONDS,
    Identity,
    closed,
    crashed,
    driven,
    identities,
    opened,
)
from streamfaas.testing.conformance.subject import Check, Subject


async def check_everything_produced_arrives_in_order(subject: Subject) -> None:
    """What was there before, and what comes while the source is open."""
    await subject.produce(40)
    async with driven(subject.make()) as driver:
        await driver.take(40)
        assert len(identities(driver.seen)) == 40
        await subject.produce(5)  # while it is open
        await driver.take(5)
        assert len(identities(driver.seen)) == 45
        _in_order(driver.seen, subject)


async def check_what_is_finished_does_not_come_again_after_a_close(subject: Subject) -> None:
    """A close makes every settlement durable."""
    finished: set[Identity] = set()
    for _ in range(3):
        await subject.produce(10)
        async with driven(subject.make()) as driver:
            await driver.take(1)
            again = identities(driver.seen) & finished
            assert not again, f"came again after it was finished with: {sorted(again)[:3]}"
            run = driver.taken[0]  # the oldest of its lane: a log's checkpoint moves
            finished |= identities(driver.records(run))
            await driver.finish(run)
    async with driven(subject.make()) as driver:
        rest = await driver.take_everything(30, finished)
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
                    records = driver.records(run)
                    with anyio.move_on_after(0) if life % 3 == 2 else contextlib.nullcontext():
                        await driver.finish(run)
                    settled |= identities(records)
                elif driver.may_take() and len(settled) + len(driver.taken) < produced:
                    with anyio.move_on_after(QUIET_SECONDS):
                        await driver.step()
            known |= identities(driver.seen)
    async with driven(subject.make()) as driver:
        rest = await driver.take_everything(produced, settled)
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
        await driver.take_everything(40)


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
        await driver.take_everything(15)
        assert len(identities(driver.seen)) == 15
        _in_order(driver.seen, subject)


async def check_closing_is_safe_at_any_time(subject: Subject) -> None:
    """Before an open, in the middle of one, and more than once."""
    await subject.produce(3)
    never = subject.make()
    await closed(never)
    await closed(never)
    half = subject.make()
    async with anyio.create_task_group() as tasks:
        with anyio.move_on_after(0):
            await opened(half, tasks)
        await closed(half)
        tasks.cancel_scope.cancel()
    async with driven(subject.make()) as driver:
        await driver.take(1)
        await driver.close()
    async with driven(subject.make()) as driver:
        assert len(await driver.take_everything(3)) == 3


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
        await driver.take_everything(12)
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


async def check_an_unreachable_backing_is_the_typed_error(subject: Subject) -> None:
    """`open` raises a `WorldError` that says why; `close` works after it."""
    assert subject.unreachable is not None
    source = subject.unreachable()
    said = ""
    async with anyio.create_task_group() as tasks:
        try:
            await opened(source, tasks)
        except WorldError as error:
            said = str(error)
        tasks.cancel_scope.cancel()
    assert said, "it opened, or does not say why it did not"
    await closed(source)
    _is_view(source.view())


CHECKS: tuple[Check, ...] = (
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


def _in_order(records: Iterable[Record], subject: Subject) -> None:
    last: dict[object, int] = {}
    for record in () if subject.unordered else records:
        place = record.key if subject.queue else record.lane
        assert record.position > last.get(place, -1), f"{place!r}: {record.position} came too late"
        last[place] = record.position


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
