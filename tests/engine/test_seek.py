"""A lane is read on from elsewhere: the checkpoint stands where it stood, or where it was sent to."""

import asyncio
import contextlib

import anyio
import anyio.lowlevel
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lane_scene import BAD, Kept, MemoryOutbox
from streamfaas.engine.lane import LanePolicy, Surroundings
from streamfaas.engine.mapping import Mapping, Pause
from streamfaas.engine.requests import RequestIds
from streamfaas.flow.batch import BatchPolicy
from streamfaas.flow.errors import Unreachable
from streamfaas.flow.outcome import Success
from streamfaas.flow.record import Instant
from streamfaas.flow.verdict import RetryPolicy
from streamfaas.sources.memory import Memory, MemoryOptions, Stream
from streamfaas.store.intents import SETTLED
from streamfaas.testing.simulation import simulate

COUNT = 60
PAUSE = Pause(0, "ada")


class Scene:
    """A mapping over a simulated stream of two lanes, whose function remembers what it ran."""

    def __init__(self, *, seconds=0.05, fails=(), retries=None, stream=None, strands=1):
        self.stream, self.ran, self.seconds, self.fails = stream or Stream(), [], seconds, fails
        self.outbox, self.kept, self.signals = MemoryOutbox(), Kept(), []
        loop = asyncio.get_running_loop()
        around = Surroundings(
            dispatch=self.dispatch,
            clock=loop.time,
            wall=lambda: 0.0,
            jitter=lambda: 0.0,
            request_id=RequestIds(),
            emit=self.signals.append,
            outbox=self.outbox,
        )
        policy = LanePolicy(
            "f", "arn", BatchPolicy(4), RetryPolicy(retries), self.kept, self.kept, strands=strands
        )
        options = MemoryOptions("t", partitions=2, records=2 * COUNT, rate_per_second=400.0)

        def make():
            return Memory(
                "f/t", options, clock=loop.time, emit=self.signals.append, stream=self.stream
            )

        self.mapping = Mapping("f/t", make, policy, around)

    async def dispatch(self, invocation):
        event = orjson.loads(b"".join(invocation.event.parts))
        ((lane, records),) = event["records"].items()
        await anyio.sleep(self.seconds)
        offsets = [record["offset"] for record in records]
        if self.fails and set(offsets) & set(self.fails):
            return BAD
        self.ran += [(lane, offset) for offset in offsets]
        return Success(b"")

    def lane(self, number=0):
        return self.mapping.source.lanes[number]

    def view(self):
        return self.mapping.view(Instant(asyncio.get_running_loop().time()))

    async def finished(self):
        ends = self.stream.checkpoints
        while min(ends.get("t-0", -1), ends.get("t-1", -1)) < COUNT - 1:  # noqa: ASYNC110 - simulated
            await anyio.sleep(1)


def scene(body, **options):
    async def main():
        made = Scene(**options)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(made.mapping.run)
            await anyio.sleep(0.3)
            await body(made)
            await made.mapping.stop(5.0)
        return made

    return simulate(main)[0]


SEEKS = st.lists(
    st.tuples(
        st.sampled_from([0, 1]), st.integers(0, COUNT), st.floats(0, 0.4), st.sampled_from([0.0, 9])
    ),
    max_size=6,
)


@pytest.mark.slow
@settings(max_examples=60)
@given(SEEKS, st.sampled_from([0.0, 0.05, 1.0]), st.sampled_from([1, 3]), st.booleans())
def test_after_any_seeks_everything_from_where_a_lane_was_sent_to_is_run_and_settled(
    seeks, seconds, strands, paused
):
    async def body(s):
        if paused:
            s.mapping.pause(PAUSE)
        left = {0: 0, 1: 0}
        for number, position, pause, grace in seeks:
            end = s.mapping.source._end(s.lane(number))
            to = min(position, end)
            stood = await s.mapping.seek({s.lane(number): to}, grace)
            name = s.lane(number).name
            assert s.stream.checkpoints[name] == to - 1
            assert stood[s.lane(number)][0] <= end
            left[number] = to
            s.ran = [one for one in s.ran if one[0] != name]
            await anyio.sleep(pause)
        if paused:
            assert s.view()["state"] == "paused"
            s.mapping.resume()
        await s.finished()
        for number, first in left.items():
            ran = [offset for lane, offset in s.ran if lane == f"t-{number}"]
            assert set(ran) == set(range(first, COUNT))
            assert len(ran) == len(set(ran)), "run twice, though nothing was cut off since"
        assert s.view()["checkpoints"] == {"t-0": COUNT - 1, "t-1": COUNT - 1}

    scene(body, seconds=seconds, strands=strands)


