from __future__ import annotations

import time
import uuid

import anyio
import orjson
import pytest
import uvloop

from kafka_broker import running
from kafka_reader import Reader, alone, options, reading
from streamfaas.flow.batch import Batch
from streamfaas.flow.errors import Refused, Unreachable
from streamfaas.flow.event import Encoding
from streamfaas.flow.record import Lane

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


def group() -> str:
    return f"group-{uuid.uuid4().hex[:12]}"


def numbered(count, start=0):
    return [b"%d" % n for n in range(start, start + count)]


def test_everything_is_read_once_and_a_restart_resumes_at_the_commit(kafka):
    async def scenario():
        topic, name = await kafka.create_topic(partitions=3), group()
        await kafka.produce(topic, numbered(300))
        chosen = options(kafka.bootstrap, name, topic)
        async with reading("f/t", chosen) as reader:
            await reader.records_are(300)
            assert sorted(reader.values) == sorted(numbered(300))
            assert len(reader.opened) == 3
        assert await kafka.committed(name, topic) == {0: 100, 1: 100, 2: 100}
        await kafka.produce(topic, numbered(30, 300))
        async with reading("f/t", chosen) as reader:
            await reader.records_are(30)
            await anyio.sleep(0.3)
            assert sorted(reader.values) == sorted(numbered(30, 300))

    uvloop.run(scenario())


def test_nothing_unfinished_is_committed_and_it_comes_again(kafka):
    async def scenario():
        topic, name = await kafka.create_topic(), group()
        await kafka.produce(topic, numbered(10))
        chosen = options(kafka.bootstrap, name, topic)
        async with reading("f/t", chosen, settling=False) as reader:
            await reader.records_are(10)
            lane = reader.opened[0]
            await reader.settle(lane, 5)
            await kafka.wait_for_commit(name, topic, {0: 6})
            view = reader.source.view()
            assert (view.lanes[lane].position, view.lanes[lane].lag) == (6, 4)
            assert view.details["generation"] >= 1
        async with reading("f/t", chosen) as reader:
            await reader.records_are(4)
            assert reader.values == numbered(4, 6)

    uvloop.run(scenario())


def test_a_lane_that_is_not_ready_is_not_handed_anything_and_costs_no_second_fetch(kafka):
    async def scenario():
        topic, name = await kafka.create_topic(partitions=2), group()
        chosen = options(kafka.bootstrap, name, topic)
        async with reading("f/t", chosen) as reader:
            await reader.until(lambda: len(reader.open) == 2)
            waiting, going = sorted(reader.open)
            reader.ready.discard(waiting)
            await kafka.produce(topic, numbered(20))
            await reader.until(lambda: len(reader.records[going]) == 10)
            await anyio.sleep(0.3)
            assert not reader.records[waiting]
            reader.ready.add(waiting)
            asked = reader.source._member.fetcher._client._conns
            assert asked
            reader.source.wake()
            await reader.until(lambda: len(reader.records[waiting]) == 10)

    uvloop.run(scenario())


def test_a_new_record_is_handed_over_at_once(kafka):
    async def scenario():
        """Not when the time of a fetch is over."""
        topic, name = await kafka.create_topic(), group()
        async with (
            reading("f/t", options(kafka.bootstrap, name, topic, fetch_wait_seconds=10)) as reader,
            kafka.producer(linger_ms=0) as producer,
        ):
            await reader.until(lambda: reader.open)
            with anyio.fail_after(60):
                for n in range(30):
                    await producer.send_and_wait(topic, b"x", partition=0)
                    await reader.records_are(n + 1)

    uvloop.run(scenario())


# -- where a group begins


def test_earliest_latest_and_a_time_are_where_a_group_begins(kafka):
    async def scenario():
        topic, now = await kafka.create_topic(), int(time.time() * 1000)
        async with kafka.producer() as producer:
            for n in range(10):
                await producer.send_and_wait(topic, b"%d" % n, partition=0, timestamp_ms=now + n)
        for start, first in (("earliest", 0), (now + 4, 4), (now + 99, 10), ("latest", 10)):
            name = group()
            chosen = options(kafka.bootstrap, name, topic, start=start)
            async with reading("f/t", chosen, settling=False) as reader:
                await reader.until(lambda reader=reader: reader.open)
                # it is committed before anything is read: the end does not move on without us
                assert await kafka.committed(name, topic) == {0: first}
                await reader.records_are(10 - first)
                assert reader.values == numbered(10 - first, first)

    uvloop.run(scenario())


