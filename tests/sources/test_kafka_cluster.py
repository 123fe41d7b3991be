"""Members of a group on a real broker under load: joining, leaving, killed, frozen, and the broker
likewise. Every record is a number, its own offset, so that a ledger can be checked exactly."""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import pytest
import uvloop
from aiokafka import AIOKafkaConsumer
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

import kafka_member
from kafka_broker import Kafka
from kafka_lanes import WAIT_SECONDS, Call, Lanes, consuming, options

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

PARTITIONS = 4
WORK_SECONDS = 0.01
SIZE = 20
"""Records of a batch; with the time of a batch: 2,000 records a second of a partition at most."""

COMMIT_SECONDS = 0.05
SHORT_SESSION = 2.0
"""Where a member is to be put out, and it does not matter if another is as well."""


class Run(NamedTuple):
    """One record that was run, and when that ended (monotonic nanoseconds, in every process)."""

    at: int
    lane: str
    offset: int


class Scene:
    """A topic, a group, records that keep coming, and what has been seen of the group's commits."""

    def __init__(self, kafka: Kafka, topic: str) -> None:
        self.kafka = kafka
        self.topic = topic
        self.group = f"group-{uuid.uuid4().hex[:12]}"
        self.produced: Counter[int] = Counter()
        self.commits: list[tuple[int, dict[int, int]]] = []  # when it was seen, and what
        self.runs: list[Run] = []
        self.members: list[Lanes] = []  # those in this process
        self._enough = anyio.Event()

    def options(self, **other: Any) -> Any:
        return options(self.kafka.bootstrap, self.topic, group=self.group, **other)

    def lanes(self, **other: Any) -> Lanes:
        made = Lanes(self.options(**other), work=self._work, size=SIZE)
        self.members.append(made)
        return made

    async def _work(self, call: Call) -> None:
        await anyio.sleep(WORK_SECONDS)
        assert [int(value) for value in call.values] == call.offsets
        at = time.monotonic_ns()
        self.runs += [Run(at, call.lane, offset) for offset in call.offsets]

    async def produce(self) -> None:
        """A thousand records a second, until there are enough."""
        async with self.kafka.producer(linger_ms=2, enable_idempotence=True) as producer:
            while not self._enough.is_set():
                for partition in range(PARTITIONS):
                    for _ in range(10):
                        value = b"%d" % self.produced[partition]
                        await producer.send(self.topic, value, partition=partition)
                        self.produced[partition] += 1
                await anyio.sleep(0.04)
            await producer.flush()

    async def watch(self) -> None:
        """What the group has committed, every 50 ms."""
        async with self.kafka.watching(self.group) as look:
            while True:
                given = await look(self.topic)
                self.commits.append((time.monotonic_ns(), given))
                await anyio.sleep(0.05)

    async def finish(self) -> None:
        """No more records; until the group has committed every one."""
        self._enough.set()
        await anyio.sleep(0.1)
        await self.kafka.wait_for_commit(self.group, self.topic, dict(self.produced))


def run(kafka: Kafka, scenario: Callable[[Scene], Awaitable[None]]) -> Scene:
    async def main() -> Scene:
        scene = Scene(kafka, await kafka.create_topic(partitions=PARTITIONS))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(scene.watch)
            tasks.start_soon(scene.produce)
            await scenario(scene)
            tasks.cancel_scope.cancel()
        return scene

    scene = uvloop.run(main())
    assert min(scene.produced.values()) > 500, "too little load to show anything"
    return scene


# -- what must hold


def check(scene: Scene, runs: Sequence[Run]) -> int:
    """Every record was run, in order among first times, and no commit ran ahead or back; gives how
    many were run again."""
    by_lane: dict[str, list[Run]] = {}
    for one in runs:
        by_lane.setdefault(one.lane, []).append(one)
    for partition, count in scene.produced.items():
        mine = by_lane[f"{scene.topic}-{partition}"]
        assert list(dict.fromkeys(one.offset for one in mine)) == list(range(count))
        seen = [(at, given[partition]) for at, given in scene.commits if partition in given]
        check_commits(seen, mine)
    return len(runs) - sum(scene.produced.values())


