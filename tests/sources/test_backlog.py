from __future__ import annotations

import asyncio
import itertools
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from source_subjects import loop_clock, silent
from streamfaas.flow.batch import Batch
from streamfaas.flow.errors import Unreachable
from streamfaas.flow.event import Encoding
from streamfaas.flow.invocation import Manner
from streamfaas.flow.ledger import Receipts
from streamfaas.flow.letters import HOPS_HEADER, hops_of
from streamfaas.flow.outcome import Failure, Fault
from streamfaas.flow.record import Instant
from streamfaas.flow.verdict import BLOCKED_AFTER, Moment, Release, RetryPolicy, judge_async
from streamfaas.sources import Arrived, Opened, backlog
from streamfaas.sources.backlog import (
    CONTEXT_HEADER,
    REPLAYS_HEADER,
    AsyncInvocations,
    BacklogOptions,
)
from streamfaas.store import Store
from streamfaas.store.backlog import Backlog
from streamfaas.testing.conformance import driven


class Wall:
    """A clock on the wall that somebody turns."""

    def __init__(self) -> None:
        self.seconds = 1_700_000_000.0

    def __call__(self) -> float:
        return self.seconds


@asynccontextmanager
async def stored(folder: Path, wall=None):
    """A store, and the backlog in it."""
    store = await Store.open(folder / "state" / "streamfaas.db")
    try:
        yield store, (Backlog(store) if wall is None else Backlog(store, wall_clock=wall))
    finally:
        await store.close()


def source(accepted: Backlog, parallel: int = 3) -> AsyncInvocations:
    options = BacklogOptions("mail", parallel=parallel)
    return AsyncInvocations("mail/async", options, backlog=accepted, clock=loop_clock, emit=silent)


EVENTS = st.lists(
    st.tuples(st.sampled_from(["", "a", "b"]), st.integers(0, 2), st.integers(0, 4)), max_size=30
)
"""Of each event the order key, how often it fails, and for how many turns of the loop it runs."""


async def run_to_the_end(made, ready, events):
    """As an engine would, all lanes at once: who ran, in order, and with which deliveries."""
    ran, left = [], len(events)

    async def call(run):
        nonlocal left
        (record,) = made.records(Batch((run,)))
        number = int(record.value)
        key, failures, turns = events[number]
        ran.append((key, number, run.deliveries))
        for _ in range(turns):
            await asyncio.sleep(0)
        place = ((run.first, run.last),)
        aborted = turns == 4 and ran.count((key, number, run.deliveries)) == 1
        if aborted:
            await made.settle(Receipts(run.lane, released=place, counted=False))
        elif run.deliveries < failures:
            await made.settle(Receipts(run.lane, released=place, at=loop_clock()))
        else:
            left -= 1
            await made.settle(Receipts(run.lane, finished=place))
        ready.add(run.lane)
        made.wake()

    with anyio.fail_after(60):
        async with anyio.create_task_group() as lanes:
            while left:
                with anyio.move_on_after(0.05):  # the last may be running: nothing more comes
                    match await made.next(ready):
                        case Opened(lane):
                            ready.add(lane)
                        case Arrived(run):
                            ready.discard(run.lane)
                            lanes.start_soon(call, run)
    return ran


@pytest.mark.slow
@settings(max_examples=25)
@given(events=EVENTS, parallel=st.integers(1, 4), early=st.integers(0, 30))
def test_every_event_runs_to_its_end_and_those_of_a_key_in_order(events, parallel, early):
    async def main(folder):
        async with stored(Path(folder)) as (_, accepted):
            numbered = list(enumerate(events))

            async def accept(some):
                for number, (key, *_) in some:
                    await accepted.accept("mail", b"%d" % number, f"r-{number}", order_key=key)

            await accept(numbered[:early])
            made = source(accepted, parallel)
            async with driven(made), anyio.create_task_group() as others:
                others.start_soon(accept, numbered[early:])
                ran = await run_to_the_end(made, set(), events)
            assert [queue.events for queue in await accepted.queues()] in ([0], [])
            return ran

    with tempfile.TemporaryDirectory() as folder:
        ran = asyncio.run(main(folder))
    for number, (key, failures, _) in enumerate(events):
        deliveries = [given for _, ran_number, given in ran if ran_number == number]
        assert sorted(set(deliveries)) == list(range(failures + 1)), key
    for key in "ab":
        order = [number for ran_key, number, _ in ran if ran_key == key]
        assert order == sorted(order)


def test_what_waits_is_told_truly_whatever_comes_and_goes(tmp_path):
    async def main():
        async with stored(tmp_path) as (_, accepted):

            def told():
                view = made.view()
                return view.details["waiting"], sum(lane.lag for lane in view.lanes.values())

            made = source(accepted, 3)
            await accepted.accept("mail", b"{}", "first")
            async with driven(made) as driver:
                await driver.take(1)
                for number in range(99):
                    await accepted.accept("mail", b"{}", str(number))
                    assert told() == (number + 1, number + 2)
                await driver.take(2)
                assert told() == (97, 100)
                await driver.finish(driver.taken[0])
                assert told() == (97, 99)
                await driver.release(driver.taken[0], Instant(loop_clock() + 60))
                assert told() == (98, 99)

    asyncio.run(main())


