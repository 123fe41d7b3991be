import asyncio
import time

import pytest

from streamfaas.daemon.lateness import LOOK_SECONDS, watched


@pytest.mark.slow
def test_a_loop_that_is_held_up_is_seen_and_one_that_turns_is_on_time():
    async def main():
        told = []
        with watched(asyncio.get_running_loop(), told.append):
            await asyncio.sleep(LOOK_SECONDS * 1.2)
            time.sleep(LOOK_SECONDS * 2)  # noqa: ASYNC251 - that is what is to be seen
            await asyncio.sleep(0.01)
            counted = len(told)
        await asyncio.sleep(LOOK_SECONDS * 1.5)
        assert len(told) == counted
        return told

    first, held_up = asyncio.run(main())[:2]
    assert first >= 0
    assert held_up >= LOOK_SECONDS * 0.9