def test_latest_is_kept_over_a_restart_before_the_first_record(kafka):
    async def scenario():
        topic, name = await kafka.create_topic(), group()
        await kafka.produce(topic, numbered(5))
        chosen = options(kafka.bootstrap, name, topic, start="latest")
        async with reading("f/t", chosen) as reader:
            await reader.until(lambda: reader.open)
        await kafka.produce(topic, numbered(3, 5))
        async with reading("f/t", chosen) as reader:
            await reader.records_are(3)
            assert reader.values == numbered(3, 5)

    uvloop.run(scenario())


def test_a_topic_that_is_made_anew_before_anything_was_finished_with_is_told_apart(kafka):
    async def scenario():
        topic, name = await kafka.create_topic(), group()
        lives = []
        for again in (False, False, True):
            if again:
                await kafka.delete_topic(topic)
                await kafka.create_topic(topic, named=True)
            await kafka.produce(topic, numbered(3))
            async with reading("f/t", options(kafka.bootstrap, name, topic), settling=again) as one:
                await one.records_are(3)
                (lane,) = one.open
                assert one.source.durable(lane) == -1
                lives.append(one.source.life(lane))
        assert lives[0] == lives[1] != lives[2]
        # and it is of that life however far it is read
        async with reading("f/t", options(kafka.bootstrap, name, topic)) as one:
            await one.until(lambda: one.open)
            assert (one.source.durable(lane), one.source.life(lane)) == (2, lives[2])

    uvloop.run(scenario())


@pytest.mark.parametrize("while_down", [False, True])
def test_a_partition_that_is_added_later_is_read_from_its_beginning(kafka, while_down):
    async def scenario():
        topic, name = await kafka.create_topic(), group()
        await kafka.produce(topic, numbered(5))
        chosen = options(kafka.bootstrap, name, topic, start="latest")
        async with reading("f/t", chosen) as reader:
            await reader.until(lambda: reader.open)
            if not while_down:
                await kafka.add_partitions(topic, 2)
                await kafka.produce(topic, numbered(4, 100), partition=1)
                await reader.records_are(4)
                assert reader.values == numbered(4, 100)
        if while_down:
            await kafka.add_partitions(topic, 2)
            await kafka.produce(topic, numbered(4, 100), partition=1)
            async with reading("f/t", chosen) as reader:
                await reader.records_are(4)
                assert reader.values == numbered(4, 100)

    uvloop.run(scenario())


def test_a_pattern_finds_topics_by_their_whole_name_and_those_that_come_later(kafka):
    async def scenario():
        stem = f"p{uuid.uuid4().hex[:8]}"
        first = await kafka.create_topic(stem=f"{stem}.orders")
        other = await kafka.create_topic(stem=f"other.{stem}.orders")
        longer = await kafka.create_topic(stem=f"{stem}.orders-longer")
        await kafka.produce(first, [b"a"])
        await kafka.produce(other, [b"no"])
        pattern = rf"{stem}\.orders-\d.*"
        assert longer.startswith(f"{stem}.orders-l")
        chosen = options(kafka.bootstrap, group(), pattern=pattern)
        async with reading("f/t", chosen) as reader:
            await reader.records_are(1)
            assert {lane.name for lane in reader.open} == {f"{first}-0"}
            second = await kafka.create_topic(stem=f"{stem}.orders")
            await kafka.produce(second, [b"b"])
            await reader.records_are(2)
            assert sorted(reader.values) == [b"a", b"b"]

    uvloop.run(scenario())


# -- membership