def test_what_is_put_off_stays_so_over_a_restart(tmp_path, monkeypatch):
    monkeypatch.setattr(backlog, "IDLE_SECONDS", 0.01)
    wall = Wall()

    async def main():
        async with stored(tmp_path, wall) as (_, accepted):
            await accepted.accept("mail", b"{}", "one")
            async with driven(source(accepted)) as driver:
                await driver.take(1)
                await driver.release(driver.taken[0], Instant(loop_clock() + 60))
        async with (
            stored(tmp_path, wall) as (_, accepted),
            driven(source(accepted)) as driver,
        ):
            wall.seconds += 59
            await driver.quiet()
            wall.seconds += 2
            await driver.take(1)
            assert driver.taken[0].deliveries == 1
            assert driver.seen[0].timestamp_ms == 1_700_000_000_000

    asyncio.run(main())


def test_as_on_lambda_a_failure_waits_a_minute_then_two_and_a_throttle_is_not_counted(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(backlog, "IDLE_SECONDS", 0.01)
    wall = Wall()
    policy = RetryPolicy(2, backoff_seconds=60.0, backoff_seconds_max=120.0)
    failure = Failure(Fault.FUNCTION, "KeyError", "total")
    throttle = Failure(Fault.THROTTLED, "TooManyRequests", "Rate Exceeded.")

    async def main():
        waits = []
        async with stored(tmp_path, wall) as (_, accepted):
            await accepted.accept("mail", b"{}", "one")
            made = source(accepted)
            async with driven(made) as driver:
                for outcome in (failure, throttle, failure):
                    while not driver.taken:
                        await driver.step()
                    run = driver.taken.popleft()
                    moment = Moment(loop_clock(), wall=wall())
                    verdict = made.judge(Batch((run,)), outcome, policy, moment)
                    assert isinstance(verdict, Release)
                    waits.append((run.deliveries, round(verdict.at - moment.now)))
                    ledger = driver.ledgers[run.lane]
                    receipts = ledger.release(Batch((run,)), verdict.at, counted=verdict.counted)
                    await made.settle(receipts)
                    wall.seconds += verdict.at - moment.now + 1
                await driver.take(1)
                run = driver.taken[0]
                verdict = made.judge(Batch((run,)), failure, policy, Moment(loop_clock()))
                assert verdict.condition == "RetriesExhausted"
                await driver.finish_all()
        return waits

    assert asyncio.run(main()) == [(0, 60), (1, 61), (1, 120)]


def test_the_event_is_what_was_accepted_and_the_record_tells_how_it_came(tmp_path):
    wall = Wall()

    async def main():
        async with stored(tmp_path, wall) as (_, accepted):
            number = await accepted.accept(
                "mail", b'{"a": 1}', "one", hops=2, replays=1, client_context=b'{"custom":{}}'
            )
            await accepted.accept("mail", b"[]", "two")
            await accepted.accept("resize", b"{}", "of another")
            made = source(accepted)
            assert (made.judge, made.manner) == (judge_async, Manner.ASYNC)
            async with driven(made) as driver:
                one, two = await driver.take(2)
                batch = Batch((driver.taken[0],))
                assert made.event(batch) == b'{"a": 1}'
                shape = made.shape(batch)
                assert (shape.encoding, shape.parts) == (Encoding.JSON, (b'{"a": 1}',))
                assert (one.position, one.key) == (number, b"one")
                assert one.headers == (
                    (HOPS_HEADER, b"2"),
                    (REPLAYS_HEADER, b"1"),
                    (CONTEXT_HEADER, b'{"custom":{}}'),
                )
                assert hops_of([one]) == 2
                assert two.headers == ()
                assert made.request_id(batch) == "one"
                assert made.face(one) == ({}, b'{"a": 1}')
                assert made.batch_info(batch) == {
                    "AsyncInvocation": {
                        "requestId": "one",
                        "acceptedTimestamp": 1_700_000_000_000,
                        "hops": 2,
                        "replays": 1,
                    }
                }
                view = made.view()
                assert {lane.note for lane in view.lanes.values()} == {"one", "two", ""}
                assert view.details == {"function": "mail", "waiting": 0}

    asyncio.run(main())


def test_an_event_that_fails_and_fails_is_shown_until_it_is_over_with(tmp_path):
    async def main():
        async with stored(tmp_path) as (_, accepted):
            await accepted.accept("mail", b"{}", "one")
            made = source(accepted)
            async with driven(made) as driver:
                for failures in itertools.count(1):
                    while not driver.taken:
                        await driver.step()
                    blocked = [lane.name for lane in made.view().blocked]
                    assert blocked == (["one"] if failures > BLOCKED_AFTER else [])
                    if failures > BLOCKED_AFTER + 1:
                        break
                    await driver.release(driver.taken[0], loop_clock())
                await driver.finish_all()
                assert not made.view().blocked

    asyncio.run(main())


def test_what_a_lane_held_when_it_closed_goes_to_another(tmp_path):
    async def main():
        async with stored(tmp_path) as (_, accepted):
            await accepted.accept("mail", b"{}", "one")
            made = source(accepted, parallel=2)
            async with driven(made) as driver:
                await driver.take(1)
                run = driver.taken.popleft()
                driver.ready.discard(run.lane)
                await made.closed(run.lane)
                while not driver.taken:
                    await driver.step()
                assert driver.taken[0].lane != run.lane
                await made.settle(Receipts(run.lane, finished=((run.first, run.last),)))
                await driver.finish_all()

    asyncio.run(main())


def test_a_store_that_fails_is_the_typed_error(tmp_path):
    async def main():
        async with stored(tmp_path) as (store, accepted):
            await accepted.accept("mail", b"{}", "one")
            made = source(accepted)
            async with driven(made) as driver:
                await driver.take(1)
                await store.close()
                with pytest.raises(Unreachable, match="closed"):
                    await driver.finish(driver.taken[0])
                made._heard()
                with pytest.raises(Unreachable, match="closed"):
                    await driver.step()

    asyncio.run(main())
