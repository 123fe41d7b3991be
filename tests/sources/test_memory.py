from __future__ import annotations

import asyncio
import json
import time

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from source_subjects import loop_clock, silent
from streamfaas.flow.batch import Batch
from streamfaas.flow.errors import Busy
from streamfaas.flow.event import Encoding
from streamfaas.flow.ledger import Checkpoint, LogLedger
from streamfaas.flow.record import Lane
from streamfaas.flow.verdict import judge_log
from streamfaas.sources import Arrived, Closing, Opened, memory
from streamfaas.sources.memory import Memory, MemoryOptions, Stream, orders
from streamfaas.testing.conformance import crashed, driven
from streamfaas.testing.simulation import simulate

NAME = "shop/orders"


def source(clock=loop_clock, stream=None, **options) -> Memory:
    chosen = {"topic": "orders"} | options
    return Memory(
        NAME,
        MemoryOptions(**chosen),
        clock=clock,
        emit=silent,
        stream=stream,
        wall_clock=lambda: 5.0,
    )


async def all_of(made: Memory, count: int):
    async with driven(made) as driver:
        while len(driver.seen) < count:
            await driver.step()
            await driver.finish_all()
        await made.finished()
        return driver.seen


@settings(max_examples=40)
@given(st.integers(0, 2000), st.integers(1, 7), st.integers(0, 5))
def test_the_same_seed_gives_the_same_records_each_in_one_partition(records, partitions, seed):
    async def main():
        made = [source(records=records, partitions=partitions, seed=seed) for _ in range(2)]
        return [await all_of(one, records) for one in made]

    one, other = asyncio.run(main())
    assert one == other
    by_lane = {}
    for record in one:
        by_lane.setdefault(record.lane, []).append(record)
    for lane, lane_records in by_lane.items():
        assert [r.position for r in lane_records] == list(range(len(lane_records))), lane
    assert sorted(json.loads(r.value)["id"] for r in one) == list(range(records))


def test_a_record_is_an_order_of_a_customer():
    order = orders(3)
    assert order(7) == order(7) != orders(4)(7)
    body = json.loads(order(7))
    assert body.keys() == {"id", "customer", "total", "items"}
    assert body["id"] == 7
    totals = {json.loads(order(n))["total"] for n in range(100)}
    assert len(totals) > 90
    assert all(1 <= total <= 201 for total in totals)

    async def main():
        (record,) = await all_of(source(records=1, seed=3), 1)
        assert record.key.decode() == json.loads(record.value)["customer"]

    asyncio.run(main())


def test_the_event_is_that_of_kafka():
    async def main():
        made = source(records=3, partitions=2)
        async with driven(made) as driver:
            await driver.take(3)
            batch = Batch((driver.taken[0],))
            shape = made.shape(batch)
            assert shape.encoding is Encoding.JSON
            assert b"".join(shape.parts) == made.event(batch)
            event = json.loads(made.event(batch))
            assert event["eventSource"] == "SelfManagedKafka"
            assert event["bootstrapServers"] == memory.SERVERS
            ((lane, told),) = event["records"].items()
            assert lane == batch.lane.name
            assert [one["offset"] for one in told] == list(range(batch.count))
            assert "KafkaBatchInfo" in made.batch_info(batch)
            assert made.judge is judge_log
            assert isinstance(made.ledger(batch.lane), LogLedger)

    asyncio.run(main())


def test_records_come_at_their_rate():
    async def main():
        made = source(records=50, partitions=3, rate_per_second=10.0)
        loop, came = asyncio.get_running_loop(), []
        async with driven(made) as driver:
            while len(driver.seen) < 50:
                before = len(driver.seen)
                await driver.step()
                came += [loop.time()] * (len(driver.seen) - before)
                await driver.finish_all()
                view = made.view()
                assert sum(lane.lag for lane in view.lanes.values()) <= 3
        for number, moment in enumerate(came):
            assert number / 10 - 1e-6 <= moment <= number / 10 + 0.3
        stamps = sorted(record.timestamp_ms for record in driver.seen)
        assert stamps == [5000 + 100 * n for n in range(50)]

    _, seconds = simulate(main)
    assert 4.9 <= seconds <= 5.5


def test_a_stream_without_end_goes_on_for_ever_and_has_no_lag():
    async def main():
        made = source(partitions=2)
        async with driven(made) as driver:
            for _ in range(10):
                await driver.step()
            assert len(driver.seen) == 8 * memory.RUN_MAX
            assert {lane.lag for lane in made.view().lanes.values()} == {None}
            with pytest.raises(AssertionError, match="floods"):
                made.put(made.lanes[0], b"")
            waiting = asyncio.ensure_future(made.finished())
            await driver.finish_all()
            await asyncio.sleep(0)
            assert not waiting.done()
            waiting.cancel()

    asyncio.run(main())