def test_what_is_finished_within_the_grace_is_committed_before_a_partition_is_given_away(kafka):
    async def scenario():
        topic, name = await kafka.create_topic(partitions=2), group()
        await kafka.produce(topic, numbered(20))
        chosen = options(kafka.bootstrap, name, topic, commit_seconds=30.0)
        async with reading("f/t", chosen, settling=False, closing=False) as first:
            await first.records_are(20)
            async with reading("f/u", chosen) as second:
                await first.until(lambda: len(first.told_to_close) == 2)
                assert all(2 < grace < 6 for _, grace in first.told_to_close)
                assert not second.open
                for lane in list(first.open):  # finished in the meantime
                    await first.settle(lane, 9)
                    await first.close_lane(lane)
                await second.until(lambda: second.open)
                assert await kafka.committed(name, topic) == {0: 10, 1: 10}
                await first.until(lambda: first.open)
                await anyio.sleep(0.3)
                assert not second.values
                assert len(first.records[first.opened[-1]]) == 10
                assert {*first.open, *second.open} == {
                    Lane("f/t", first.opened[-1].name),
                    Lane("f/u", second.opened[-1].name),
                }
                await kafka.produce(topic, numbered(10, 100))
                await first.records_are(25)
                await second.records_are(5)

    uvloop.run(scenario())


def test_a_lane_that_does_not_close_in_time_holds_nobody_up_and_commits_nothing_late(kafka):
    async def scenario():
        topic, name = await kafka.create_topic(partitions=2), group()
        await kafka.produce(topic, numbered(20))
        chosen = options(kafka.bootstrap, name, topic)
        async with reading("f/t", chosen, settling=False, closing=False) as first:
            await first.records_are(20)
            async with reading("f/u", chosen, settling=False) as second:
                await second.until(lambda: len(second.open) == 1, 20)
                (taken,) = second.open
                lane = Lane("f/t", taken.name)
                await first.settle(lane, 9)  # too late: it is somebody else's
                assert first.source.view().details["late_settlements"] == 1
                kept = next(one for one in first.open if one.name != taken.name)
                assert first.opened.count(kept) == 1
                await anyio.sleep(0.3)
                assert await kafka.committed(name, topic) == {0: 0, 1: 0}
                for one in list(first.open):
                    await first.close_lane(one)
                # only now is the lane that came back opened again
                await first.until(lambda: first.opened.count(kept) == 2)
                await first.until(lambda: len(first.records[kept]) == 20)

    uvloop.run(scenario())


def test_a_standby_takes_over_when_the_other_leaves(kafka):
    async def scenario():
        topic, name = await kafka.create_topic(partitions=1), group()
        await kafka.produce(topic, numbered(5))
        chosen = options(kafka.bootstrap, name, topic)
        async with reading("f/a", chosen) as a:
            await a.until(lambda: a.open)
            async with reading("f/b", chosen) as b:
                await a.until(lambda: b.source.view().details.get("generation", 0) > 1)
                await a.until(lambda: bool(a.open) != bool(b.open))
                owner, standby = (a, b) if a.open else (b, a)
                await standby.until(lambda: standby.source.view().state == "running")
                # an idle member is not left behind however long it idles
                assert standby.source._member._subscription.fetcher_idle_time == 0
                await owner.until(lambda: len(a.values) + len(b.values) == 5)
                await owner.source.close()
                await standby.until(lambda: standby.open, 20)
                await kafka.produce(topic, numbered(5, 5))
                await standby.until(lambda: standby.values[-5:] == numbered(5, 5))
                assert a.values + b.values == numbered(10) or b.values + a.values == numbered(10)

    uvloop.run(scenario())


def test_a_static_member_comes_back_without_a_rebalance(kafka):
    async def scenario():
        topic, name = await kafka.create_topic(partitions=2), group()
        await kafka.produce(topic, numbered(4))
        one = options(kafka.bootstrap, name, topic, instance_id="one", session_timeout_seconds=20)
        two = options(kafka.bootstrap, name, topic, instance_id="two", session_timeout_seconds=20)
        async with reading("f/b", two) as second:
            async with reading("f/a", one) as first:
                await first.until(lambda: first.open and len(second.open) == 1)
                await anyio.sleep(0.5)
                generation = second.source.view().details["generation"]
            closed = len(second.told_to_close)
            async with reading("f/a", one) as first:
                await first.until(lambda: first.open)
                assert first.source.view().details["generation"] == generation
                assert len(second.told_to_close) == closed

    uvloop.run(scenario())


