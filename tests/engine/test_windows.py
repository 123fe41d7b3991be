"""Tumbling windows as lanes carry them out: over crashes, moves, failures, and to their end."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lane_scene import BAD, WALL, Kept
from streamfaas.engine.mapping import Pause
from streamfaas.flow.errors import StoreError
from streamfaas.flow.outcome import Success
from streamfaas.flow.record import Instant
from streamfaas.flow.verdict import RetryPolicy
from streamfaas.flow.window import GRACE_SECONDS
from streamfaas.sources import Closing
from streamfaas.store import windows
from streamfaas.telemetry import signals
from streamfaas.testing.simulation import simulate
from window_scene import Table, World, counted, lived, partial, positions, until

steps = st.lists(
    st.tuples(st.sampled_from(["crash", "crash", "move", "pause"]), st.floats(0.01, 3.0)),
    max_size=6,
)
chances = st.lists(
    st.sampled_from(["fine", "fine", "fine", "failed", "partial", "stateless"]), max_size=40
)
poison = st.sets(st.tuples(st.integers(0, 1), st.integers(0, 29)), max_size=3)


@pytest.mark.slow
@settings(max_examples=50)
@given(steps, chances, poison)
def test_each_record_is_in_the_last_state_of_one_window_or_put_aside(steps, chances, poison):
    chances = list(chances)

    def answer(event, outcome):
        records = [r for lane in event["records"].values() for r in lane]
        if poison & {(r["partition"], r["offset"]) for r in records}:
            return BAD
        chance = chances.pop() if chances else "fine"
        if chance == "failed":
            return BAD
        if event["isFinalInvokeForWindow"] or chance == "fine":
            return outcome
        if chance == "stateless":
            return Success(b"null")
        # the state covers what comes before the first record that is told of
        return partial(event, records, len(records) // 2)

    async def main():
        retry = RetryPolicy(40, backoff_seconds=0.05, backoff_seconds_max=0.05, bisect=True)
        told = Kept()
        world = World(
            records=60, rate=6.0, partitions=2, answer=answer, partial=True, retry=retry,
            on_success=told,
        )  # fmt: skip
        for step, seconds in steps:
            async with world.daemon() as mapping:
                await anyio.sleep(seconds)
                if step == "pause":
                    mapping.pause(Pause(0, "me"))
                    await anyio.sleep(seconds)
                    mapping.resume()
                    await anyio.sleep(seconds)
                if step == "move":
                    source = world.sources[-1]
                    source.revoke(source.lanes[0], 1.0)
                    await anyio.sleep(0.4)
                    source.assign(source.lanes[0])
                    await anyio.sleep(seconds / 2)
        async with world.daemon():
            with anyio.fail_after(600):
                await world.until_all_is_counted()
        return world

    world, _ = simulate(main)
    found, documents = counted(world), world.kept.documents
    for number, lane in enumerate(("orders-0", "orders-1")):
        told = [seen for (name, _), seen in sorted(found.items()) if name == lane]
        good = [position for position in range(30) if (number, position) not in poison]
        assert [position for seen in told for position in seen] == good
    aside = {(int(one["streamfaas"]["lane"][-1]), one["streamfaas"]["first"]) for one in documents}
    assert aside == poison
    assert len({start for _, start in found}) >= 3


@pytest.mark.slow
@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 1), st.floats(0.05, 2.5)), max_size=8))
def test_where_daemons_with_stores_of_their_own_take_turns_nothing_is_lost_untold(turns):
    """Each record is in the last state of a window, or in a state that is told to be lost."""

    async def main():
        world = World(records=40, rate=6.0)
        tables = [world.table, Table()]

        def take_over(who):
            world.table = tables[who]
            world.store = windows.Windows(world.table)

        for who, seconds in turns:
            take_over(who)
            async with world.daemon():
                await anyio.sleep(seconds)
        for who in (0, 1):  # each ends its windows, or learns that others have read on
            take_over(who)
            async with world.daemon():
                with anyio.fail_after(600):
                    await world.until_all_is_counted()
        return world

    world, _ = simulate(main)
    in_finals = {position for event in world.finals for position in event["state"]["seen"]}
    lost = {(signal.lane.name, signal.start_ms) for signal in world.seen(signals.WindowLost)}
    told = {
        position
        for lane, start_ms, seen in world.states
        if (lane, start_ms) in lost
        for position in seen
    }
    assert in_finals | told == set(range(40))


# -- single steps


def test_a_window_ends_a_little_after_its_time_though_nothing_follows():
    async def body(world, mapping):
        await world.until_all_is_counted()
        assert 2.0 <= anyio.current_time() <= 4.0 + GRACE_SECONDS + 1.0

    world = lived(World(records=3, rate=None), body)
    assert counted(world) == {("orders-0", world.finals[0]["window"]["start"]): [0, 1, 2]}


def test_a_window_does_not_end_while_something_may_be_unread():
    async def body(world, mapping):
        world.sources[-1].seen_empty = lambda lane: Instant(3.0)  # before the window is over
        await anyio.sleep(100.0)
        assert world.finals == []
        world.sources[-1].seen_empty = lambda lane: Instant(anyio.current_time())
        await anyio.sleep(1.0)

    assert len(lived(World(records=3, rate=None), body).finals) == 1


def test_what_is_given_up_is_in_no_state_and_what_the_function_reports_is_told_with_it():
    def answer(event, outcome):
        return BAD if 4 in positions(event) else outcome

    retry = RetryPolicy(0, bisect=True)
    world = lived(World(records=8, rate=None, answer=answer, retry=retry))
    assert list(counted(world).values()) == [[0, 1, 2, 3, 5, 6, 7]]
    (document,) = world.kept.documents
    payload = document["payload"]
    assert [each["offset"] for each in payload["records"]["orders-0"]] == [4]
    assert payload["state"] == {"seen": [0, 1, 2, 3]}
    assert payload["window"] == world.finals[0]["window"]


def test_a_last_invocation_that_fails_holds_the_lane_until_it_does_not():
    failures = [BAD] * 7

    def answer(event, outcome):
        return failures.pop() if event["isFinalInvokeForWindow"] and failures else outcome

    world = lived(World(records=60, rate=10.0, answer=answer))
    finals = [n for n, event in enumerate(world.events) if event["isFinalInvokeForWindow"]]
    assert finals[:8] == list(range(finals[0], finals[0] + 8))  # and nothing in between
    assert [position for seen in counted(world).values() for position in seen] == list(range(60))
    assert world.seen(signals.LaneHealed)


def test_a_last_invocation_that_is_given_up_goes_to_the_destination_with_its_state():
    def answer(event, outcome):
        return BAD if event["isFinalInvokeForWindow"] else outcome

    world = World(records=3, rate=None, answer=answer, retry=RetryPolicy(1))
    world.kept.per_record = True
    lived(world)
    (document,) = world.kept.documents
    assert document["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert document["requestContext"]["approximateInvokeCount"] == 2
    assert document["KafkaBatchInfo"]["batchSize"] == 0
    assert document["payload"]["state"] == {"seen": [0, 1, 2]}
    assert document["payload"]["isFinalInvokeForWindow"] is True


def test_the_answer_of_a_last_invocation_is_not_read_and_goes_to_where_successes_go():
    def answer(event, outcome):
        return Success(b'"sum: 3"') if event["isFinalInvokeForWindow"] else outcome

    told = Kept()
    world = lived(World(records=3, rate=None, answer=answer, on_success=told, partial=True))
    assert [document["responsePayload"] for document in told.documents][1:] == ["sum: 3"]
    assert len({letter.id for letter in told.letters}) == 2
    assert len(world.finals) == 1


def test_a_last_invocation_that_is_made_again_after_a_crash_has_the_same_state():
    """Though something came meanwhile that would have been in the window."""

    def answer(event, outcome):
        world.table.deaf = event["isFinalInvokeForWindow"] and not world.finals
        return outcome

    world = World(records=5, rate=None, answer=answer)

    async def main():
        async with world.daemon():
            await until(lambda: len(world.finals) == 1)
        world.table.deaf = False  # it was not written down that the window had ended
        world.options = replace(world.options, records=8)
        source = world.make_source
        world.make_source = lambda: late(source())
        async with world.daemon():
            await world.until_all_is_counted()

    def late(source):
        plain = source.records

        def dated(batch):
            return [replace(one, timestamp_ms=int(WALL * 1000)) for one in plain(batch)]

        source.records = dated
        return source

    simulate(main)
    first, again, last = (event["state"]["seen"] for event in world.finals)
    assert first == again == [0, 1, 2, 3, 4]
    assert last == [5, 6, 7]


def test_a_lane_at_its_end_has_its_window_ended_before_it_is_let_go():
    failures = [BAD] * 5

    def answer(event, outcome):
        return failures.pop() if event["isFinalInvokeForWindow"] and failures else outcome

    async def body(world, mapping):
        source = world.sources[-1]
        await until(lambda: world.settled == 3)
        source._told.append(Closing(source.lanes[0], 0.0, ended=True))
        source.wake()
        await until(lambda: source.lanes[0] not in source._next and not source._leaving)
        assert len(world.finals) == 1
        await anyio.sleep(0.1)
        rows = world.table.connection.execute("SELECT count(*) FROM windows")
        assert rows.fetchone()[0] == 0  # it never comes again

    lived(World(records=3, rate=None, answer=answer, seconds=900.0), body, seconds=100)


def test_a_lane_at_its_end_without_an_open_window_is_let_go_even_if_it_is_paused():
    async def body(world, mapping):
        source = world.sources[-1]
        await world.until_all_is_counted()
        mapping.pause(Pause(0, "me"))
        source._told.append(Closing(source.lanes[0], 0.0, ended=True))
        source.wake()
        await anyio.sleep(1.0)
        assert not source._leaving

    lived(World(records=3, rate=None), body)


def test_a_state_is_lost_where_others_have_read_on_and_that_is_told():
    world = World(records=60, rate=6.0)

    async def main():
        async with world.daemon():
            await anyio.sleep(1.0)
        world.stream.checkpoints["orders-0"] = 20
        async with world.daemon():
            await world.until_all_is_counted()
        return world

    simulate(main)
    (lost,) = world.seen(signals.WindowLost)
    assert "@20 was finished with elsewhere" in lost.reason
    assert [position for seen in counted(world).values() for position in seen] == list(
        range(21, 60)
    )


def test_who_seeks_a_lane_elsewhere_drops_its_state_and_is_told():
    async def body(world, mapping):
        await anyio.sleep(2.0)
        lane = world.sources[-1].lanes[0]
        await mapping.seek({lane: 0}, 1.0)
        await world.until_all_is_counted()

    world = lived(World(records=30, rate=6.0), body)
    (lost,) = world.seen(signals.WindowLost)
    assert lost.reason == "it is read on from elsewhere"
    assert [position for seen in counted(world).values() for position in seen] == list(range(30))


def test_an_answer_without_a_state_is_a_failure_in_all_that_counts_them():
    world = World(records=5, rate=6.0, answer=lambda event, outcome: Success(b"null"))

    async def body(world, mapping):
        await anyio.sleep(2.0)
        view = mapping.view(Instant(asyncio.get_running_loop().time()))
        assert view["failures"] == view["batches"] > 0

    lived(world, body)
    ends = world.seen(signals.InvocationEnded)
    assert ends
    assert {end.outcome.type for end in ends} == {"TumblingWindow.NoState"}


def turned_off(world, *, seconds=0.0, meanwhile=None, off=1.0):
    """A daemon with windows that is killed within one, and another that has none (or others)."""

    async def main():
        async with world.daemon():
            await anyio.sleep(1.0)
        world.seconds = seconds
        async with world.daemon() as mapping:
            if meanwhile is not None:
                await meanwhile(mapping)
            await anyio.sleep(off)
        return world

    return simulate(main)[0]


def test_a_window_that_is_turned_off_has_its_last_invocation_before_anything_else():
    world = turned_off(World(records=30, rate=6.0), off=5.0)
    ((_, seen),) = counted(world).items()
    at = world.events.index(world.finals[0])
    assert all("window" in event for event in world.events[:at])
    assert all("window" not in event for event in world.events[at + 1 :])
    # what comes again, and is in the state, does not run again
    assert seen + [position for each in world.without for position in each] == list(range(30))
    assert world.seen(signals.WindowLost) == []
    assert world.open == 0


def test_what_is_in_the_state_of_a_window_that_was_turned_off_does_not_run_after_a_crash():
    world = World(records=30, rate=6.0)

    def rows():
        return world.table.connection.execute("SELECT count(*) FROM windows").fetchone()[0]

    async def main():
        async with world.daemon():  # which is killed before it has committed anything
            await anyio.sleep(0.4)
        world.seconds = 0.0
        async with world.daemon():  # and this one, with the window ended
            await anyio.sleep(0.3)
        assert len(world.finals) == rows() == 1
        assert world.stream.checkpoints == {}
        async with world.daemon():
            await anyio.sleep(5.0)
        async with world.daemon():
            await anyio.sleep(0.3)
        assert rows() == 0  # all that was in it is known to be settled

    simulate(main)
    ((_, seen),) = counted(world).items()
    ran = {position for each in world.without for position in each}
    assert ran.isdisjoint(seen)
    assert ran | set(seen) == set(range(30))


def test_the_last_invocation_of_a_window_that_is_turned_off_is_tried_again_and_given_up():
    def answer(event, outcome):
        return BAD if event.get("isFinalInvokeForWindow") else outcome

    world = turned_off(World(records=30, rate=6.0, answer=answer, retry=RetryPolicy(1)), off=5.0)
    (document,) = world.kept.documents
    seen = document["payload"]["state"]["seen"]
    assert document["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert seen + [position for each in world.without for position in each] == list(range(30))
    assert world.seen(signals.WindowLost) == []


def test_a_lane_at_its_end_waits_for_a_window_that_is_turned_off():
    failures = [BAD] * 5

    def answer(event, outcome):
        final = event.get("isFinalInvokeForWindow")
        return failures.pop() if final and failures else outcome

    world = World(records=3, rate=None, answer=answer, seconds=900.0)

    async def meanwhile(mapping):
        source = world.sources[-1]
        source._told.append(Closing(source.lanes[0], 0.0, ended=True))
        source.wake()
        await until(lambda: source.lanes[0] not in source._next and not source._leaving)
        assert len(world.finals) == 1

    turned_off(world, meanwhile=meanwhile)
    assert failures == []


def test_a_window_that_is_turned_off_is_lost_where_others_have_read_on():
    world = World(records=30, rate=6.0)

    async def main():
        async with world.daemon():
            await anyio.sleep(1.0)
        world.seconds = 0.0
        world.stream.checkpoints["orders-0"] = 20
        for _ in range(2):
            async with world.daemon():
                await anyio.sleep(1.0)

    simulate(main)
    (lost,) = world.seen(signals.WindowLost)
    assert "@20 was finished with elsewhere" in lost.reason
    assert world.finals == []


def test_keys_run_side_by_side_only_once_the_window_that_is_turned_off_has_ended():
    world = World(records=30, rate=6.0)

    async def main():
        async with world.daemon():
            await anyio.sleep(1.0)
        world.seconds, world.policy = 0.0, {"strands": 4}
        async with world.daemon():
            await anyio.sleep(5.0)

    simulate(main)
    ((_, seen),) = counted(world).items()
    assert world.events[-1 - len(world.without)] is world.finals[0]
    assert sorted(seen + [p for each in world.without for p in each]) == list(range(30))


@pytest.mark.parametrize("seconds", [1.0, 7.0])
def test_a_window_keeps_its_end_where_others_are_to_be_longer_or_shorter(seconds):
    world = turned_off(World(records=60, rate=6.0), seconds=seconds, off=30.0)
    ends = [(one.start_ms, one.end_ms) for one in world.seen(signals.WindowEnded)]
    assert ends[0][1] - ends[0][0] == 4000
    assert all(before[1] <= after[0] for before, after in pairwise(ends))
    assert {after % int(1000 * seconds) for _, after in ends[1:]} == {0}
    assert all(after - before <= 1000 * seconds for before, after in ends[1:])
    assert [position for seen in counted(world).values() for position in seen] == list(range(60))


def test_a_store_that_fails_has_the_source_made_anew_and_nothing_is_lost():
    world = World(records=30, rate=6.0)
    world.table.failing = [StoreError("the disk is full", "make room")] * 3
    lived(world)
    assert [position for seen in counted(world).values() for position in seen] == list(range(30))
    assert any("the disk is full" in one.reason for one in world.seen(signals.SourceChanged))


def test_a_letter_about_success_stands_for_no_state_that_was_not_kept():
    told = Kept()
    world = World(records=5, rate=None, on_success=told)

    async def main():
        world.table.deaf = True
        async with world.daemon():
            await until(lambda: told.letters)
            await anyio.sleep(1.0)
        world.table.deaf = False
        async with world.daemon():
            await world.until_all_is_counted()

    simulate(main)
    assert list(counted(world).values()) == [[0, 1, 2, 3, 4]]
    assert len({letter.id for letter in told.letters}) == 2  # of the batch, and of the window