def check_commits(seen: Sequence[tuple[int, int]], runs: Sequence[Run]) -> None:
    """No commit goes back, whoever makes it, nor past a record that has not ended by then."""
    assert all(before <= after for (_, before), (_, after) in itertools.pairwise(seen))
    coming, ended = iter(runs), -1
    following = next(coming, None)
    for at, committed in seen:
        while following is not None and following.at <= at:
            ended = max(ended, following.offset)  # first times are in order: all below have ended
            following = next(coming, None)
        assert committed <= ended + 1


@pytest.mark.parametrize(
    ("seen", "at"),
    [([(5, 1)], 6), ([(7, 2)], 6), ([(7, 1), (8, 0)], 6)],
    ids=["before it ended", "too far", "back"],
)
def test_a_commit_that_must_not_be_is_found(seen: list[tuple[int, int]], at: int) -> None:
    check_commits([(7, 1)], [Run(6, "orders-0", 0)])
    with pytest.raises(AssertionError):
        check_commits(seen, [Run(at, "orders-0", 0)])


# -- members come and go


def test_members_that_join_and_leave_under_load_run_every_record_exactly_once(
    kafka: Kafka,
) -> None:
    async def scenario(scene: Scene) -> None:
        async with consuming(scene.lanes()) as first:
            await first.until(lambda: len(first.open()) == 4)
            async with consuming(scene.lanes()) as second:
                await second.until(lambda: len(second.open()) == 2)
                async with consuming(scene.lanes()) as third:
                    await third.until(lambda: len(third.open()) > 0)
                    await third.until(lambda: len(scene.runs) > 2_000)
                await second.until(lambda: len(first.open() + second.open()) == 4)
            await first.until(lambda: len(first.open()) == 4)
            async with consuming(scene.lanes()) as fourth:
                await fourth.until(lambda: len(fourth.open()) == 2)
                await scene.finish()

    scene = run(kafka, scenario)
    assert check(scene, scene.runs) == 0
    assert all(call.ended for one in scene.members for call in one.calls)  # none was cut off


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_members_that_are_ended_under_load_lose_nothing(
    kafka: Kafka, tmp_path: Path, number: signal.Signals
) -> None:
    losses = 3

    async def scenario(scene: Scene) -> None:
        with contextlib.ExitStack() as members:
            session = SHORT_SESSION if number == signal.SIGKILL else 6.0

            def joined() -> subprocess.Popen[bytes]:
                return members.enter_context(member(scene, tmp_path, session))

            alive = [joined() for _ in range(2)]
            for _ in range(losses):
                await more(tmp_path, alive, 300)
                victim = alive.pop(0)
                victim.send_signal(number)
                victim.wait(60)
                alive.append(joined())
            await more(tmp_path, alive, 300)
            await scene.finish()

    scene = run(kafka, scenario)
    again = check(scene, ended(tmp_path))
    if number == signal.SIGTERM:
        assert again == 0
    else:
        # what ran since the last commit, and the batch in hand, of each partition of who was killed
        unsettled = SIZE + 2 * COMMIT_SECONDS / WORK_SECONDS * SIZE
        assert again <= losses * PARTITIONS * unsettled


def test_a_member_that_was_frozen_beyond_its_session_changes_no_commit(
    kafka: Kafka, tmp_path: Path
) -> None:
    async def scenario(scene: Scene) -> None:
        with (
            member(scene, tmp_path, SHORT_SESSION) as frozen,
            member(scene, tmp_path, SHORT_SESSION) as other,
        ):
            await more(tmp_path, [frozen, other], 300)
            frozen.send_signal(signal.SIGSTOP)
            try:
                await until(lambda: lanes_of(tmp_path, other) == PARTITIONS)
                await more(tmp_path, [other], 300)
            finally:
                frozen.send_signal(signal.SIGCONT)
            await more(tmp_path, [frozen, other], 300)  # it is back, with new partitions
            await scene.finish()

    scene = run(kafka, scenario)
    check(scene, ended(tmp_path))


