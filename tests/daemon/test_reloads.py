"""Who asks while something is under way waits for the next run, and shares it."""

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamfaas.daemon.reloads import Turns


class Work:
    """Runs for as long as it is told to, and counts."""

    def __init__(self):
        self.begun = []
        self.running = 0
        self.most = 0
        self.value = 0  # what somebody has written
        self.go = anyio.Semaphore(0)

    async def __call__(self, about):
        self.begun.append(about)
        self.running += 1
        self.most = max(self.most, self.running)
        seen = self.value
        try:
            await self.go.acquire()
        finally:
            self.running -= 1
        return seen


async def turn_by():
    """Lets all others come to where they wait."""
    for _ in range(10):
        await anyio.lowlevel.checkpoint()


@given(st.lists(st.sampled_from(["ask", "end"]), max_size=20))
def test_whoever_asks_is_answered_by_a_run_that_has_begun_after(steps):
    async def main():
        work = Work()
        turns = Turns(work)
        asked = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(turns.serve)
            for step in steps:
                if step == "ask":
                    work.value += 1
                    asked.append((work.value, turns.ask(str(work.value))))
                else:
                    work.go.release()
                await turn_by()
            for _ in steps:
                work.go.release()
            for value, turn in asked:
                assert await turn.wait() >= value
                assert str(value) in turn.about
            await turns.stop()
        assert work.most <= 1
        assert len(work.begun) <= len(asked)
        assert set().union(*work.begun) == {str(value) for value, _ in asked}

    anyio.run(main)


@pytest.mark.parametrize("begun", [False, True])
def test_a_stop_ends_what_is_under_way_and_tells_all_who_wait(begun):
    async def main():
        work = Work()
        turns = Turns(work)
        async with anyio.create_task_group() as tasks:
            first = turns.ask()
            tasks.start_soon(turns.serve)
            if begun:
                await turn_by()
                assert work.running == 1
            second = turns.ask()
            await turns.stop()
            assert work.running == 0
            assert (await first.wait(), await second.wait(), await turns.ask().wait()) == (
                None,
            ) * 3

    anyio.run(main)