def test_two_static_members_of_one_name_are_told_so(kafka):
    async def scenario():
        topic, name = await kafka.create_topic(partitions=2), group()
        chosen = options(kafka.bootstrap, name, topic, instance_id="same")
        with pytest.raises(ExceptionGroup) as caught:
            async with reading("f/a", chosen), reading("f/b", chosen):
                await anyio.sleep(30)
        # one of them is told, or both are
        told, others = caught.value.split(Refused)
        assert others is None
        assert "has the instance name same" in repr(told)

    uvloop.run(scenario())


def test_a_member_that_was_put_out_commits_nothing_more(kafka):
    async def scenario():
        topic, name = await kafka.create_topic(), group()
        await kafka.produce(topic, numbered(10))
        chosen = options(kafka.bootstrap, name, topic)
        async with reading("f/t", chosen, settling=False) as reader:
            await reader.records_are(10)
            member = reader.source._member
            seat = member.seat
            # the coordinator forgets us: as after a stop longer than the session
            from aiokafka.protocol.group import LeaveGroupRequest

            await member._coordinator._send_req(LeaveGroupRequest(name, seat.member))
            await reader.settle(reader.opened[0], 9)
            await reader.until(lambda: len(reader.opened) == 2)
            assert reader.told_to_close[0][1] == 0.0
            assert member.seat != seat
            await reader.records_are(20)  # read again, since nothing was committed
            assert await kafka.committed(name, topic) == {0: 0}

    uvloop.run(scenario())


# -- what the log holds


@pytest.mark.parametrize("level", ["read_committed", "read_uncommitted"])
def test_aborted_transactions_are_read_only_where_that_is_asked_for(kafka, level):
    async def scenario():
        topic, name = await kafka.create_topic(), group()
        async with kafka.producer(transactional_id=f"tx-{uuid.uuid4().hex}") as producer:
            for n, abort in enumerate((False, True, False, True)):
                await producer.begin_transaction()
                for value in numbered(3, 3 * n):
                    await producer.send_and_wait(topic, value, partition=0)
                await (producer.abort_transaction() if abort else producer.commit_transaction())
        chosen = options(kafka.bootstrap, name, topic, isolation_level=level)
        wanted = numbered(3) + numbered(3, 6) if level == "read_committed" else numbered(12)
        async with reading("f/t", chosen) as reader:
            await reader.records_are(len(wanted))
            assert reader.values == wanted
            # markers and aborted records are accounted for: the commit reaches the end
            await kafka.wait_for_commit(name, topic, {0: 16})
            await reader.until(lambda: reader.source.view().lanes[reader.opened[0]].lag == 0)

    uvloop.run(scenario())


def test_an_open_transaction_is_waited_for_and_is_no_stall(kafka):
    async def scenario():
        topic, name = await kafka.create_topic(), group()
        async with (
            kafka.producer(transactional_id=f"tx-{uuid.uuid4().hex}") as producer,
        ):
            await producer.begin_transaction()
            await producer.send_and_wait(topic, b"0", partition=0)
            await kafka.produce(topic, [b"1"])
            chosen = options(kafka.bootstrap, name, topic, stall_seconds=0.5)
            async with reading("f/t", chosen) as reader:
                await reader.until(lambda: reader.open)
                await anyio.sleep(1.5)
                assert not reader.values
                await producer.commit_transaction()
                await reader.records_are(2)
                assert reader.values == [b"0", b"1"]

    uvloop.run(scenario())