@contextlib.contextmanager
def member(scene: Scene, folder: Path, session_seconds: float) -> Iterator[subprocess.Popen[bytes]]:
    asked = {
        "bootstrap": scene.kafka.bootstrap,
        "topic": scene.topic,
        "group": scene.group,
        "ledger": str(folder / "ledger"),
        "work_seconds": WORK_SECONDS,
        "size": SIZE,
        "session_seconds": session_seconds,
    }
    command = [sys.executable, kafka_member.__file__, json.dumps(asked)]
    with subprocess.Popen(command) as process:
        try:
            yield process
        finally:
            process.kill()


def rows(folder: Path) -> list[dict[str, Any]]:
    """The lines of the ledger; the last may be torn."""
    path = folder / "ledger"
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def ended(folder: Path) -> list[Run]:
    found = sorted((row for row in rows(folder) if row["word"] == "ended"), key=lambda r: r["at"])
    for row in found:
        assert [int(value) for value in row["values"]] == row["offsets"]
    return [Run(row["at"], row["lane"], offset) for row in found for offset in row["offsets"]]


def lanes_of(folder: Path, process: subprocess.Popen[bytes]) -> int:
    return len({row["lane"] for row in rows(folder) if row["who"] == str(process.pid)})


async def more(folder: Path, members: Sequence[subprocess.Popen[bytes]], records: int) -> None:
    """Until each of the members has run so many more."""

    def done() -> Counter[str]:
        count: Counter[str] = Counter()
        for row in rows(folder):
            count[row["who"]] += len(row["offsets"]) if row["word"] == "ended" else 0
        return count

    before, names = done(), [str(one.pid) for one in members]
    await until(lambda: all(done()[name] >= before[name] + records for name in names))


async def until(true: Callable[[], bool]) -> None:
    with anyio.fail_after(WAIT_SECONDS):
        while not true():  # noqa: ASYNC110 - another process writes, and tells nobody
            await anyio.sleep(0.05)


def test_a_group_in_which_somebody_comes_and_goes_all_the_time_still_moves(kafka: Kafka) -> None:
    async def scenario(scene: Scene) -> None:
        async with consuming(scene.lanes()) as lanes:
            await lanes.until(lambda: len(lanes.open()) == PARTITIONS)
            for _ in range(5):
                async with guest(scene, RangePartitionAssignor) as visitor:
                    await until(lambda: bool(visitor.assignment()))
                had = len(scene.runs)
                await lanes.until(lambda had=had: len(scene.runs) > had)
            await scene.finish()

    scene = run(kafka, scenario)
    assert check(scene, scene.runs) == 0


