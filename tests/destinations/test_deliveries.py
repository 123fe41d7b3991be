"""The suite that all destinations keep, tried on such as do not keep it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import anyio
import pytest

import delivery_subjects
from streamfaas.destinations.function import Function
from streamfaas.flow.errors import Busy, StoreError, Unreachable, WorldError
from streamfaas.testing import deliveries as suite
from streamfaas.testing.simulation import simulate


class SaysSoBeforeItIsThere(Function):
    async def send(self, letters):
        self.later = [*getattr(self, "later", []), *letters]

    async def close(self):
        later, self.later = getattr(self, "later", []), []
        await super().send(later)


class SendsTheFirstOnly(Function):
    async def send(self, letters):
        await super().send(letters[:1])


class NeedsAnOpen(Function):
    opened = False

    async def open(self):
        self.opened = True

    async def send(self, letters):
        await super().send(letters if self.opened else ())


class SendsSomethingAnyway(Function):
    async def send(self, letters):
        await super().send(letters or suite.letters(1, start=99))


class NumbersItsLetters(Function):
    count = 0

    async def send(self, letters):
        self.count += 1
        await super().send([replace(one, id=f"{self.count:032x}") for one in letters])


class MixesWhatIsSentAtOnce(Function):
    async def send(self, letters):
        self.now = letters
        await anyio.sleep(0.01)
        await super().send(self.now)


class TakesSmallOnesOnly(Function):
    async def send(self, letters):
        await super().send([one for one in letters if len(one.document) < 1 << 20])


class ClosesOnlyOnce(Function):
    closed = False

    async def close(self):
        assert not self.closed
        self.closed = True


class IsStuckAfterACancel(Function):
    stuck = False

    async def send(self, letters):
        if self.stuck:
            return
        self.stuck = True
        await super().send(letters)
        self.stuck = False


class LeavesATask(Function):
    async def send(self, letters):
        self.kept = asyncio.ensure_future(asyncio.sleep(1000))
        await super().send(letters)


class SwallowsErrors(Function):
    async def send(self, letters):
        try:
            await super().send(letters)
        except (Unreachable, Busy):
            return


class GivesUpForGood(Function):
    down = False

    async def send(self, letters):
        if self.down:
            raise Unreachable("down")
        try:
            await super().send(letters)
        except (Unreachable, Busy):
            self.down = True
            raise


class SaysNothing(Function):
    async def send(self, letters):
        try:
            await super().send(letters)
        except (Unreachable, Busy) as error:
            raise type(error) from error


class WaitsForEver(Function):
    async def send(self, letters):
        try:
            await super().send(letters)
        except (Unreachable, Busy):
            await anyio.sleep_forever()


class LetsOthersErrorsThrough(Function):
    async def send(self, letters):
        try:
            await super().send(letters)
        except (Unreachable, Busy) as error:
            raise StoreError("disk") from error


BROKEN = {
    SaysSoBeforeItIsThere: suite.check_what_was_sent_is_there_when_the_call_returns,
    SendsTheFirstOnly: suite.check_what_was_sent_is_there_when_the_call_returns,
    NeedsAnOpen: suite.check_what_was_sent_is_there_when_the_call_returns,
    SendsSomethingAnyway: suite.check_nothing_to_send_is_nothing_sent,
    NumbersItsLetters: suite.check_what_is_sent_again_is_the_same,
    MixesWhatIsSentAtOnce: suite.check_letters_of_many_lanes_do_not_mix,
    TakesSmallOnesOnly: suite.check_a_large_letter_arrives,
    ClosesOnlyOnce: suite.check_closing_is_safe_at_any_time,
    IsStuckAfterACancel: suite.check_a_call_may_be_cancelled_at_any_time,
    LeavesATask: suite.check_a_call_may_be_cancelled_at_any_time,
}

BROKEN_WHEN_BROKEN = {
    SwallowsErrors: suite.check_a_fault_is_a_typed_error_and_what_is_sent_again_arrives,
    GivesUpForGood: suite.check_a_life_may_begin_with_a_fault,
    SaysNothing: suite.check_a_fault_is_a_typed_error_and_what_is_sent_again_arrives,
    WaitsForEver: suite.check_a_life_may_begin_with_a_fault,
    LetsOthersErrorsThrough: suite.check_a_life_may_begin_with_a_fault,
    LeavesATask: suite.check_a_broken_destination_can_be_left,
}


def found(check, kind, fault=None):
    """Whether the check finds something wrong with this kind."""

    async def main():
        async with delivery_subjects.function(kind) as (subject, faults):
            try:
                await (check(subject, faults[fault]) if fault else check(subject))
            except (AssertionError, TimeoutError, StoreError, WorldError):
                return True
            finally:
                for task in asyncio.all_tasks() - {asyncio.current_task()}:
                    task.cancel()
            return False

    return simulate(main)[0]


@pytest.mark.parametrize("kind", BROKEN, ids=lambda kind: kind.__name__)
def test_a_destination_that_breaks_the_contract_is_found(kind):
    assert found(BROKEN[kind], kind)


@pytest.mark.parametrize("kind", BROKEN_WHEN_BROKEN, ids=lambda kind: kind.__name__)
def test_a_destination_that_fails_badly_is_found(kind):
    assert found(BROKEN_WHEN_BROKEN[kind], kind, "full")


def test_every_check_has_found_something():
    checks = {*BROKEN.values(), *BROKEN_WHEN_BROKEN.values()}
    assert checks == {*suite.CHECKS, *suite.FAULT_CHECKS}


@pytest.mark.parametrize("check", suite.CHECKS, ids=lambda check: check.__name__)
def test_a_destination_that_keeps_it_is_not_suspected(check):
    assert not found(check, Function)
