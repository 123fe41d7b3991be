"""What a careful consumer must do when brokers, bytes and groups go wrong, by script."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
import uvloop

from kafka_lanes import Call, FunctionFailed, Lanes, consuming, options
from replay.batches import Entry, Producer
from replay.log import Log
from replay_broker import Api, Code, Damage, Drop, ReplayBroker
from streamfaas.flow.errors import Unreachable
from streamfaas.flow.ledger import Checkpoint
from streamfaas.sources.kafka import Kafka, watch
from streamfaas.sources.kafka.fetch import FETCH_BYTES_MAX
from streamfaas.telemetry.signals import SourceChanged

pytestmark = pytest.mark.slow

Scenario = Callable[[ReplayBroker], Awaitable[None]]


def run(scenario: Scenario, nodes: int = 1, **settings: Any) -> None:
    async def main() -> None:
        async with ReplayBroker(nodes, **settings) as replay:
            await scenario(replay)

    uvloop.run(main())


def fill(log: Log, batches: int = 10, size: int = 50) -> None:
    for _ in range(batches):
        start = log.end
        log.append([b"value %d" % n for n in range(start, start + size)])


def first_deliveries(offsets: list[int]) -> list[int]:
    return list(dict.fromkeys(offsets))


def whole(count: int) -> list[int]:
    return list(range(count))


# -- damaged bytes


def test_a_batch_damaged_on_the_way_is_fetched_once_more_and_nothing_is_lost_or_run_twice() -> None:
    async def scenario(replay: ReplayBroker) -> None:
        logs = replay.create("orders", 3)
        for log in logs:
            fill(log)
        rule = replay.damage("orders", 1, 120, Damage.CHECKSUM, times=1)
        async with consuming(Lanes(options(replay.bootstrap, "orders"))) as lanes:
            await lanes.until_ran(500, 500, 500)
            assert rule.struck == 1
            assert not lanes.blocked()
        assert all(lanes.ran[f"orders-{n}"] == whole(500) for n in range(3))
        # the batch that was damaged, and those behind it in the same answer
        again = [f.offset for f in replay.fetches if f.partition == 1 and f.served_bytes]
        assert again.count(100) == 1
        assert replay.committed == {("g", "orders", n): 500 for n in range(3)}

    run(scenario)


@pytest.mark.parametrize("kind", [kind for kind in Damage if kind is not Damage.CUT])
def test_a_batch_damaged_in_the_log_blocks_its_lane_aloud_and_no_other(kind: Damage) -> None:
    async def scenario(replay: ReplayBroker) -> None:
        logs = replay.create("orders", 3)
        for log in logs:
            fill(log)
        rule = replay.damage("orders", 1, 120, kind, times=None)
        async with consuming(Lanes(options(replay.bootstrap, "orders"))) as lanes:
            await lanes.until_ran(500, 100, 500)
            await lanes.until(lambda: "orders-1" in lanes.blocked())
            assert "100" in lanes.blocked()["orders-1"]
            fill(logs[0], 2)
            replay.written()
            await lanes.until_ran(600)
            await replay.wait_until(lambda: rule.struck >= 2)
            assert lanes.ran["orders-1"] == whole(100)
            assert lanes.ran["orders-2"] == whole(500)
            assert not lanes.aside.documents
            await lanes.until(lambda: lanes.view()["state"] in {"blocked", "degraded"})
        assert replay.committed["g", "orders", 1] == 100

    run(scenario)


def test_a_blocked_lane_goes_on_by_itself_once_its_bytes_are_whole() -> None:
    async def scenario(replay: ReplayBroker) -> None:
        (log,) = replay.create("orders")
        fill(log)
        replay.damage("orders", 0, 120, Damage.CHECKSUM, times=None)
        async with consuming(Lanes(options(replay.bootstrap, "orders"))) as lanes:
            await lanes.until(lambda: "orders-0" in lanes.blocked())
            replay.heal()
            await lanes.until_ran(500)
            await lanes.until(lambda: not lanes.blocked())
        assert lanes.ran["orders-0"] == whole(500)

    run(scenario)


def test_answers_that_end_within_a_batch_are_read_on_without_a_gap() -> None:
    async def scenario(replay: ReplayBroker) -> None:
        logs = replay.create("orders", 3)
        for log in logs:
            fill(log, batches=100)
        # a batch has about 1,000 bytes, and a broker cuts wherever the size ends
        chosen = options(replay.bootstrap, "orders", fetch_bytes=2_500)
        async with consuming(Lanes(chosen)) as lanes:
            await lanes.until_ran(5_000, 5_000, 5_000)
        assert all(lanes.ran[f"orders-{n}"] == whole(5_000) for n in range(3))

    run(scenario)


def test_a_batch_larger_than_a_fetch_is_run_in_every_partition_and_never_stepped_over() -> None:
    async def scenario(replay: ReplayBroker) -> None:
        logs = replay.create("orders", 4)
        for log in logs:
            fill(log, batches=2)
            log.append([bytes(40_000)])
            fill(log, batches=2)
        chosen = options(replay.bootstrap, "orders", fetch_bytes=3_000)
        async with consuming(Lanes(chosen)) as lanes:
            await lanes.until_ran(201, 201, 201, 201)
        assert all(lanes.ran[f"orders-{n}"] == whole(201) for n in range(4))

    run(scenario)


def test_a_batch_that_no_fetch_gives_whole_blocks_its_lane_aloud() -> None:
    async def scenario(replay: ReplayBroker) -> None:
        logs = replay.create("orders", 2)
        for log in logs:
            fill(log)
        replay.damage("orders", 0, 120, Damage.CUT, times=None)
        async with consuming(Lanes(options(replay.bootstrap, "orders"))) as lanes:
            await lanes.until_ran(100, 500)
            await lanes.until(lambda: "orders-0" in lanes.blocked())
            assert "offset 100" in lanes.blocked()["orders-0"]
            assert f"{FETCH_BYTES_MAX:,}" in lanes.blocked()["orders-0"]
            assert lanes.ran["orders-0"] == whole(100)
        assert replay.committed["g", "orders", 0] == 100

    run(scenario)


@pytest.mark.parametrize("magic", [0, 1])
def test_messages_of_old_brokers_are_run_and_their_damage_is_found(magic: int) -> None:
    async def scenario(replay: ReplayBroker) -> None:
        logs = replay.create("orders", 2)
        for log in logs:
            log.append([b"%d" % n for n in range(20)], magic=magic)
            log.append([b"%d" % n for n in range(20)], magic=magic, codec="gzip")
        replay.damage("orders", 1, 5, Damage.CHECKSUM, times=None)
        async with consuming(Lanes(options(replay.bootstrap, "orders"))) as lanes:
            await lanes.until_ran(40, 5)
            await lanes.until(lambda: "orders-1" in lanes.blocked())
        assert lanes.ran == {"orders-0": whole(40), "orders-1": whole(5)}

    run(scenario)


# -- what a log leaves out


def test_holes_and_markers_neither_stall_a_lane_nor_are_taken_for_records() -> None:
    async def scenario(replay: ReplayBroker) -> None:
        (log,) = replay.create("orders")
        good, bad = (Producer(n, 0, transactional=True) for n in (7, 8))
        log.append_entries([Entry(2, b"2"), Entry(5, b"5")], span=(0, 9))
        log.append_entries([], span=(10, 19))
        log.skip(5)
        log.append([b"25", b"26"], producer=good)
        log.append([b"27", b"28"], producer=bad)
        log.finish(bad, commit=False)  # 29
        log.finish(good, commit=True)  # 30
        log.append([b"31"])
        log.append([b"32"], producer=bad)
        log.finish(bad, commit=False)  # 33, the last thing in the log
        assert log.end == 34
        async with consuming(Lanes(options(replay.bootstrap, "orders"))) as lanes:
            await replay.wait_until(lambda: replay.position("g", "orders") == 34)
            assert lanes.view()["lanes"][0]["lag"] == 0
        assert lanes.ran["orders-0"] == [2, 5, 25, 26, 31]

    run(scenario)


def test_records_of_an_open_transaction_wait_without_a_stall() -> None:
    async def scenario(replay: ReplayBroker) -> None:
        (log,) = replay.create("orders")
        slow = Producer(7, 0, transactional=True)
        log.append([b"0"])
        log.append([b"1"], producer=slow)
        log.append([b"2"])
        chosen = options(replay.bootstrap, "orders", stall_seconds=0.5)
        async with consuming(Lanes(chosen)) as lanes:
            await lanes.until_ran(1)
            fetched = replay.calls[Api.FETCH]
            await replay.wait_until(lambda: replay.calls[Api.FETCH] > fetched + 20)  # over a second
            assert len(lanes.sources) == 1
            log.finish(slow, commit=True)
            replay.written()
            await lanes.until_ran(3)
        assert lanes.ran["orders-0"] == [0, 1, 2]

    run(scenario)


# -- where a partition begins


def test_the_first_offset_is_committed_before_anything_runs() -> None:
    async def scenario(replay: ReplayBroker) -> None:
        (log,) = replay.create("orders")
        log.append_entries([Entry(n, b"", timestamp_ms=1_000 + n) for n in range(100)])
        for start, first in (("earliest", 0), ("latest", 100), (1_040, 40), (9_999, 100)):
            group = f"group-{start}"
            stands: list[int | None] = []

            async def look(_: Call, group: str = group, stands: list[Any] = stands) -> None:
                stands.append(replay.position(group, "orders"))

            chosen = options(replay.bootstrap, "orders", group=group, start=start)
            async with consuming(Lanes(chosen, work=look)) as lanes:
                await lanes.until_ran(100 - first)
                await replay.wait_until(lambda group=group: replay.position(group, "orders") == 100)
            assert lanes.ran["orders-0"] == list(range(first, 100))
            offsets = [commit.offset for commit in replay.commits if commit.group == group]
            assert offsets[0] == first
            assert stands[:1] in ([], [first])

    run(scenario)


@pytest.mark.parametrize("start", ["latest", "earliest"])
def test_a_partition_added_later_is_read_from_its_first_record(start: str) -> None:
    async def scenario(replay: ReplayBroker) -> None:
        (log,) = replay.create("orders")
        fill(log, 1)
        chosen = options(replay.bootstrap, "orders", start=start, metadata_seconds=0.3)
        async with consuming(Lanes(chosen)) as lanes:
            await lanes.until(lambda: lanes.open() == ["orders-0"])
            (added,) = replay.add_partitions("orders", 2)
            fill(added, 1)
            await lanes.until_ran(0, 50)
        assert lanes.ran["orders-1"] == whole(50)

    run(scenario)


def test_an_offset_that_retention_has_passed_blocks_and_names_what_is_lost() -> None:
    async def scenario(replay: ReplayBroker) -> None:
        logs = replay.create("orders", 2)
        for log in logs:
            fill(log)
        replay.committed["g", "orders", 0] = 70
        logs[0].retain(200)
        async with consuming(Lanes(options(replay.bootstrap, "orders", start="latest"))) as lanes:
            await lanes.until(lambda: "orders-0" in lanes.blocked())
            reason = lanes.blocked()["orders-0"]
            assert "70..199" in reason
            assert "seek f/t --to 200 --partition orders-0" in reason
            fill(logs[1], 1)
            replay.written()
            await lanes.until_ran(0, 50)
            assert lanes.ran["orders-0"] == []
        assert replay.committed["g", "orders", 0] == 70

    run(scenario)


def test_retention_that_overtakes_a_slow_function_blocks_and_what_was_read_still_runs() -> None:
    async def scenario(replay: ReplayBroker) -> None:
        (log,) = replay.create("orders")
        fill(log, batches=4)
        gate = asyncio.Event()

        async def slow(_: Call) -> None:
            await gate.wait()

        chosen = options(replay.bootstrap, "orders", fetch_bytes=1_500)
        async with consuming(Lanes(chosen, work=slow)) as lanes:
            await lanes.until(lambda: bool(lanes.calls))
            log.retain(180)
            gate.set()
            await lanes.until(lambda: "orders-0" in lanes.blocked())
            had = lanes.ran["orders-0"]
            assert had == whole(len(had))
            assert f"{len(had)}..179" in lanes.blocked()["orders-0"]
            assert replay.position("g", "orders") in {None, 0, len(had)}

    run(scenario)


def test_an_answer_out_of_range_about_what_the_log_still_holds_is_asked_again() -> None:
    async def scenario(replay: ReplayBroker) -> None:
        (log,) = replay.create("orders")
        fill(log)
        rule = replay.fail(Api.FETCH, Code.OFFSET_OUT_OF_RANGE, times=2)
        async with consuming(Lanes(options(replay.bootstrap, "orders"))) as lanes:
            await lanes.until_ran(500)
            assert rule.struck == 2
            await lanes.until(lambda: not lanes.blocked())
        assert lanes.ran["orders-0"] == whole(500)

    run(scenario)


def test_a_log_that_ends_before_the_committed_offset_blocks_and_asks_whether_it_is_new() -> None:
    async def scenario(replay: ReplayBroker) -> None:
        (log,) = replay.create("orders")
        fill(log, 1)
        replay.committed["g", "orders", 0] = 900
        async with consuming(Lanes(options(replay.bootstrap, "orders"))) as lanes:
            await lanes.until(lambda: "orders-0" in lanes.blocked())
            assert "900" in lanes.blocked()["orders-0"]
            assert "ends at 50" in lanes.blocked()["orders-0"]
        assert replay.committed["g", "orders", 0] == 900

    run(scenario)


# -- backpressure


def test_what_is_buffered_for_a_busy_lane_is_not_fetched_again_and_its_neighbours_go_on() -> None:
    async def scenario(replay: ReplayBroker) -> None:
        logs = replay.create("orders", 2)
        for log in logs:
            fill(log, batches=40)
        gates = [asyncio.Event()]

        async def slow_for_one(call: Call) -> None:
            if call.lane == "orders-0":
                await gates[-1].wait()

        chosen = options(replay.bootstrap, "orders", fetch_bytes=5_000)
        async with consuming(Lanes(chosen, work=slow_for_one)) as lanes:
            for batch in range(1, 6):
                await lanes.until(lambda batch=batch: count(lanes.calls, "orders-0") == batch)
                fill(logs[1], 1)
                replay.written()
                await lanes.until_ran(0, 2_000 + 50 * batch)
                gate = gates[-1]
                gates.append(asyncio.Event())
                gate.set()
            gates[-1].set()
            gates.append(gates[-1])
            await lanes.until_ran(2_000, 2_250)
        assert lanes.ran == {"orders-0": whole(2_000), "orders-1": whole(2_250)}
        served = Counter((f.partition, f.offset) for f in replay.fetches if f.served_bytes)
        assert [place for place, times in served.items() if times > 1] == []

    run(scenario)


def count(calls: list[Call], lane: str) -> int:
    return sum(call.lane == lane for call in calls)


# -- the group


def test_what_ends_after_its_lane_was_taken_away_changes_no_committed_offset() -> None:
    async def scenario(replay: ReplayBroker) -> None:
        (log,) = replay.create("orders")
        fill(log, 1)

        async def never(_: Call) -> None:
            await asyncio.Event().wait()

        chosen = options(replay.bootstrap, "orders", rebalance_timeout_seconds=1.5)
        async with consuming(Lanes(chosen, work=never)) as lanes:
            await lanes.until(lambda: bool(lanes.calls))
            before = replay.group("g").generation
            replay.group("g").rebalance()
            await lanes.until(lambda: len(lanes.calls) == 2)
            assert replay.group("g").generation > before
        # the source itself is asked as late as can be: while nothing of the lane is its own
        late = Kafka("f/t", chosen, clock=time.monotonic, emit=lambda _: None)
        async with reading(late) as opened:
            name = await opened()
            for moment in range(1, 3):
                seat, joins = generation(late), replay.calls[Api.JOIN_GROUP]
                replay.group("g").rebalance()
                await leaving(late)
                await late.closed(name)
                await replay.wait_until(lambda joins=joins: replay.calls[Api.JOIN_GROUP] > joins)
                if moment == 2:  # it is ours again, but nobody has been told so
                    await replay.wait_until(lambda seat=seat: generation(late) > seat)
                await late.settle(Checkpoint(name, 49))
                await opened()
                assert late.view().details["late_settlements"] == moment
        assert [commit.offset for commit in replay.commits] == [0]

    run(scenario)


@contextlib.asynccontextmanager
async def reading(source: Kafka) -> Any:
    """A source that is open; gives what waits for its next lane."""

    async def opened() -> Any:
        while True:
            arrival = await source.next(())
            if type(arrival).__name__ == "Opened":
                return arrival.lane

    async with anyio.create_task_group() as tasks:
        await source.open(lambda work, name: tasks.start_soon(work, name=name))
        try:
            yield opened
        finally:
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await source.close()


def generation(source: Kafka) -> int:
    return source.view().details["generation"]


async def leaving(source: Kafka) -> None:
    while type(await source.next(())).__name__ != "Closing":
        pass


def test_a_member_that_the_group_has_put_out_gives_its_work_up_and_begins_at_the_commit() -> None:
    async def scenario(replay: ReplayBroker) -> None:
        (log,) = replay.create("orders")
        fill(log, 4)
        gate = asyncio.Event()

        async def wait_once(_: Call) -> None:
            await gate.wait()

        chosen = options(replay.bootstrap, "orders")
        async with consuming(Lanes(chosen, work=wait_once, size=50)) as lanes:
            await lanes.until(lambda: bool(lanes.calls))
            (member,) = replay.group("g").members
            replay.group("g").remove(member)
            await lanes.until(lambda: len(lanes.calls) == 2)
            gate.set()
            await replay.wait_until(lambda: replay.position("g", "orders") == 200)
        assert first_deliveries(lanes.ran["orders-0"]) == whole(200)
        taken = [c for c in replay.commits if c.member == member and not c.code]
        assert [commit.offset for commit in taken] == [0]

    run(scenario)


@pytest.mark.parametrize("code", [Code.UNKNOWN_MEMBER_ID, Code.ILLEGAL_GENERATION])
def test_a_commit_that_is_refused_is_given_up_and_never_sent_again_as_it_was(code: Code) -> None:
    async def scenario(replay: ReplayBroker) -> None:
        (log,) = replay.create("orders")
        async with consuming(Lanes(options(replay.bootstrap, "orders"))) as lanes:
            await lanes.until(lambda: lanes.open() == ["orders-0"])
            rule = replay.fail(Api.OFFSET_COMMIT, code, times=1)
            fill(log, 1)
            replay.written()
            await replay.wait_until(lambda: rule.struck == 1)
            seat = replay.commits[-1].member, replay.commits[-1].generation
            await replay.wait_until(lambda: replay.position("g", "orders") == 50)
        assert first_deliveries(lanes.ran["orders-0"]) == whole(50)
        after = replay.commits[[c.code for c in replay.commits].index(code) + 1 :]
        assert seat not in [(commit.member, commit.generation) for commit in after]

    run(scenario)


@pytest.mark.parametrize(
    "code",
    [
        Code.COORDINATOR_LOAD_IN_PROGRESS,
        Code.COORDINATOR_NOT_AVAILABLE,
        Code.NOT_COORDINATOR,
        Code.REQUEST_TIMED_OUT,
        Code.REBALANCE_IN_PROGRESS,
    ],
)
def test_a_commit_that_fails_in_passing_is_made_up_for_and_nothing_runs_twice(code: Code) -> None:
    async def scenario(replay: ReplayBroker) -> None:
        (log,) = replay.create("orders")
        async with consuming(Lanes(options(replay.bootstrap, "orders"))) as lanes:
            await lanes.until(lambda: lanes.open() == ["orders-0"])
            rule = replay.fail(Api.OFFSET_COMMIT, code, times=3)
            fill(log, 2)
            replay.written()
            await replay.wait_until(lambda: replay.position("g", "orders") == 100)
            assert rule.struck == 3
        assert lanes.ran["orders-0"] == whole(100)

    run(scenario)


def test_batches_that_end_within_the_grace_are_committed_inside_the_rebalance() -> None:
    async def scenario(replay: ReplayBroker) -> None:
        logs = replay.create("orders", 4)
        for log in logs:
            fill(log, batches=20)
        together: list[tuple[str, int]] = []

        async def quick(call: Call) -> None:
            await anyio.sleep(0.02)
            together.extend((call.lane, offset) for offset in call.offsets)

        chosen = options(replay.bootstrap, "orders")
        async with consuming(Lanes(chosen, work=quick, size=20)) as stays:
            await stays.until(lambda: len(together) > 400)
            async with consuming(Lanes(chosen, work=quick, size=20)) as comes:
                await comes.until(lambda: len(comes.open()) == 2)
                await comes.until(lambda: sum(map(len, comes.ran.values())) > 200)
            await stays.until(lambda: len(together) >= 4_000)
        assert all(call.ended for call in stays.calls + comes.calls)  # none was cut off
        assert sorted(together) == sorted(
            (f"orders-{n}", o) for n in range(4) for o in whole(1_000)
        )
        for number in range(4):
            offsets = [offset for name, offset in together if name == f"orders-{number}"]
            assert offsets == whole(1_000)

    run(scenario)


def test_a_standby_without_a_partition_stays_in_the_group_and_takes_over() -> None:
    async def scenario(replay: ReplayBroker) -> None:
        (log,) = replay.create("orders")
        chosen = options(replay.bootstrap, "orders", session_timeout_seconds=1.0)
        async with consuming(Lanes(chosen)) as first:
            await first.until(lambda: first.open() == ["orders-0"])
            async with consuming(Lanes(chosen)) as second:
                await replay.wait_until(lambda: len(replay.group("g").members) == 2)
                await first.until(lambda: len(first.open() + second.open()) == 1)
                members = set(replay.group("g").members)
                beats = replay.calls[Api.HEARTBEAT]
                await replay.wait_until(lambda: replay.calls[Api.HEARTBEAT] > beats + 18)
                assert set(replay.group("g").members) == members  # for longer than three sessions
                owner, standby = (first, second) if first.open() else (second, first)
                await owner.mapping.stop(1.0)
                fill(log, 2)
                replay.written()
                await standby.until_ran(100)
        assert standby.ran["orders-0"] == whole(100)

    run(scenario)


def test_a_group_that_never_comes_to_rest_still_moves() -> None:
    async def scenario(replay: ReplayBroker) -> None:
        (log,) = replay.create("orders")
        fill(log, 100)

        async def slow(_: Call) -> None:
            await anyio.sleep(0.01)

        async with (
            consuming(Lanes(options(replay.bootstrap, "orders"), work=slow, size=20)) as lanes,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(again_and_again, replay)
            await lanes.until_ran(5_000)
            tasks.cancel_scope.cancel()
        assert lanes.ran["orders-0"] == whole(5_000)
        assert replay.group("g").generation > 4

    run(scenario)


async def again_and_again(replay: ReplayBroker) -> None:
    while True:
        await anyio.sleep(0.4)
        replay.group("g").rebalance()


# -- coordinators


@pytest.mark.parametrize(
    ("api", "code"),
    [
        (Api.FIND_COORDINATOR, Code.COORDINATOR_NOT_AVAILABLE),
        (Api.JOIN_GROUP, Code.COORDINATOR_NOT_AVAILABLE),
        (Api.JOIN_GROUP, Code.COORDINATOR_LOAD_IN_PROGRESS),
        (Api.JOIN_GROUP, Code.NOT_COORDINATOR),
        (Api.SYNC_GROUP, Code.REBALANCE_IN_PROGRESS),
        (Api.SYNC_GROUP, Code.COORDINATOR_NOT_AVAILABLE),
        (Api.OFFSET_FETCH, Code.COORDINATOR_LOAD_IN_PROGRESS),
        (Api.OFFSET_FETCH, Code.NOT_COORDINATOR),
        (Api.OFFSET_FETCH, Code.COORDINATOR_NOT_AVAILABLE),
        (Api.LIST_OFFSETS, Code.NOT_LEADER),
        (Api.LIST_OFFSETS, Code.LEADER_NOT_AVAILABLE),
    ],
)
def test_what_a_cluster_says_while_it_wakes_up_is_taken_quietly(api: Api, code: Code) -> None:
    async def scenario(replay: ReplayBroker) -> None:
        (log,) = replay.create("orders")
        fill(log, 1)
        rule = replay.fail(api, code, times=2)
        async with consuming(Lanes(options(replay.bootstrap, "orders"))) as lanes:
            await lanes.until_ran(50)
            assert rule.struck == 2
            assert lanes.states() == ["connecting", "running"]
            assert len(lanes.sources) == 1

    run(scenario)


def test_a_group_that_assigns_nothing_yet_is_named_with_what_helps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "WAITING_SECONDS", 0.2)

    async def scenario(replay: ReplayBroker) -> None:
        replay.create("orders")
        rule = replay.fail(Api.JOIN_GROUP, Code.COORDINATOR_NOT_AVAILABLE, times=1000)
        async with consuming(Lanes(options(replay.bootstrap, "orders"))) as lanes:
            await lanes.until(lambda: "waiting for group g to" in lanes.view()["reason"])
            assert lanes.view()["state"] == "connecting"
            assert "`instance` helps" in lanes.view()["reason"]
            await lanes.until(lambda: "waiting for" in lanes.told(SourceChanged)[-1].reason)
            rule.end()
            await lanes.until(lambda: lanes.states()[-1] == "running")

    run(scenario)


@pytest.mark.parametrize("drop", [Drop.UNANSWERED, Drop.HALFWAY])
@pytest.mark.parametrize("start", ["latest", "earliest"])
def test_offsets_that_are_still_being_loaded_are_not_taken_for_none(start: str, drop: Drop) -> None:
    async def scenario(replay: ReplayBroker) -> None:
        (log,) = replay.create("orders")
        fill(log)
        replay.committed["g", "orders", 0] = 200
        replay.fail(Api.OFFSET_FETCH, Code.COORDINATOR_LOAD_IN_PROGRESS, times=3)
        replay.drop(Api.OFFSET_FETCH, drop, times=1)
        chosen = options(replay.bootstrap, "orders", start=start)
        async with consuming(Lanes(chosen)) as lanes:
            await lanes.until_ran(300)
        assert lanes.ran["orders-0"] == list(range(200, 500))

    run(scenario)


@pytest.mark.parametrize(
    "code",
    [
        Code.REBALANCE_IN_PROGRESS,
        Code.UNKNOWN_MEMBER_ID,
        Code.ILLEGAL_GENERATION,
        Code.COORDINATOR_NOT_AVAILABLE,
        Code.NOT_COORDINATOR,
    ],
)
def test_whatever_a_heartbeat_hears_the_member_comes_back_and_loses_nothing(code: Code) -> None:
    async def scenario(replay: ReplayBroker) -> None:
        (log,) = replay.create("orders")
        # a member that believes it was put out comes back as another, and its old self is waited for
        chosen = options(replay.bootstrap, "orders", rebalance_timeout_seconds=1.0)
        async with consuming(Lanes(chosen)) as lanes:
            for batch in range(1, 4):
                rule = replay.fail(Api.HEARTBEAT, code, times=1)
                fill(log, 1)
                replay.written()
                await replay.wait_until(lambda rule=rule: rule.struck == 1)
                await lanes.until(lambda batch=batch: len(set(lanes.ran["orders-0"])) == 50 * batch)
            await replay.wait_until(lambda: replay.position("g", "orders") == 150)
        assert first_deliveries(lanes.ran["orders-0"]) == whole(150)

    run(scenario)


def test_a_coordinator_that_moves_is_found_and_the_commits_go_there() -> None:
    async def scenario(replay: ReplayBroker) -> None:
        (log,) = replay.create("orders")
        async with consuming(Lanes(options(replay.bootstrap, "orders"))) as lanes:
            await lanes.until(lambda: lanes.open() == ["orders-0"])
            replay.coordinator = 2
            fill(log, 2)
            replay.written()
            await replay.wait_until(lambda: replay.position("g", "orders") == 100)
        assert lanes.ran["orders-0"] == whole(100)

    run(scenario, nodes=2)


# -- leaders and connections


@pytest.mark.parametrize(
    "code",
    [
        Code.NOT_LEADER,
        Code.UNKNOWN_TOPIC_OR_PARTITION,
        Code.LEADER_NOT_AVAILABLE,
        Code.KAFKA_STORAGE_ERROR,
        Code.REQUEST_TIMED_OUT,
        Code.CORRUPT_MESSAGE,
    ],
)
def test_a_fetch_that_fails_for_one_partition_is_tried_again_and_holds_up_no_other(
    code: Code,
) -> None:
    async def scenario(replay: ReplayBroker) -> None:
        logs = replay.create("orders", 2)
        for log in logs:
            fill(log)
        rule = replay.fail(Api.FETCH, code, times=5, topic="orders", partition=0)
        async with consuming(Lanes(options(replay.bootstrap, "orders"))) as lanes:
            await lanes.until_ran(0, 500)
            assert rule.struck < 5
            await lanes.until_ran(500)
            assert rule.struck == 5
            assert len(lanes.sources) == 1
        assert lanes.ran == {"orders-0": whole(500), "orders-1": whole(500)}

    run(scenario)


def test_a_partition_is_followed_to_its_next_leader() -> None:
    async def scenario(replay: ReplayBroker) -> None:
        (log,) = replay.create("orders")
        async with consuming(Lanes(options(replay.bootstrap, "orders"))) as lanes:
            for turn, leader in enumerate((2, 3, None, 1, None, 2)):
                replay.lead("orders", 0, leader)
                if leader is None:
                    continue
                fill(log, 1)
                replay.written()
                await replay.wait_until(
                    lambda leader=leader: leader in [f.node for f in replay.fetches[-1:]], 15
                )
                await lanes.until(lambda turn=turn: lanes.ran["orders-0"][-1:] == [log.end - 1])
        assert lanes.ran["orders-0"] == whole(200)
        assert len(lanes.sources) == 1

    run(scenario, nodes=3)


@pytest.mark.parametrize("when", Drop)
def test_connections_that_break_at_every_kind_of_request_cost_no_record(when: Drop) -> None:
    async def scenario(replay: ReplayBroker) -> None:
        logs = replay.create("orders", 2)
        for log in logs:
            fill(log, 4)
        rules = {api: replay.drop(api, when, times=1) for api in Api}
        chosen = options(replay.bootstrap, "orders", session_timeout_seconds=1.0)
        async with consuming(Lanes(chosen)) as lanes:
            await replay.wait_until(lambda: positions(replay) == [200, 200])
            await replay.wait_until(lambda: rules[Api.HEARTBEAT].struck == 1)
        assert all(first_deliveries(lanes.ran[f"orders-{n}"]) == whole(200) for n in range(2))
        assert {api for api, rule in rules.items() if not rule.struck} == set()

    run(scenario)


def positions(replay: ReplayBroker) -> list[int | None]:
    return [replay.position("g", "orders", number) for number in range(2)]


def test_answers_that_come_in_drops_and_late_are_waited_for() -> None:
    async def scenario(replay: ReplayBroker) -> None:
        (log,) = replay.create("orders")
        fill(log, 2)
        replay.drip(Api.FETCH, 7, 0.001, times=2)
        replay.delay(Api.METADATA, 0.3, times=1)
        replay.delay(Api.JOIN_GROUP, 0.3, times=1)
        replay.delay(Api.OFFSET_COMMIT, 0.5, times=3)
        async with consuming(Lanes(options(replay.bootstrap, "orders"))) as lanes:
            await replay.wait_until(lambda: replay.position("g", "orders") == 100)
        assert lanes.ran["orders-0"] == whole(100)
        assert len(lanes.sources) == 1

    run(scenario)


def test_a_slow_commit_holds_up_neither_the_next_batch_nor_another() -> None:
    async def scenario(replay: ReplayBroker) -> None:
        (log,) = replay.create("orders")
        async with consuming(Lanes(options(replay.bootstrap, "orders"))) as lanes:
            await lanes.until(lambda: lanes.open() == ["orders-0"])
            replay.delay(Api.OFFSET_COMMIT, 60, times=1)
            fill(log, 1)
            replay.written()
            await replay.wait_until(lambda: bool(replay.faults._manners[0][0].struck))
            fill(log, 40)
            replay.written()
            await lanes.until_ran(2_050)
            assert replay.position("g", "orders") == 0
            replay.hang_up()

    run(scenario)


# -- nobody there


def test_a_cluster_that_is_down_at_open_is_a_plain_error_within_the_deadline() -> None:
    async def scenario(replay: ReplayBroker) -> None:
        await replay.stop_node(1)
        source = Kafka(
            "f/t", options(replay.bootstrap, "orders"), clock=time.monotonic, emit=lambda _: None
        )
        with pytest.raises(Unreachable, match="connection refused"):
            await source.open(lambda *_: None)
        await source.close()

    run(scenario)


def test_a_black_hole_at_open_is_a_plain_error_within_the_deadline() -> None:
    async def scenario(replay: ReplayBroker) -> None:
        replay.swallow()
        chosen = options(replay.bootstrap, "orders", open_seconds=1.0)
        source = Kafka("f/t", chosen, clock=time.monotonic, emit=lambda _: None)
        with pytest.raises(Unreachable, match=r"no answer from .* in 1 s"):
            await source.open(lambda *_: None)
        await source.close()

    run(scenario)


def test_a_port_that_speaks_another_protocol_is_a_plain_error_within_the_deadline() -> None:
    async def main() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            with contextlib.suppress(OSError):
                await reader.read()
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        chosen = options(f"127.0.0.1:{port}", "orders", open_seconds=1.0)
        source = Kafka("f/t", chosen, clock=time.monotonic, emit=lambda _: None)
        with pytest.raises(Unreachable, match=r"no answer from .* in 1 s"):
            await source.open(lambda *_: None)
        await source.close()
        server.close()
        await server.wait_closed()

    uvloop.run(main())


@pytest.mark.parametrize("how", ["down", "black hole"])
def test_a_cluster_that_is_gone_at_close_holds_up_nobody(how: str) -> None:
    async def scenario(replay: ReplayBroker) -> None:
        (log,) = replay.create("orders")
        fill(log, 1)
        async with consuming(Lanes(options(replay.bootstrap, "orders"))) as lanes:
            await lanes.until_ran(50)
            if how == "down":
                await replay.stop_node(1)
            else:
                replay.swallow()
        assert not [told for told in lanes.told(SourceChanged) if "left behind" in told.reason]

    run(scenario)


def test_a_broker_that_goes_away_and_comes_back_loses_nothing() -> None:
    async def scenario(replay: ReplayBroker) -> None:
        (log,) = replay.create("orders")
        async with consuming(Lanes(options(replay.bootstrap, "orders"))) as lanes:
            fill(log, 1)
            await lanes.until_ran(50)
            await replay.stop_node(1)
            fill(log, 1)
            await lanes.until(lambda: "cannot reach" in lanes.view()["reason"])
            assert lanes.view()["state"] == "degraded"
            await replay.start_node(1)
            await replay.wait_until(lambda: replay.position("g", "orders") == 100)
        assert first_deliveries(lanes.ran["orders-0"]) == whole(100)

    run(scenario)


def test_a_partition_that_nobody_answers_for_makes_the_source_anew() -> None:
    async def scenario(replay: ReplayBroker) -> None:
        (log,) = replay.create("orders")
        fill(log, 1)
        chosen = options(replay.bootstrap, "orders", stall_seconds=1.0)
        async with consuming(Lanes(chosen)) as lanes:
            await lanes.until_ran(50)
            hole = replay.swallow(Api.FETCH)
            await replay.wait_until(lambda: hole.struck > 0)
            fill(log, 1)
            replay.written()
            await lanes.until(lambda: "rebuilt" in lanes.states())
            replay.heal()
            await lanes.until(lambda: len(set(lanes.ran["orders-0"])) == 100)
            assert len(lanes.sources) == 2
        assert lanes.ran["orders-0"] == whole(100)

    run(scenario)


def test_a_lane_that_waits_for_its_function_or_is_blocked_is_no_stall() -> None:
    async def scenario(replay: ReplayBroker) -> None:
        logs = replay.create("orders", 2)
        for log in logs:
            fill(log, 4)
        replay.damage("orders", 1, 0, Damage.LENGTH, times=None)
        gate = asyncio.Event()

        async def wait(_: Call) -> None:
            await gate.wait()

        chosen = options(replay.bootstrap, "orders", stall_seconds=0.4, fetch_bytes=1_000)
        async with consuming(Lanes(chosen, work=wait)) as lanes:
            await lanes.until(lambda: bool(lanes.calls) and "orders-1" in lanes.blocked())
            beats = replay.calls[Api.HEARTBEAT]
            await replay.wait_until(lambda: replay.calls[Api.HEARTBEAT] > beats + 3)
            assert len(lanes.sources) == 1
            gate.set()
            await lanes.until_ran(200)
            assert len(lanes.sources) == 1

    run(scenario)


# -- not allowed


@pytest.mark.parametrize(
    ("api", "code", "told"),
    [
        (Api.FETCH, Code.TOPIC_AUTHORIZATION_FAILED, "topic orders"),
        (Api.METADATA, Code.TOPIC_AUTHORIZATION_FAILED, "topic orders"),
        (Api.FIND_COORDINATOR, Code.GROUP_AUTHORIZATION_FAILED, "group"),
        (Api.JOIN_GROUP, Code.GROUP_AUTHORIZATION_FAILED, "group"),
        (Api.OFFSET_FETCH, Code.GROUP_AUTHORIZATION_FAILED, "group"),
        (Api.OFFSET_COMMIT, Code.GROUP_AUTHORIZATION_FAILED, "group"),
        (Api.OFFSET_COMMIT, Code.TOPIC_AUTHORIZATION_FAILED, "topic"),
    ],
)
def test_a_permission_that_is_missing_is_told_in_plain_words(
    api: Api, code: Code, told: str
) -> None:
    async def scenario(replay: ReplayBroker) -> None:
        (log,) = replay.create("orders")
        fill(log, 1)
        replay.fail(api, code, times=None)
        async with consuming(Lanes(options(replay.bootstrap, "orders"))) as lanes:
            await lanes.until(lambda: lanes.view()["state"] == "degraded", 10)
            assert "no permission for" in lanes.view()["reason"]
            assert told in lanes.view()["reason"]

    run(scenario)


def test_a_function_that_fails_holds_its_lane_and_its_commit_and_no_other() -> None:
    async def scenario(replay: ReplayBroker) -> None:
        logs = replay.create("orders", 2)
        for log in logs:
            fill(log, 2)
        broken = True

        async def fail(call: Call) -> None:
            if broken and call.lane == "orders-0" and 70 in call.offsets:
                raise FunctionFailed

        async with consuming(
            Lanes(options(replay.bootstrap, "orders"), work=fail, size=50)
        ) as lanes:
            await lanes.until_ran(50, 100)
            await lanes.until(lambda: "orders-0" in lanes.blocked())
            await replay.wait_until(lambda: positions(replay) == [50, 100])
            broken = False
            await lanes.until_ran(100)
        assert positions(replay) == [100, 100]

    run(scenario)