def test_a_paused_trigger_stays_paused_where_it_was_sent_to():
    async def body(s):
        await s.finished()
        s.mapping.pause(PAUSE)
        s.ran.clear()
        assert await s.mapping.seek({s.lane(): 10}, 5.0) == {s.lane(): (COUNT, 10)}
        await anyio.sleep(60)
        assert s.ran == []
        assert s.view()["state"] == "paused"
        assert s.view()["checkpoints"]["t-0"] == 9
        s.mapping.resume()
        await s.finished()
        assert s.ran == [("t-0", offset) for offset in range(10, COUNT)]

    scene(body)


@pytest.mark.slow
def test_a_lane_that_is_blocked_goes_on_behind_what_blocks_it():
    async def body(s):
        await anyio.sleep(300)
        assert s.view()["state"] == "blocked"
        await s.mapping.seek({s.lane(0): 8, s.lane(1): 8}, 5.0)
        await s.finished()
        assert s.view()["state"] == "running"
        assert min(offset for _, offset in s.ran[8:]) == 8

    scene(body, fails=[5])


def test_what_does_not_end_within_the_grace_is_let_go_and_settles_nothing():
    async def body(s):
        stood = await s.mapping.seek({s.lane(): 40}, 0.5)
        assert stood == {s.lane(): (0, 40)}
        assert s.stream.checkpoints["t-0"] == 39

    scene(body, seconds=3.0)


def test_letters_that_were_delivered_do_not_keep_records_from_running_again():
    async def body(s):
        await s.finished()
        assert len(s.kept.documents) == 2
        s.fails = ()
        s.ran.clear()
        await s.mapping.seek({s.lane(): 0}, 5.0)
        assert {one.state for one in s.outbox.intents.values() if one.lane == "t-0"} == {SETTLED}
        await s.finished()
        assert [offset for _, offset in s.ran] == list(range(COUNT))

    scene(body, fails=[5], retries=0)


def test_two_seeks_at_once_follow_each_other():
    async def body(s):
        await s.finished()
        async with anyio.create_task_group() as tasks:
            for to in (10, 20, 30):
                tasks.start_soon(s.mapping.seek, {s.lane(): to}, 5.0)
        assert s.stream.checkpoints["t-0"] >= 29
        await s.finished()

    scene(body)


class Torn(Memory):
    """Fails each time before, or after, it has remembered the place."""

    after = False

    async def seek(self, positions):
        if self.after:
            await super().seek(positions)
        else:
            for lane in positions:
                self._sought.add(lane)
                self.assign(lane)
        raise Unreachable("no answer")


@pytest.mark.parametrize("after", [False, True])
def test_a_seek_that_fails_leaves_the_lane_running_from_one_of_the_two_places(after):
    async def body(s):
        await s.finished()
        s.ran.clear()
        s.mapping.source.__class__ = Torn
        s.mapping.source.after = after
        with pytest.raises(Unreachable):
            await s.mapping.seek({s.lane(): 50}, 5.0)
        await anyio.sleep(1)
        assert [offset for _, offset in s.ran] == list(range(50, COUNT) if after else ())

    scene(body)


def test_a_lane_that_is_given_away_meanwhile_is_left_to_whoever_has_it():
    async def body(s):
        sought = 0
        for step in range(8):
            s.mapping.source.revoke(s.lane(), 5.0)
            for _ in range(step):
                await anyio.lowlevel.checkpoint()
            with contextlib.suppress(Unreachable):
                await s.mapping.seek({s.lane(): 5}, 5.0)
                sought += 1
            await anyio.sleep(6)
            s.mapping.source.assign(s.lane())
            await anyio.sleep(0.1)
        assert sought < 8
        await s.finished()

    scene(body, seconds=0.5)


def test_who_is_sent_onward_never_goes_back():
    """The end of a log is asked for before the lane has let go: it works on meanwhile."""

    async def body(s):
        await s.finished()
        s.ran.clear()
        lane = s.lane()
        assert await s.mapping.seek({lane: 10}, 5.0, onward={lane}) == {lane: (COUNT, COUNT)}
        await anyio.sleep(60)
        assert s.ran == []
        assert s.view()["checkpoints"]["t-0"] == COUNT - 1

    scene(body)