@contextlib.asynccontextmanager
async def guest(scene: Scene, assignor: Any) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer of another program in the group, which reads nothing."""
    consumer = AIOKafkaConsumer(
        scene.topic,
        bootstrap_servers=scene.kafka.bootstrap,
        group_id=scene.group,
        enable_auto_commit=False,
        partition_assignment_strategy=(assignor,),
        heartbeat_interval_ms=300,
    )
    try:
        await consumer.start()
        yield consumer
    finally:
        await consumer.stop()


# -- the broker comes and goes


def test_a_broker_that_is_killed_under_load_costs_no_record(kafka: Kafka) -> None:
    async def scenario(scene: Scene) -> None:
        lanes = [scene.lanes(fetch_bytes=4_000) for _ in range(2)]
        async with consuming(lanes[0]) as first, consuming(lanes[1]) as second:
            await first.until(lambda: len(first.open()) == len(second.open()) == 2)
            await first.until(lambda: len(scene.runs) > 1_000)
            kafka.broker.kill()
            await kafka.broker.start()
            had = len(scene.runs)
            await first.until(lambda: len(scene.runs) > had + 1_000)
            await scene.finish()

    scene = run_outliving(kafka, scenario)
    check(scene, scene.runs)


def test_a_broker_that_is_frozen_beyond_every_session_costs_no_record(kafka: Kafka) -> None:
    async def scenario(scene: Scene) -> None:
        lanes = [
            scene.lanes(fetch_bytes=4_000, session_timeout_seconds=SHORT_SESSION) for _ in range(2)
        ]
        async with consuming(lanes[0]) as first, consuming(lanes[1]) as second:
            await first.until(lambda: len(first.open()) == len(second.open()) == 2)
            await first.until(lambda: len(scene.runs) > 1_000)
            kafka.broker.freeze()
            try:
                await anyio.sleep(2 * SHORT_SESSION)
            finally:
                kafka.broker.thaw()
            had = len(scene.runs)
            await first.until(lambda: len(scene.runs) > had + 1_000)
            await scene.finish()

    scene = run_outliving(kafka, scenario)
    check(scene, scene.runs)


def run_outliving(kafka: Kafka, scenario: Callable[[Scene], Awaitable[None]]) -> Scene:
    """As `run`, without a sampler that would not survive the broker; all is produced before."""

    async def main() -> Scene:
        scene = Scene(kafka, await kafka.create_topic(partitions=PARTITIONS))
        for partition in range(PARTITIONS):
            scene.produced[partition] = 3_000
            values = [b"%d" % number for number in range(3_000)]
            # in small batches, so that little is read ahead
            await kafka.produce(scene.topic, values, partition=partition, max_batch_size=1_000)
        await scenario(scene)
        return scene

    return uvloop.run(main())


# -- what a cluster refuses, and what vanishes from it


def test_a_group_that_others_use_in_another_way_is_refused_in_plain_words(kafka: Kafka) -> None:
    async def main() -> None:
        scene = Scene(kafka, await kafka.create_topic(partitions=PARTITIONS))
        async with guest(scene, RoundRobinPartitionAssignor) as visitor:
            await until(lambda: bool(visitor.assignment()))
            async with consuming(scene.lanes()) as lanes:
                await lanes.until(lambda: "another kind of assignment" in lanes.view()["reason"])
                assert lanes.view()["state"] == "degraded"

    uvloop.run(main())


def test_a_session_that_the_broker_does_not_allow_is_refused_in_plain_words(kafka: Kafka) -> None:
    async def main() -> None:
        scene = Scene(kafka, await kafka.create_topic(partitions=PARTITIONS))
        async with consuming(scene.lanes(session_timeout_seconds=0.5)) as lanes:
            await lanes.until(lambda: "session_timeout" in lanes.view()["reason"])

    uvloop.run(main())


@pytest.mark.parametrize("start", ["earliest", "latest"])
def test_a_topic_that_is_deleted_is_told_and_begun_anew_when_it_is_made_again(
    kafka: Kafka, start: str
) -> None:
    async def main() -> None:
        scene = Scene(kafka, await kafka.create_topic(partitions=1))
        async with consuming(scene.lanes(start=start)) as lanes:
            await lanes.until(lambda: len(lanes.open()) == 1)
            await kafka.produce(scene.topic, [b"%d" % number for number in range(30)])
            await lanes.until(lambda: len(scene.runs) == 30)
            await kafka.delete_topic(scene.topic)
            await lanes.until(lambda: "no topic" in lanes.view()["reason"])
            await kafka.create_topic(scene.topic, named=True)
            if start == "latest":  # its offsets were deleted with it, so the start counts again
                await lanes.until(lambda: len(lanes.open()) == 1)
            await kafka.produce(scene.topic, [b"%d" % number for number in range(50)])
            await lanes.until(lambda: len(scene.runs) == 80)
        assert [one.offset for one in scene.runs] == [*range(30), *range(50)]

    uvloop.run(main())
