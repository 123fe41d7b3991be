"""What a log must keep beside that: its lanes have an order, and a place where they stand."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import anyio

from streamfaas.flow.record import Lane, Run
from streamfaas.sources import Rereadable, Seekable, Stretch
from streamfaas.testing.conformance.driving import (
    QUIET_SECONDS,
    Identity,
    crashed,
    driven,
    identities,
    identity,
)
from streamfaas.testing.conformance.subject import Check, Subject


async def check_a_lane_that_is_read_again_gives_the_same(subject: Subject) -> None:
    """`rewind` to the middle of what came."""
    await subject.produce(25)
    async with driven(subject.make()) as driver:
        await driver.take(25)
        lane = driver.taken[0].lane
        before = driver.seen_of(lane)
        middle = before[len(before) // 2].position
        driver.ledgers[lane].rewind(middle)
        driver.taken = deque(run for run in driver.taken if run.lane != lane)
        await driver.source.rewind(lane, middle)
        wanted = [record for record in before if record.position >= middle]
        assert await driver.until(lane, len(wanted)) == wanted


async def check_a_checkpoint_holds_whatever_lies_behind_it(subject: Subject) -> None:
    """Finished out of order: what is finished behind something open comes again after a crash."""
    await subject.produce(20)
    async with driven(subject.make()) as driver:
        await driver.take(20)
        first: dict[Lane, Run] = {}
        for run in driver.taken:
            first.setdefault(run.lane, run)
        kept = identities(driver.records(*first.values()))
        for run in list(driver.taken):
            if run is not first[run.lane]:
                await driver.finish(run)
    async with driven(subject.make()) as driver:
        came = await driver.take_everything(len(kept))
        assert kept <= came


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
            await driver.leave(lane)
        finished = identities(driver.seen) - identities(driver.records(*driver.taken))
    async with driven(subject.make()) as driver:
        rest = await driver.take_everything(50, finished)
        assert not rest & finished
        assert len(rest | finished) == 50


async def check_a_lane_goes_on_from_where_it_is_sent_to(subject: Subject) -> None:
    """Forth and back; it is not read in between, and a crash changes nothing of it."""
    await subject.produce(30)
    async with crashed(subject.make()) as driver:
        log = driver.source
        assert isinstance(log, Seekable)
        await driver.take(30)
        lane = driver.taken[0].lane
        before = driver.seen_of(lane)
        assert log.standing()[lane] == subject.spot(before[0])
        for wanted in (before[len(before) // 2 :], before):
            driver.let_go(lane)
            await log.seek({lane: subject.spot(wanted[0])})
            assert log.standing()[lane] == subject.spot(wanted[0])
            await driver.quiet()
            await log.closed(lane)
            came = await driver.until(lane, len(wanted))
            assert list(map(subject.spot, came)) == list(map(subject.spot, wanted))
            assert list(map(identity, came)) == list(map(identity, wanted))
        driver.let_go(lane)
        await log.seek({lane: subject.spot(before[-1])})
    async with driven(subject.make()) as driver:
        await driver.until_open(lane)
        assert identity((await driver.until(lane, 1))[0]) == identity(before[-1])


async def check_lanes_that_are_sent_to_their_end_give_what_comes_then(subject: Subject) -> None:
    """Nothing of what was there before, whatever of it was settled, and all of what comes."""
    await subject.produce(20)
    async with driven(subject.make()) as driver:
        log = driver.source
        assert isinstance(log, Seekable)
        await driver.take(20)
        await driver.finish(driver.taken[0])
        lanes = list(driver.ledgers)
        for lane in lanes:
            driver.let_go(lane)
        await log.seek(await log.places(lanes, "latest"))
        for lane in lanes:
            await log.closed(lane)
        for lane in lanes:
            await driver.until_open(lane)
        await driver.quiet()
        await subject.produce(6)
        before, came = driver.seen[:], await driver.take(6)
        assert len(set(map(identity, came)) - set(map(identity, before))) == 6


async def check_a_seek_that_is_cut_off_leaves_one_of_the_two_places(subject: Subject) -> None:
    """Whether by a deadline or by a crash: it stands where it stood, or where it was sent to."""
    await subject.produce(30)
    async with driven(subject.make()) as driver:
        await driver.take(30)
        lane = driver.taken[0].lane
        first, *_, last = map(subject.spot, driver.seen_of(lane))
    stood = to = first
    for step in range(4):
        async with crashed(subject.make()) as driver:
            log = driver.source
            assert isinstance(log, Seekable)
            await driver.until_open(lane)
            assert log.standing()[lane] in {stood, to}
            stood = log.standing()[lane]
            to = last if stood == first else first
            driver.let_go(lane)
            with anyio.move_on_after(0.0005 * 8**step):
                await log.seek({lane: to})
            if step % 2:  # it goes on from where it says that it stands
                stands = log.standing()[lane]
                assert stands in {stood, to}
                await log.closed(lane)
                assert subject.spot((await driver.until(lane, 1))[0]) == stands
    async with driven(subject.make()) as driver:
        await driver.until_open(lane)
        assert subject.spot((await driver.until(lane, 1))[0]) in {stood, to}


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
            assert found.get(lane, []) == list(map(identity, driver.seen_of(lane)))
    async with driven(subject.make()) as driver:
        await driver.take(12)


CHECKS: tuple[Check, ...] = (
    check_a_lane_that_is_read_again_gives_the_same,
    check_a_checkpoint_holds_whatever_lies_behind_it,
)
OF_SEEKABLE: tuple[Check, ...] = (
    check_a_lane_goes_on_from_where_it_is_sent_to,
    check_lanes_that_are_sent_to_their_end_give_what_comes_then,
    check_a_seek_that_is_cut_off_leaves_one_of_the_two_places,
)
