"""What a queue must keep beside that: its records are given back one by one, and come again."""

from __future__ import annotations

import asyncio

import anyio

from streamfaas.flow.record import Instant
from streamfaas.testing.conformance.driving import QUIET_SECONDS, driven, identities
from streamfaas.testing.conformance.subject import Check, Subject


async def check_what_goes_back_comes_again_when_it_is_due(subject: Subject) -> None:
    """At once and uncounted, later and counted, and counted after a restart."""
    await subject.produce(3)
    loop = asyncio.get_running_loop()
    async with driven(subject.make()) as driver:
        await driver.take(1)
        run = driver.taken[0]
        (record,) = driver.records(run)
        assert run.deliveries == 0
        await driver.release(run, None)  # aborted or throttled: does not count
        run = await driver.until_again(record)
        assert run.deliveries == 0
        at = Instant(loop.time() + 2 * QUIET_SECONDS)
        await driver.release(run, at)
        run = await driver.until_again(record)
        assert loop.time() >= at
        assert run.deliveries == 1
    assert len(identities(driver.seen)) == 3, "others were held up"
    async with driven(subject.make()) as driver:
        run = await driver.until_again(record)
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
        assert len(identities(driver.seen)) == len(driver.seen) == 6


CHECKS: tuple[Check, ...] = (
    check_what_goes_back_comes_again_when_it_is_due,
    check_a_record_is_in_the_hands_of_one_lane_only,
)
