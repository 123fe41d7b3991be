"""What concerns a real broker: restart and rebalance (line 9.14), groups and what they commit (1.5),
mappings beside each other. Under load and many times over: tests/sources/test_kafka_cluster.py,
tests/proof."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager

import anyio
import pytest
import uvloop

import kafka_member
from kafka_lanes import FunctionFailed, Lanes, consuming, options

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

COUNT = 300
"""Records of each of the two partitions."""


def group():
    return f"group-{uuid.uuid4().hex[:12]}"


async def filled(kafka, partitions=2, count=COUNT):
    """A topic whose records are their own offsets."""
    topic = await kafka.create_topic(partitions=partitions)
    for partition in range(partitions):
        await kafka.produce(topic, [b"%d" % n for n in range(count)], partition=partition)
    return topic


def finished(ledger):
    """Which records have run, and when (monotonic nanoseconds)."""
    lines = ledger.read_text().splitlines() if ledger.exists() else []
    rows = [json.loads(line) for line in lines if line.endswith("}")]
    return [
        (row["at"], int(row["lane"].rpartition("-")[2]), offset)
        for row in rows
        if row["word"] == "ended"
        for offset in row["offsets"]
    ]


@contextmanager
def killed(asked):
    """A member in a process of its own, killed at the end."""
    command = [sys.executable, kafka_member.__file__, json.dumps(asked)]
    with subprocess.Popen(command) as process:
        try:
            yield
        finally:
            process.kill()


def test_9_14_over_a_kill_and_a_rebalance_nothing_is_lost_and_no_commit_passes_unfinished_work(
    kafka, tmp_path
):
    ledger, name, runs, commits = tmp_path / "ledger", group(), [], []

    async def work(call):
        await anyio.sleep(0.02)
        runs.extend((time.monotonic_ns(), int(call.lane.rpartition("-")[2]), o) for o in call.offsets)  # fmt: skip

    async def watch(topic):
        async with kafka.watching(name) as look:
            while True:
                given = await look(topic)
                commits.append((time.monotonic_ns(), given))
                await anyio.sleep(0.05)

    async def main():
        topic = await filled(kafka)
        asked = {
            "bootstrap": kafka.bootstrap, "topic": topic, "group": name, "ledger": str(ledger),
            "work_seconds": 0.02, "size": 5, "session_seconds": 2.0,
        }  # fmt: skip
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch, topic)
            with killed(asked):
                with anyio.fail_after(60):
                    while len(finished(ledger)) < 100:  # noqa: ASYNC110 - a file
                        await anyio.sleep(0.02)
            chosen = options(kafka.bootstrap, topic, group=name, session_timeout_seconds=6.0)
            first, second = (Lanes(chosen, work=work, size=5) for _ in range(2))
            async with consuming(first):
                await first.until(lambda: len(runs) >= 50)
                async with consuming(second):  # and half of the partitions are its own now
                    await kafka.wait_for_commit(name, topic, {0: COUNT, 1: COUNT})
            tasks.cancel_scope.cancel()
            return second

    second = uvloop.run(main())

    assert any(second.ran.values()), "nothing was handed over"
    ended = sorted(finished(ledger) + runs)
    assert {(lane, offset) for _, lane, offset in ended} == {
        (lane, offset) for lane in range(2) for offset in range(COUNT)
    }
    assert any(0 < sum(given.values()) < 2 * COUNT for _, given in commits)
    for at, given in commits:
        done = {(lane, offset) for then, lane, offset in ended if then <= at}
        assert all((lane, o) in done for lane, upto in given.items() for o in range(upto))


def test_1_05_records_that_a_filter_leaves_out_are_committed_with_those_that_ran(kafka):
    class Seventh:
        def wants(self, metadata, data):
            return metadata["offset"] % 7 == 0

    async def main():
        topic, name = await filled(kafka, 1, 100), group()
        lanes = Lanes(options(kafka.bootstrap, topic, group=name), size=10, filter=Seventh())
        async with consuming(lanes):
            await kafka.wait_for_commit(name, topic, {0: 100})
        return lanes

    lanes = uvloop.run(main())

    assert [call.offsets for call in lanes.calls] == [[0, 7, 14, 21, 28, 35, 42, 49, 56, 63], [70, 77, 84, 91, 98]]  # fmt: skip


def test_1_05_a_failing_batch_is_tried_again_until_it_succeeds_and_only_then_committed(kafka):
    failures = []

    async def work(call):
        if 20 in call.offsets and len(failures) < 4:
            failures.append(call.offsets)
            raise FunctionFailed("total")

    async def main():
        topic, name = await filled(kafka, 1, 40), group()
        lanes = Lanes(options(kafka.bootstrap, topic, group=name), size=10, work=work)
        async with consuming(lanes):
            await lanes.until(lambda: len(failures) == 3)
            seen = await kafka.committed(name, topic)
            await kafka.wait_for_commit(name, topic, {0: 40})
        return seen

    assert uvloop.run(main())[0] <= 20
    assert failures == [list(range(20, 30))] * 4


def test_1_05_where_the_group_has_committed_offsets_the_starting_position_is_ignored(kafka):
    async def main():
        topic, name = await filled(kafka, 1, 20), group()
        before = Lanes(options(kafka.bootstrap, topic, group=name))
        async with consuming(before):
            await kafka.wait_for_commit(name, topic, {0: 20})
        await kafka.produce(topic, [b"20", b"21"], partition=0)
        after = {}
        for start in ("latest", "earliest"):
            lanes = after[start] = Lanes(options(kafka.bootstrap, topic, group=name, start=start))
            async with consuming(lanes):
                await kafka.produce(topic, [b"more"], partition=0)
                await lanes.until(lambda lanes=lanes: any(b"more" in c.values for c in lanes.calls))
        return [[o for call in lanes.calls for o in call.offsets] for lanes in after.values()]

    assert uvloop.run(main()) == [[20, 21, 22], [23]]


def test_8_01_each_of_two_mappings_on_one_topic_gets_every_record(kafka):
    async def main():
        topic = await filled(kafka, 2, 50)
        both = [Lanes(options(kafka.bootstrap, topic, group=group())) for _ in range(2)]
        async with consuming(both[0]), consuming(both[1]):
            for lanes in both:
                await lanes.until(lambda lanes=lanes: sum(map(len, lanes.ran.values())) == 100)
        return both

    for lanes in uvloop.run(main()):
        assert all(offsets == list(range(50)) for offsets in lanes.ran.values())