def test_what_is_put_in_comes_after_what_was_there():
    async def main():
        made = source(records=4, partitions=2, rate_per_second=1000.0)
        lane = made.lanes[1]
        assert made.put(lane, b"v", b"k", (("h", b"1"),)) == 2
        assert made.put(lane, None) == 3
        async with driven(made) as driver:
            while len(driver.seen) < 6:
                await driver.step()
            mine = [record for record in driver.seen if record.lane == lane]
            assert [record.position for record in mine] == [0, 1, 2, 3]
            assert (mine[2].value, mine[2].key, mine[2].headers) == (b"v", b"k", (("h", b"1"),))
            assert mine[3].value is None
            await driver.finish_all()
            await made.finished()
            assert made.stream.checkpoints == {"orders-0": 1, "orders-1": 3}
            assert not made.stream.put["orders-1"], "what is settled is let go"

    asyncio.run(main())


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 300), st.integers(1, 3)), max_size=6))
def test_what_is_put_into_a_stream_without_end_stands_among_what_is_made(puts):
    async def main():
        made = source(rate_per_second=100.0)
        (lane,) = made.lanes
        placed = {}
        async with driven(made) as driver:
            for ticks, count in puts:
                await asyncio.sleep(ticks / 100)
                for number in range(count):
                    position = made.put(lane, b"%d" % number)
                    assert position not in placed
                    placed[position] = b"%d" % number
                while len(driver.seen) <= max(placed):
                    await driver.step()
                    await driver.finish_all()
            seen = driver.seen
        assert [record.position for record in seen] == list(range(len(seen)))
        assert {r.position: r.value for r in seen if r.position in placed} == placed
        own = [r.value for r in seen if r.position not in placed]
        assert own == [memory.orders()(number) for number in range(len(own))]

    simulate(main)


def test_too_much_that_nobody_settles_is_refused(monkeypatch):
    monkeypatch.setattr(memory, "PUT_MAX", 2)
    made = source(records=0)
    made.put(made.lanes[0], b"1")
    made.put(made.lanes[0], b"2")
    with pytest.raises(Busy):
        made.put(made.lanes[0], b"3")


def test_a_settlement_that_goes_back_is_our_own_fault():
    async def main():
        made = source(records=10)
        await made.settle(Checkpoint(made.lanes[0], 5))
        with pytest.raises(AssertionError, match="went back"):
            await made.settle(Checkpoint(made.lanes[0], 5))

    asyncio.run(main())


def test_a_lane_that_is_revoked_is_silent_until_it_is_closed_and_given_back():
    async def main():
        made = source(records=0, partitions=2)
        one, two = made.lanes
        async with driven(made) as driver:
            assert [await driver.step(), await driver.step()] == [Opened(one), Opened(two)]
            made.put(one, b"1")
            made.put(two, b"2")
            await driver.take(2)
            made.revoke(one, grace_seconds=3)
            made.assign(one)  # ours again at once, but it is told in its turn
            made.put(one, b"3")
            assert await driver.step() == Closing(one, 3)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await driver.step()
            await driver.finish(next(run for run in driver.taken if run.lane == one))
            await made.closed(one)
            del driver.ledgers[one], driver.closing[one]
            assert await driver.step() == Opened(one)
            arrival = await driver.step()
            assert isinstance(arrival, Arrived)
            assert (arrival.run.first, arrival.run.count) == (1, 1)

    asyncio.run(main())


def test_the_stream_outlives_its_readers():
    async def main():
        stream = Stream()
        first = source(records=10, stream=stream)
        async with crashed(first) as driver:
            await driver.take(10)
            await driver.source.settle(Checkpoint(first.lanes[0], 3))
        second = source(records=10, stream=stream)
        async with driven(second) as driver:
            await driver.take(6)
            assert [record.position for record in driver.seen] == [4, 5, 6, 7, 8, 9]
            await second.rewind(Lane(NAME, "orders-0"), 8)
            driver.ledgers[second.lanes[0]].rewind(8)
            await driver.take(2)
            assert driver.seen[-2:] == driver.seen[4:6]

    asyncio.run(main())


def test_no_lane_starves_behind_another():
    async def main():
        made = source(partitions=4)
        async with driven(made) as driver:
            for _ in range(4 + 12):
                await driver.step()
            counts = [run.lane for run in driver.taken]
            assert {counts.count(lane) for lane in made.lanes} == {3}

    asyncio.run(main())


@pytest.mark.slow
def test_a_hundred_thousand_records_a_second_and_more():
    async def main():
        made = source(records=200_000, partitions=4)
        started = time.process_time()  # the machine is shared
        async with driven(made) as driver:
            while len(driver.seen) < 200_000:
                await driver.step()
                driver.taken.clear()
        return 200_000 / (time.process_time() - started)

    rate = uvloop.run(main())
    print(f"{rate:.0f} records/s")
    assert rate > 20_000


def test_options_are_checked():
    for wrong in ({"partitions": 0}, {"records": -1}, {"rate_per_second": 0.0}):
        with pytest.raises(AssertionError):
            MemoryOptions("t", **wrong)
