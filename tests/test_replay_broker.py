"""The broker that does as it is told, looked at with a plain consumer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    CorruptRecordException,
    OffsetOutOfRangeError,
    RecordTooLargeError,
    TopicAuthorizationFailedError,
)

import replay_broker
from replay.batches import CODECS, Entry, Producer
from replay_broker import Api, Code, Damage, Drop, Group, ReplayBroker

QUICK: dict[str, Any] = {
    "enable_auto_commit": False,
    "auto_offset_reset": "earliest",
    "fetch_max_wait_ms": 20,
    "retry_backoff_ms": 20,
    "request_timeout_ms": 2_000,
}

MEMBER: dict[str, Any] = {
    "group_id": "g",
    "heartbeat_interval_ms": 50,
    "session_timeout_ms": 2_000,
    "rebalance_timeout_ms": 500,
}


@contextlib.asynccontextmanager
async def consumer(
    replay: ReplayBroker, *topics: str, **options: Any
) -> AsyncIterator[AIOKafkaConsumer]:
    made = AIOKafkaConsumer(*topics, bootstrap_servers=replay.bootstrap, **{**QUICK, **options})
    try:
        await made.start()
        yield made
    finally:
        await made.stop()


async def read(reader: AIOKafkaConsumer, count: int, seconds: float = 60.0) -> list[Any]:
    """So many records, in the order in which they came."""
    found: list[Any] = []
    async with asyncio.timeout(seconds):
        while len(found) < count:
            for records in (await reader.getmany(timeout_ms=200)).values():
                found += records
    return found


def offsets(records: list[Any]) -> list[int]:
    return [record.offset for record in records]


@pytest.mark.parametrize(
    ("codec", "magic"),
    [(codec, 2) for codec in CODECS]
    + [("none", 0), ("gzip", 0), ("snappy", 0)]
    + [("none", 1), ("gzip", 1), ("snappy", 1), ("lz4", 1)],
)
def test_what_is_appended_is_read_as_it_was(codec: str, magic: int) -> None:
    headers = (("trace", b"\0\xff"), ("empty", b"")) if magic == 2 else ()

    async def scenario() -> None:
        async with ReplayBroker() as replay, consumer(replay) as reader:
            (log,) = replay.create("orders")
            log.append([b"a" * 50, None, b""], codec=codec, magic=magic, headers=headers)
            log.append([b"d"], keys=[b"key"], codec=codec, magic=magic)
            reader.subscribe(["orders"])
            found = await read(reader, 4)
        assert [(r.offset, r.key, r.value) for r in found] == [
            (0, None, b"a" * 50),
            (1, None, None),
            (2, None, b""),
            (3, b"key", b"d"),
        ]
        assert found[0].headers == headers
        if magic:
            assert [r.timestamp - found[0].timestamp for r in found] == [0, 1, 2, 3]

    asyncio.run(scenario())


@pytest.mark.parametrize("version", range(4, 12))
def test_every_version_of_fetch_reads_the_same(version: int) -> None:
    async def scenario() -> None:
        spoken = {Api.FETCH: (version, version)}
        async with ReplayBroker(versions=spoken) as replay, consumer(replay) as reader:
            for number, log in enumerate(replay.create("orders", 3)):
                log.append([b"%d" % number])
            reader.subscribe(["orders"])
            found = await read(reader, 3)
        assert sorted((r.partition, r.value) for r in found) == [(0, b"0"), (1, b"1"), (2, b"2")]

    asyncio.run(scenario())


def test_a_compacted_log_has_gaps_and_batches_without_records() -> None:
    async def scenario() -> None:
        async with ReplayBroker() as replay, consumer(replay) as reader:
            (log,) = replay.create("orders")
            log.append_entries([Entry(2, b"two"), Entry(5, b"five")], span=(0, 9))
            log.append_entries([], span=(10, 19))
            log.skip(10)
            log.append([b"thirty"])
            reader.subscribe(["orders"])
            assert offsets(await read(reader, 3)) == [2, 5, 30]
            assert await reader.position(TopicPartition("orders", 0)) == 31

    asyncio.run(scenario())


def test_aborted_records_are_for_those_who_read_uncommitted() -> None:
    async def scenario(isolation: str) -> list[int]:
        async with ReplayBroker() as replay:
            (log,) = replay.create("orders")
            good, bad = (Producer(n, 0, transactional=True) for n in (7, 8))
            log.append([b"0"], producer=good)
            log.append([b"1", b"2"], producer=bad)
            log.append([b"3"])
            log.finish(bad, commit=False)  # takes offset 4
            log.finish(good, commit=True)  # takes offset 5
            log.append([b"6"], producer=bad)  # stays open
            log.append([b"7"])
            async with consumer(replay, "orders", isolation_level=isolation) as reader:
                return offsets(await read(reader, 2 if isolation == "read_committed" else 6))

    assert asyncio.run(scenario("read_uncommitted")) == [0, 1, 2, 3, 6, 7]
    assert asyncio.run(scenario("read_committed")) == [0, 3]


def test_offsets_are_found_by_time() -> None:
    async def scenario() -> None:
        async with ReplayBroker() as replay, consumer(replay) as reader:
            (log,) = replay.create("orders")
            place = TopicPartition("orders", 0)
            reader.assign([place])
            log.append_entries([Entry(0, b"", timestamp_ms=10), Entry(1, b"", timestamp_ms=20)])
            log.retain(1)
            assert await reader.beginning_offsets([place]) == {place: 1}
            assert await reader.end_offsets([place]) == {place: 2}
            found = await reader.offsets_for_times({place: 11})
            assert found[place].offset == 1
            assert await reader.offsets_for_times({place: 21}) == {place: None}

    asyncio.run(scenario())


@pytest.mark.slow
def test_two_members_share_and_the_one_that_stays_takes_over() -> None:
    async def scenario() -> None:
        async with ReplayBroker(nodes=2) as replay:
            replay.create("orders", 4)
            async with member(replay) as stays:
                async with member(replay) as leaves:
                    await replay.wait_until(lambda: stable(replay.group("g"), 2))
                    await both_assigned(stays, leaves)
                    assert len(stays.assignment()) == len(leaves.assignment()) == 2
                    assert not stays.assignment() & leaves.assignment()
                await replay.wait_until(lambda: stable(replay.group("g"), 1))
                async with asyncio.timeout(60):
                    while len(stays.assignment()) < 4:
                        await stays.getmany(timeout_ms=20)

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_silent_member_is_put_out_and_what_it_commits_is_refused() -> None:
    async def scenario() -> None:
        async with ReplayBroker() as replay:
            (log,) = replay.create("orders")
            log.append([b"x"])
            silence = {"session_timeout_ms": 1_000, "heartbeat_interval_ms": 60_000}
            async with member(replay, **silence) as silent:
                await read(silent, 1)
                place = TopicPartition("orders", 0)
                await silent.commit({place: 1})
                assert replay.position("g", "orders") == 1
                await replay.wait_until(lambda: not replay.group("g").members)
                with pytest.raises(CommitFailedError):
                    await silent.commit({place: 2})
                await replay.wait_until(lambda: stable(replay.group("g"), 1))
            assert replay.position("g", "orders") == 1

    asyncio.run(scenario())


def test_a_commit_counts_only_from_a_member_of_this_generation() -> None:
    async def scenario() -> None:
        group = Group("g")
        assert group.may_commit("", -1) == Code.NONE
        assert group.may_commit("stranger", 1) == Code.UNKNOWN_MEMBER_ID
        said: list[Any] = []
        join = replay_broker.Join("", None, 10.0, 10.0, (("range", b"metadata"),))
        group.join(join, id_required=False, answer=said.append)
        who = said[0].member
        assert group.may_commit(who, said[0].generation) == Code.REBALANCE_IN_PROGRESS
        group.sync(who, said[0].generation, {who: b"all"}, lambda *_: None)
        assert group.may_commit(who, said[0].generation) == Code.NONE
        assert group.may_commit(who, said[0].generation - 1) == Code.ILLEGAL_GENERATION
        assert group.may_commit("", -1) == Code.UNKNOWN_MEMBER_ID
        group.leave(who)
        assert group.may_commit(who, said[0].generation) == Code.UNKNOWN_MEMBER_ID
        assert group.may_commit("", -1) == Code.NONE
        group.close()

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_static_member_comes_back_to_its_seat_without_a_rebalance() -> None:
    async def scenario() -> None:
        async with ReplayBroker() as replay:
            replay.create("orders")
            for _ in range(2):
                async with member(replay, group_instance_id="node-1") as seated:
                    await both_assigned(seated)
            assert replay.group("g").generation == 1

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", [Damage.CHECKSUM, Damage.RECORDS])
def test_a_spoiled_batch_is_refused_and_the_next_answer_is_whole(kind: Damage) -> None:
    async def scenario() -> None:
        async with ReplayBroker() as replay, consumer(replay) as reader:
            (log,) = replay.create("orders")
            log.append([b"0", b"1"])
            log.append([b"2", b"3"])
            rule = replay.damage("orders", 0, 3, kind)
            reader.subscribe(["orders"])
            with pytest.raises((CorruptRecordException, ValueError)):
                await read(reader, 4)
            assert rule.struck == 1
            reader.seek(TopicPartition("orders", 0), 2)
            assert offsets(await read(reader, 2)) == [2, 3]

    asyncio.run(scenario())


def test_an_answer_may_end_within_a_batch() -> None:
    async def scenario() -> None:
        async with ReplayBroker() as replay, consumer(replay) as reader:
            (log,) = replay.create("orders")
            log.append([b"0"])
            log.append([b"1"])
            replay.damage("orders", 0, 1, Damage.CUT)
            reader.subscribe(["orders"])
            assert offsets(await read(reader, 2)) == [0, 1]
            assert [fetched.offset for fetched in replay.fetches] == [0, 1]

    asyncio.run(scenario())


def test_a_batch_larger_than_a_fetch_is_whole_for_the_first_partition_alone() -> None:
    async def scenario() -> None:
        async with ReplayBroker() as replay:
            for log in replay.create("orders", 2):
                log.append([bytes(5_000)])
            small = {"max_partition_fetch_bytes": 1_000}
            async with consumer(replay, "orders", **small) as reader:
                with pytest.raises(RecordTooLargeError):
                    await read(reader, 2)

    asyncio.run(scenario())


@pytest.mark.slow
@pytest.mark.parametrize("when", Drop)
def test_a_dropped_connection_is_made_anew(when: Drop) -> None:
    async def scenario() -> None:
        async with ReplayBroker() as replay, consumer(replay) as reader:
            (log,) = replay.create("orders")
            log.append([b"x"])
            rule = replay.drop(Api.FETCH, when, times=2)
            reader.subscribe(["orders"])
            assert offsets(await read(reader, 1)) == [0]
            await replay.wait_until(lambda: rule.struck == 2)

    asyncio.run(scenario())


@pytest.mark.slow
def test_answers_come_late_in_drops_or_never() -> None:
    async def scenario() -> None:
        async with ReplayBroker() as replay, consumer(replay) as reader:
            (log,) = replay.create("orders")
            log.append([b"x" * 100])
            replay.delay(Api.FETCH, 0.2)
            replay.drip(Api.FETCH, 10, 0.005)
            reader.subscribe(["orders"])
            begun = time.monotonic()
            assert offsets(await read(reader, 1)) == [0]
            assert time.monotonic() - begun >= 0.2
            hole = replay.swallow(Api.FETCH)
            await replay.wait_until(lambda: hole.struck > 0)
            log.append([b"unseen"])
            assert await reader.getmany(timeout_ms=100) == {}
            replay.heal()
            replay.hang_up()
            assert offsets(await read(reader, 1)) == [1]

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_partition_moves_and_a_node_goes_away_and_comes_back() -> None:
    async def scenario() -> None:
        async with ReplayBroker(nodes=2) as replay, consumer(replay) as reader:
            (log,) = replay.create("orders")
            log.append([b"x"])
            reader.subscribe(["orders"])
            await read(reader, 1)
            replay.lead("orders", 0, 2)
            log.append([b"y"])
            assert offsets(await read(reader, 1)) == [1]
            assert {fetched.node for fetched in replay.fetches} == {1, 2}
            await replay.stop_node(2)
            log.append([b"z"])
            assert await reader.getmany(timeout_ms=100) == {}
            await replay.start_node(2)
            assert offsets(await read(reader, 1)) == [2]

    asyncio.run(scenario())


def test_errors_reach_a_consumer_by_their_codes() -> None:
    async def scenario() -> None:
        strict = {"auto_offset_reset": "none"}
        async with ReplayBroker() as replay, consumer(replay, **strict) as reader:
            (log,) = replay.create("orders")
            log.append([b"x"])
            place = TopicPartition("orders", 0)
            reader.assign([place])
            reader.seek(place, 0)
            replay.fail(Api.FETCH, Code.TOPIC_AUTHORIZATION_FAILED, topic="orders")
            with pytest.raises(TopicAuthorizationFailedError):
                await read(reader, 1)
            assert offsets(await read(reader, 1)) == [0]
            log.retain(5)
            with pytest.raises(OffsetOutOfRangeError):
                await read(reader, 1)

    asyncio.run(scenario())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("api", "code"),
    [
        (Api.FIND_COORDINATOR, Code.COORDINATOR_NOT_AVAILABLE),
        (Api.JOIN_GROUP, Code.COORDINATOR_LOAD_IN_PROGRESS),
        (Api.JOIN_GROUP, Code.NOT_COORDINATOR),
        (Api.SYNC_GROUP, Code.REBALANCE_IN_PROGRESS),
        (Api.HEARTBEAT, Code.UNKNOWN_MEMBER_ID),
        (Api.HEARTBEAT, Code.ILLEGAL_GENERATION),
        (Api.OFFSET_FETCH, Code.COORDINATOR_LOAD_IN_PROGRESS),
        (Api.METADATA, Code.LEADER_NOT_AVAILABLE),
        (Api.LIST_OFFSETS, Code.NOT_LEADER),
        (Api.FETCH, Code.NOT_LEADER),
    ],
)
def test_a_passing_error_is_got_over(api: Api, code: Code) -> None:
    async def scenario() -> None:
        async with ReplayBroker() as replay:
            (log,) = replay.create("orders")
            log.append([b"x"])
            rule = replay.fail(api, code, times=2)
            async with member(replay) as reader:
                assert offsets(await read(reader, 1)) == [0]
                async with asyncio.timeout(60):
                    while rule.struck < 2:
                        await reader.getmany(timeout_ms=20)

    asyncio.run(scenario())


@pytest.mark.slow
def test_more_than_a_million_records_a_second_leave_the_program() -> None:
    """A program serves what a topic's name says, and is not what a bench measures: over five
    million records of 200 bytes a second on a machine of two cores at rest."""
    before = os.times().children_user + os.times().children_system
    with program() as port, socket.create_connection(("127.0.0.1", port)) as wire:
        drain(wire, "bench.v200-p1-n4000000-b1000", 4_000_000)
    busy = os.times().children_user + os.times().children_system - before
    print(f"{4 / busy:.1f} million records a second of its processor")
    assert 4_000_000 / busy > 1_000_000


@contextlib.contextmanager
def program() -> Any:
    """The broker as a program of its own; gives its port."""
    command = [sys.executable, str(Path(replay_broker.__file__)), "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        try:
            yield int(running.stdout.readline().rsplit(":", 1)[1])
        finally:
            running.send_signal(signal.SIGTERM)
            assert running.wait(60) == 0


def drain(wire: socket.socket, topic: str, records: int) -> None:
    """Fetches all of a partition with nothing between it and the socket."""
    offset = 0
    buffer = bytearray(2 << 20)
    view = memoryview(buffer)
    name = topic.encode()
    while offset < records:
        body = struct.pack(">hhih", Api.FETCH, 4, 1, -1)
        body += struct.pack(">iiiib", -1, 100, 1, 1 << 20, 0)
        body += struct.pack(">ih", 1, len(name)) + name
        body += struct.pack(">iiqi", 1, 0, offset, 1 << 20)
        wire.sendall(struct.pack(">i", len(body)) + body)
        receive(wire, view[:4])
        size = struct.unpack_from(">i", buffer)[0]
        receive(wire, view[:size])
        at = 4 + 4 + 4 + 2 + len(name) + 4 + 4 + 2 + 8 + 8 + 4 + 4
        while at < size:
            first, length = struct.unpack_from(">qi", buffer, at)
            assert first == offset
            offset += struct.unpack_from(">i", buffer, at + 57)[0]
            at += 12 + length


def receive(wire: socket.socket, view: memoryview) -> None:
    while view:
        view = view[wire.recv_into(view) :]


def stable(group: Group, members: int) -> bool:
    return group.state.name == "STABLE" and len(group.members) == members


def member(replay: ReplayBroker, **options: Any) -> Any:
    return consumer(replay, "orders", **{**MEMBER, **options})


async def both_assigned(*members: AIOKafkaConsumer) -> None:
    async with asyncio.timeout(60):
        while not all(one.assignment() for one in members):
            for one in members:
                await one.getmany(timeout_ms=20)