def test_a_compacted_log_is_read_over_its_holes(kafka):
    async def scenario():
        quick = {
            "cleanup.policy": "compact",
            "segment.ms": "100",
            "min.cleanable.dirty.ratio": "0.01",
            "max.compaction.lag.ms": "100",
            "delete.retention.ms": "0",
        }
        topic, name = await kafka.create_topic(config=quick), group()
        keys = [b"k%d" % (n % 3) for n in range(300)]
        await kafka.produce(topic, numbered(300), keys=keys, partition=0)
        await anyio.sleep(0.3)
        await kafka.produce(topic, [b"end"], keys=[b"end"], partition=0)
        deadline = time.monotonic() + 60
        while True:  # until the log has been compacted, each time with another group
            chosen = options(kafka.bootstrap, group(), topic)
            async with reading("f/t", chosen) as reader:
                await reader.until(lambda: b"end" in reader.values)
                if len(reader.values) < 300 or time.monotonic() > deadline:
                    break
            await anyio.sleep(0.5)
            await kafka.produce(topic, [b"again"], keys=[b"again"], partition=0)
        assert len(reader.values) < 300, "the broker has not compacted"
        chosen = options(kafka.bootstrap, name, topic)
        async with reading("f/t", chosen) as reader:
            await reader.until(lambda: reader.runs and reader.runs[-1].last >= 300)
            end = (await kafka.ends(topic))[0]
            await kafka.wait_for_commit(name, topic, {0: end})
            (run,) = (one for one in reader.runs if one.first == 0)
            assert run.count < run.last - run.first + 1
            at = run.payload.fit(run.first, run.last, 2, 1 << 30)
            head, tail = run.cut(at)
            assert head.count == 2
            assert len(reader.source.records(Batch((head,)))) == 2
            assert tail.count == run.count - 2

    uvloop.run(scenario())


@pytest.mark.parametrize("codec", [None, "gzip", "snappy", "lz4", "zstd"])
def test_every_codec_is_handed_over_and_can_be_looked_into(kafka, codec):
    async def scenario():
        topic = await kafka.create_topic()
        values = [b"%d" % n * 50 for n in range(200)]
        await kafka.produce(topic, values, compression_type=codec, linger_ms=50)
        async with reading("f/t", options(kafka.bootstrap, group(), topic)) as reader:
            await reader.records_are(200)
            assert reader.values == values
            batch = Batch((reader.runs[0],))
            event = reader.source.shape(batch)
            assert event.encoding is Encoding.KAFKA
            assert orjson.loads(event.describe) == {
                "topic": topic,
                "partition": 0,
                "first": batch.first,
                "last": batch.last,
                "servers": kafka.bootstrap,
                "checked": False,
            }
            assert event.size_bytes == batch.size_bytes
            shown = orjson.loads(reader.source.event(batch))
            assert len(shown["records"][f"{topic}-0"]) == batch.count
            info = reader.source.batch_info(batch)["KafkaBatchInfo"]
            assert info["batchSize"] == batch.count
            assert info["recordsInfo"][f"{topic}-0"]["firstRecordOffset"] == "0"

    uvloop.run(scenario())


def test_records_larger_than_a_fetch_arrive_whole(kafka):
    async def scenario():
        topic = await kafka.create_topic()
        values = [b"a" * 500_000, b"b", b"c" * 800_000]
        async with kafka.producer(max_request_size=1_000_000) as producer:
            for value in values:
                await producer.send_and_wait(topic, value, partition=0)
        async with reading("f/t", options(kafka.bootstrap, group(), topic)) as reader:
            await reader.records_are(3)
            assert reader.values == values

    uvloop.run(scenario())


def test_a_lane_whose_records_were_lost_to_retention_is_blocked_until_somebody_acts(kafka):
    async def scenario():
        topic, name = await kafka.create_topic(partitions=2), group()
        chosen = options(kafka.bootstrap, name, topic)
        await kafka.produce(topic, numbered(20))
        async with reading("f/t", chosen, settling=False) as reader:
            await reader.records_are(20)
            for lane in reader.open:
                await reader.settle(lane, 2)
        await kafka.delete_before(topic, 0, 7)
        async with reading("f/t", chosen) as reader:
            await reader.records_are(7)  # the other partition goes on
            blocked = Lane("f/t", f"{topic}-0")
            await reader.until(lambda: blocked in reader.source.view().blocked)
            told = reader.source.view().blocked[blocked]
            assert "3..6 are gone" in told
            assert f"streamfaas seek f/t --to 7 --partition {topic}-0" in told
            assert not reader.records[blocked]
            await reader.until(lambda: reader.source.view().state == "degraded")
            assert await kafka.committed(name, topic) == {0: 3, 1: 10}
            await reader.close_lane(blocked)
            await reader.source.seek({blocked: 7})
            await reader.source.closed(blocked)
            await reader.until(lambda: len(reader.records[blocked]) == 3)
            assert blocked not in reader.source.view().blocked
            await kafka.wait_for_commit(name, topic, {0: 10})

    uvloop.run(scenario())


