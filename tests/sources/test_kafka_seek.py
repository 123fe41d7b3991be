"""A Kafka trigger that is paused, or sent elsewhere, while its group goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import anyio
import pytest
import uvloop

from kafka_lanes import NAME, Call, Lanes, consuming, options
from replay.log import Log
from replay_broker import ReplayBroker
from streamfaas.engine.mapping import Pause
from streamfaas.flow.errors import Unreachable
from streamfaas.flow.record import Lane

pytestmark = pytest.mark.slow

LANE = Lane(NAME, "orders-0")
OTHER = Lane(NAME, "orders-1")
PAUSE = Pause(0, "ada")


def run(scenario: Callable[[ReplayBroker], Awaitable[None]]) -> None:
    async def main() -> None:
        async with ReplayBroker(1) as replay:
            await scenario(replay)

    uvloop.run(main())


def fill(log: Log, count: int = 500) -> None:
    for start in range(log.end, log.end + count, 50):
        log.append([b"value %d" % n for n in range(start, start + 50)])


def test_a_paused_trigger_keeps_its_place_in_the_group_and_reads_nothing() -> None:
    async def scenario(replay: ReplayBroker) -> None:
        (log,) = replay.create("orders", 1)
        fill(log)
        chosen = options(replay.bootstrap, "orders", stall_seconds=1.0)
        async with consuming(Lanes(chosen)) as lanes:
            await lanes.until_ran(500)
            lanes.mapping.pause(PAUSE)
            await lanes.until(lambda: lanes.view()["at_rest"])
            assert replay.committed["g", "orders", 0] == 500
            generation = lanes.source.view().details["generation"]
            fill(log, 1000)
            replay.written()
            await anyio.sleep(3.0)  # three times as long as a stall may last
            assert lanes.ran["orders-0"] == list(range(500))
            await lanes.until(lambda: lanes.view()["lanes"][0]["lag"] == 1000)
            assert lanes.source.view().details["generation"] == generation
            assert "rebuilt" not in lanes.states()
            lanes.mapping.resume()
            await lanes.until_ran(1500)
            assert lanes.ran["orders-0"] == list(range(1500))

    run(scenario)


def test_a_lane_is_read_on_from_elsewhere_and_the_group_stands_there() -> None:
    async def scenario(replay: ReplayBroker) -> None:
        for log in replay.create("orders", 2):
            fill(log)
        async with consuming(Lanes(options(replay.bootstrap, "orders"))) as lanes:
            await lanes.until_ran(500, 500)
            lanes.mapping.pause(PAUSE)
            assert await lanes.mapping.seek({LANE: 120, OTHER: 480}, 5.0) == {
                LANE: (500, 120),
                OTHER: (500, 480),
            }
            assert replay.committed["g", "orders", 0] == 120
            assert replay.committed["g", "orders", 1] == 480
            lanes.mapping.resume()
            await lanes.until_ran(880, 520)
            assert lanes.ran["orders-0"][500:] == list(range(120, 500))
            assert lanes.ran["orders-1"][500:] == list(range(480, 500))
        assert replay.committed == {("g", "orders", 0): 500, ("g", "orders", 1): 500}

    run(scenario)


def test_a_lane_whose_records_are_gone_goes_on_where_it_is_sent_to() -> None:
    async def scenario(replay: ReplayBroker) -> None:
        (log,) = replay.create("orders", 1)
        fill(log)
        async with consuming(Lanes(options(replay.bootstrap, "orders"))) as lanes:
            await lanes.until_ran(500)
        fill(log)
        log.retain(700)
        async with consuming(Lanes(options(replay.bootstrap, "orders"))) as lanes:
            await lanes.until(lambda: "orders-0" in lanes.blocked())
            told = lanes.blocked()["orders-0"]
            assert f"streamfaas seek {NAME} --to 700 --partition orders-0" in told
            await lanes.mapping.seek({LANE: 700}, 5.0)
            await lanes.until_ran(300)
            assert lanes.ran["orders-0"] == list(range(700, 1000))
            assert not lanes.blocked()

    run(scenario)


def test_seeks_while_the_group_is_made_anew_leave_nothing_out_and_stand_where_they_say() -> None:
    async def scenario(replay: ReplayBroker) -> None:
        for log in replay.create("orders", 2):
            fill(log, 1000)

        async def work(call: Call) -> None:
            await asyncio.sleep(0.02)

        made = Lanes(options(replay.bootstrap, "orders"), work=work, size=50)
        async with consuming(made) as lanes:
            await lanes.until_ran(100, 100)
            sought = 0
            for step in range(12):
                if step % 3:
                    lanes.source._member._coordinator.request_rejoin()
                    await anyio.sleep(0.01 * step)
                try:
                    await lanes.mapping.seek({LANE: 50}, 1.0)
                except Unreachable:
                    continue
                sought += 1
                lanes.ran["orders-0"].clear()
            assert sought
            await lanes.until(lambda: lanes.ran["orders-0"][-1:] == [999])
            await lanes.until(lambda: lanes.ran["orders-1"][-1:] == [999])
            assert set(lanes.ran["orders-0"]) == set(range(50, 1000))
            assert set(lanes.ran["orders-1"]) == set(range(1000))
        assert replay.committed == {("g", "orders", 0): 1000, ("g", "orders", 1): 1000}

    run(scenario)
