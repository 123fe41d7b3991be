"""A mapping that is paused: nothing new is read or run, and nothing is lost."""

import asyncio

import anyio
import anyio.lowlevel
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lane_scene import BAD, Kept
from listed import LANE, Listed, records
from streamfaas.engine.lane import LanePolicy, Surroundings
from streamfaas.engine.mapping import Mapping, Pause
from streamfaas.engine.requests import RequestIds
from streamfaas.flow.batch import BatchPolicy
from streamfaas.flow.outcome import Success
from streamfaas.flow.record import Instant, Lane, run_of_records
from streamfaas.flow.verdict import RetryPolicy
from streamfaas.sources import Arrived, Opened
from streamfaas.testing.simulation import simulate

OTHER = Lane("f/t", "topic-1")
PAUSE = Pause(1_700_000_000_000, "ada")


class Watched:
    """A mapping whose function must not be called while it is paused. `fails`: values whose first
    run fails."""

    def __init__(self, *, strands=1, seconds=0.1, fails=(), paused=None, retries=None, kept=None):
        self.source, self.kept = Listed(), kept or Kept()
        self.begun, self.done, self.seconds, self.fails = [], [], seconds, set(fails)
        around = Surroundings(
            dispatch=self.dispatch,
            clock=asyncio.get_running_loop().time,
            wall=lambda: 0.0,
            jitter=lambda: 0.0,
            request_id=RequestIds(),
            emit=lambda signal: None,
        )
        retry = RetryPolicy(retries)
        policy = LanePolicy(
            "f", "arn", BatchPolicy(4), retry, self.kept, self.kept, strands=strands
        )
        self.mapping = Mapping("f/t", lambda: self.source, policy, around, paused)
        self.next = {LANE: 0, OTHER: 0}
        for lane in self.next:
            self.source.arrivals.put_nowait(Opened(lane))

    async def dispatch(self, invocation):
        assert not self.mapping.paused, "it runs although it is paused"
        values = orjson.loads(b"".join(invocation.event.parts))
        self.begun.append(values)
        await anyio.sleep(self.seconds)
        if failing := self.fails & set(values):
            self.fails -= failing
            return BAD
        self.done += values
        return Success(b"")

    def put(self, count, lane=LANE):
        first = self.next[lane]
        self.next[lane] += count
        self.source.arrivals.put_nowait(
            Arrived(run_of_records(records(count, lane=lane, start=first)))
        )

    def view(self):
        return self.mapping.view(Instant(asyncio.get_running_loop().time()))


def watched(body, **options):
    async def main():
        made = Watched(**options)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(made.mapping.run)
            await body(made)
            await made.mapping.stop(5.0)
        return made

    return simulate(main)[0]


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["put", "put", "other", "pause", "resume", "wait"]), st.integers(1, 12)
        ),
        max_size=14,
    ),
    st.sampled_from([1, 3]),
    st.sampled_from([0.0, 0.3, 2.0]),
    st.sets(st.integers(0, 30), max_size=3),
)
def test_however_it_is_paused_and_resumed_everything_is_done_once_and_nothing_begins_meanwhile(
    actions, strands, seconds, fails
):
    async def body(s):
        for action, number in actions:
            match action:
                case "put" | "other":
                    s.put(number, LANE if action == "put" else OTHER)
                case "pause":
                    s.mapping.pause(PAUSE)
                case "resume":
                    s.mapping.resume()
                case _:
                    await anyio.sleep(number / 5)
            await anyio.lowlevel.checkpoint()
        s.mapping.pause(PAUSE)
        await anyio.sleep(10)
        assert s.view()["at_rest"]
        assert s.view()["state"] == "paused"
        s.mapping.resume()
        await anyio.sleep(500)
        assert s.view()["state"] == "running"

    done = watched(body, strands=strands, seconds=seconds, fails=fails)
    expected = [*range(done.next[LANE]), *range(done.next[OTHER])]
    assert sorted(done.done) == sorted(expected)


def test_what_is_in_flight_ends_and_is_settled_and_what_was_read_waits():
    async def body(s):
        s.put(10)
        await anyio.sleep(0.5)
        s.mapping.pause(PAUSE)
        assert not s.view()["at_rest"]
        await anyio.sleep(60)
        assert (s.done, s.source.settled[-1].position) == ([0, 1, 2, 3], 3)
        view = s.view()
        assert view["at_rest"]
        assert view["paused"] == {"since_ms": PAUSE.since_ms, "by": "ada"}
        assert view["received"] == view["records"] + view["lanes"][0]["held_records"] == 10

    watched(body, seconds=1.0)


def test_a_source_is_told_that_its_lanes_are_not_ready_any_more():
    async def body(s):
        await anyio.sleep(0.5)
        ready, woken = s.source.ready, s.source.woken
        assert ready
        s.mapping.pause(PAUSE)
        assert not ready
        assert s.source.woken == woken + 1

    watched(body)


def test_what_waits_to_be_tried_again_waits_on_and_keeps_its_attempts():
    async def body(s):
        s.put(3)
        await anyio.sleep(0.5)
        s.mapping.pause(PAUSE)
        await anyio.sleep(1000)
        (lane, _) = s.view()["lanes"]
        assert (lane["state"], lane["attempt"], lane["next_in_seconds"]) == ("retrying", 1, None)
        assert len(s.begun) == 1
        assert s.view()["at_rest"]
        s.mapping.resume()
        await anyio.sleep(0.5)
        assert s.done == [0, 1, 2]

    watched(body, fails=[1])


def test_what_is_skipped_goes_to_its_destination_though_the_trigger_is_paused():
    async def body(s):
        s.put(3)
        await anyio.sleep(0.5)
        s.mapping.pause(PAUSE)
        s.mapping.skip(None, dry_run=False)
        await anyio.sleep(1)
        assert len(s.kept.documents) == 1
        assert s.source.settled[-1].position == 2

    watched(body, fails=[0])


def test_a_letter_that_is_on_its_way_is_in_flight_until_it_has_arrived():
    async def body(s):
        s.put(3)
        await anyio.sleep(0.5)
        s.mapping.pause(PAUSE)
        assert not s.view()["at_rest"]
        await anyio.sleep(60)
        assert s.view()["at_rest"]
        assert len(s.kept.documents) == 1

    watched(body, fails=[0], retries=0, kept=Kept(down=3))


@pytest.mark.parametrize("late", [False, True])
def test_a_lane_that_opens_while_it_is_paused_is_not_read(late):
    async def body(s):
        if late:
            s.source.arrivals.put_nowait(Opened(Lane("f/t", "topic-2")))
            await anyio.sleep(1)
        await anyio.sleep(1)
        assert not s.source.ready
        s.put(3)
        await anyio.sleep(1)
        assert s.begun == []
        s.mapping.resume()
        await anyio.sleep(1)
        assert s.done == [0, 1, 2]

    watched(body, paused=PAUSE)