def test_a_rewind_hands_over_the_same_records_again(kafka):
    async def scenario():
        topic = await kafka.create_topic()
        await kafka.produce(topic, numbered(10), linger_ms=20)
        chosen = options(kafka.bootstrap, group(), topic)
        async with reading("f/t", chosen, settling=False) as reader:
            await reader.records_are(10)
            lane = reader.opened[0]
            reader.rewound = (lane,)
            await reader.source.rewind(lane, 4)
            await reader.records_are(16)
            assert reader.values == numbered(10) + numbered(6, 4)

    uvloop.run(scenario())


def test_a_topic_that_is_missing_is_told_and_read_once_it_is_there(kafka):
    async def scenario():
        topic = await kafka.create_topic()
        missing = f"missing-{uuid.uuid4().hex[:8]}"
        chosen = options(kafka.bootstrap, group(), topic, missing)
        async with reading("f/t", chosen) as reader:
            await reader.until(lambda: reader.open)
            await reader.until(lambda: reader.source.view().state == "degraded")
            assert reader.source.view().reason == f"there is no topic {missing}"

    uvloop.run(scenario())


# -- the broker goes and comes


def test_nobody_there_is_one_plain_line():
    async def scenario():
        reader = Reader("f/t", options("127.0.0.1:1", group(), "t"))
        with pytest.raises(Unreachable, match=r"^cannot reach 127.0.0.1:1 \(connection refused\)$"):
            await reader.source.open(lambda work, name: None)
        await reader.source.close()

    uvloop.run(scenario())


@pytest.fixture(scope="module")
def mortal():
    with running() as made:
        yield made


def test_a_broker_that_dies_and_comes_back_costs_no_record(mortal):
    async def scenario():
        topic, name = await mortal.create_topic(partitions=2), group()
        chosen = options(
            mortal.bootstrap, name, topic, session_timeout_seconds=20, rebalance_timeout_seconds=20
        )
        async with reading("f/t", chosen) as reader:
            for turn in range(2):
                await mortal.produce(topic, numbered(10, 10 * turn))
                await reader.records_are(10 * turn + 10)
                mortal.broker.kill()
                await reader.until(lambda: reader.source.view().state == "degraded")
                reason = reader.source.view().reason
                assert f"cannot reach {mortal.bootstrap}" in reason or "committed" in reason
                await mortal.broker.start()
                await reader.until(lambda: reader.source.view().state == "running")
            await mortal.produce(topic, numbered(10, 20))
            await reader.until(lambda: set(reader.values) >= set(numbered(30)))
            told = [signal.state for signal in reader.signals]
            assert told.count("running") == told.count("degraded") or len(told) < 20
        ends = await mortal.ends(topic)
        assert await mortal.committed(name, topic) == ends

    uvloop.run(scenario())


def test_a_frozen_broker_is_given_up_and_one_that_wakes_is_read_on(mortal):
    async def scenario():
        topic, name = await mortal.create_topic(), group()
        chosen = options(mortal.bootstrap, name, topic, stall_seconds=1.5)
        await mortal.produce(topic, numbered(5))
        with pytest.raises(ExceptionGroup) as caught:
            async with reading("f/t", chosen) as reader:
                await reader.records_are(5)
                mortal.broker.freeze()
                try:
                    await anyio.sleep(60)
                finally:
                    mortal.broker.thaw()
        assert isinstance(alone(caught.value), Unreachable)
        assert str(alone(caught.value)).startswith("stalled: no broker has answered for")
        assert [signal.state for signal in reader.signals][-1] == "rebuilt"
        async with reading("f/t", chosen) as reader:
            await mortal.produce(topic, numbered(5, 5))
            await reader.until(lambda: reader.values[-5:] == numbered(5, 5))

    uvloop.run(scenario())
