import asyncio

import anyio
import orjson

from listed import LANE, Listed
from streamfaas.engine.lane import LanePolicy, Surroundings
from streamfaas.engine.mapping import Mapping
from streamfaas.engine.requests import RequestIds
from streamfaas.flow.batch import BatchPolicy
from streamfaas.flow.errors import Gone, Mistaken, Refused, Unreachable
from streamfaas.flow.outcome import Failure, Fault, Success
from streamfaas.flow.record import Instant, Lane
from streamfaas.flow.verdict import RetryPolicy
from streamfaas.sources import Closing, Opened
from streamfaas.sources.directory import Directory, DirectoryOptions
from streamfaas.store import Store
from streamfaas.telemetry import signals
from streamfaas.testing.simulation import simulate

OTHER = Lane("f/t", "topic-1")


class Nowhere:
    kind = name = "nowhere"
    per_record = False
    notes = False
    payload = "json"

    async def open(self): ...
    async def close(self): ...
    async def send(self, letters): ...


class Scene:
    """A mapping over listed sources (one after the other, as the supervisor makes them anew)."""

    def __init__(self, *sources, seconds=0.0, answer=None):
        self.answer = answer or Success(b"")
        self.sources, self.made, self.calls, self.signals = list(sources), 0, [], []
        self.cut_off, self.seconds = [], seconds
        around = Surroundings(
            dispatch=self.dispatch,
            clock=asyncio.get_running_loop().time,
            wall=lambda: 0.0,
            jitter=lambda: 0.0,
            request_id=RequestIds(),
            emit=self.signals.append,
        )
        policy = LanePolicy("f", "arn", BatchPolicy(10), RetryPolicy(), Nowhere(), Nowhere())
        self.mapping = Mapping("f/t", self.make, policy, around)

    def make(self):
        self.made += 1
        return self.sources[min(self.made, len(self.sources)) - 1]

    async def dispatch(self, invocation):
        values = orjson.loads(b"".join(invocation.event.parts))
        try:
            await anyio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cut_off.append(values)
            raise
        self.calls.append(values)
        return self.answer

    def view(self):
        return self.mapping.view(Instant(asyncio.get_running_loop().time()))


def scene(body, *sources, **options):
    async def main():
        made = Scene(*sources, **options)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(made.mapping.run)
            await body(made)
            await made.mapping.stop(5.0)
        return made

    return simulate(main)[0]


def opened(source, *lanes):
    for lane in lanes:
        source.arrivals.put_nowait(Opened(lane))


def test_lanes_open_run_and_settle_and_the_source_is_closed_at_the_end():
    source = Listed()
    opened(source, LANE, OTHER)
    source.put(25)
    source.put(5, lane=OTHER)

    async def body(s):
        await anyio.sleep(1)
        view = s.view()
        assert view["state"] == "running"
        assert view["records"] == 30
        assert view["checkpoints"] == {"topic-0": 24, "topic-1": 4}

    scene(body, source)
    assert source.is_closed
    assert max(s.position for s in source.settled if s.lane == LANE) == 24


def test_a_source_that_is_unreachable_is_tried_again_with_one_line_each_time():
    source = Listed(failing={"open": [Unreachable("cannot reach k1:9092")] * 3})
    opened(source, LANE)

    async def body(s):
        await anyio.sleep(0.5)
        assert s.view()["state"] == "degraded"
        assert "cannot reach k1:9092" in s.view()["reason"]
        await anyio.sleep(20)
        assert s.view()["state"] == "running"

    done = scene(body, source)
    told = [s for s in done.signals if isinstance(s, signals.SourceChanged)]
    assert [s.state for s in told] == ["connecting", *["degraded"] * 3, "running"]
    assert told[1].reason == (
        "cannot reach k1:9092; is it up, and is its address right? (streamfaas doctor); "
        "next try in 1 s"
    )
    assert done.made == 4


def test_of_what_is_something_else_nobody_is_asked_whether_credentials_are_right():
    source = Listed(failing={"open": [Mistaken("stock is no table of leases")]})
    opened(source, LANE)

    async def body(s):
        await anyio.sleep(0.5)
        assert s.view()["reason"] == "stock is no table of leases; next try in 1 s"

    scene(body, source)


def test_while_it_is_tried_again_a_source_is_still_degraded():
    class Slow(Listed):
        async def open(self, spawn):
            await anyio.sleep(5)
            await super().open(spawn)

    source = Slow(failing={"open": [Gone("there is no topic a")]})

    async def body(s):
        await anyio.sleep(7)
        assert s.view()["state"] == "degraded"
        assert s.view()["reason"] == (
            "there is no topic a; is it there, and is its name right? (streamfaas doctor); "
            "it is tried again"
        )
        await anyio.sleep(5)
        assert (s.view()["state"], s.view()["reason"]) == ("running", "")

    scene(body, source)


def test_refused_credentials_are_not_hammered():
    source = Listed(failing={"open": [Refused("SASL: wrong password")] * 100})

    async def body(s):
        await anyio.sleep(600)

    done = scene(body, source)
    assert done.made <= 14


def test_a_source_that_runs_may_say_what_slows_it_down():
    source = Listed(reason="s0: throttled")
    opened(source, LANE)

    async def body(s):
        await anyio.sleep(1)
        assert (s.view()["state"], s.view()["reason"]) == ("running", "s0: throttled")

    scene(body, source)


def test_credentials_that_are_just_being_renewed_cost_seconds():
    source = Listed(failing={"open": [Refused("ExpiredToken")] * 3})
    opened(source, LANE)

    async def body(s):
        await anyio.sleep(15)
        assert s.view()["state"] == "running"

    assert scene(body, source).made == 4


def test_a_source_that_breaks_is_made_anew_and_its_unsettled_work_may_end():
    first, second = Listed(), Listed()
    opened(first, LANE)
    first.put(5)
    opened(second, LANE)
    second.put(5, start=5)

    async def body(s):
        await anyio.sleep(0.5)
        first.arrivals.put_nowait(Unreachable("connection reset"))
        await anyio.sleep(30)

    done = scene(body, first, second, seconds=2.0)
    assert done.calls == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert done.cut_off == []
    assert first.is_closed
    assert first.settled[-1].position == 4


class Leasing(Listed):
    lease_seconds = 3.0


def test_work_of_a_source_that_broke_is_cut_off_before_others_may_have_it():
    first, second = Leasing(), Listed()
    for source in (first, second):
        opened(source, LANE)
        source.put(5)

    async def body(s):
        await anyio.sleep(0.5)
        first.arrivals.put_nowait(Unreachable("connection reset"))
        await anyio.sleep(3.5)
        assert s.cut_off == [[0, 1, 2, 3, 4]]
        assert first.is_closed

    scene(body, first, second, seconds=6.0)
    assert first.settled == []


def test_a_lane_that_is_given_away_ends_within_its_grace():
    source = Listed()
    opened(source, LANE, OTHER)
    source.put(5)

    async def body(s):
        await anyio.sleep(0.5)
        source.arrivals.put_nowait(Closing(LANE, 3.0))
        source.put(5, lane=OTHER)
        await anyio.sleep(10)
        assert source.closed_lanes == [LANE]

    done = scene(body, source, seconds=2.0)
    assert done.calls == [list(range(5))] * 2
    assert done.cut_off == []


def test_what_outlasts_the_grace_is_cut_off_and_never_settled():
    source = Listed()
    opened(source, LANE)
    source.put(5)

    async def body(s):
        await anyio.sleep(0.5)
        source.arrivals.put_nowait(Closing(LANE, 3.0))
        await anyio.sleep(10)
        assert source.closed_lanes == [LANE]

    done = scene(body, source, seconds=60.0)
    assert done.cut_off == [list(range(5))]
    assert source.settled == []


def test_stopping_lets_what_is_in_flight_end_and_starts_nothing_new():
    source = Listed()
    opened(source, LANE)
    source.put(30)

    async def body(s):
        await anyio.sleep(0.5)

    done = scene(body, source, seconds=2.0)
    assert done.calls == [list(range(10))]
    assert source.settled[-1].position == 9
    assert source.is_closed


def test_stopping_while_the_source_is_away_ends_at_once():
    source = Listed(failing={"open": [Unreachable("down")] * 1000})

    async def body(s):
        await anyio.sleep(100)
        before = asyncio.get_running_loop().time()
        await s.mapping.stop(5.0)
        assert asyncio.get_running_loop().time() - before < 0.1

    scene(body, source)


def test_a_lane_with_a_whole_batch_waiting_is_not_ready_and_others_go_on():
    class Careful(Listed):
        async def next(self, ready):
            self.ready = ready
            return await super().next(ready)

    source = Careful()
    opened(source, LANE, OTHER)
    source.put(30)

    async def body(s):
        await anyio.sleep(0.5)
        assert set(source.ready) == {OTHER}
        await anyio.sleep(100)
        assert set(source.ready) == {LANE, OTHER}
        assert source.woken

    scene(body, source, seconds=1.0)


def test_what_a_queue_holds_is_shown_with_its_attempt_its_next_try_and_its_error(tmp_path):
    async def main():
        (tmp_path / "inbox").mkdir()
        (tmp_path / "inbox/bad").touch()
        store = await Store.open(tmp_path / "state" / "streamfaas.db")
        source = Directory(
            "f/t",
            DirectoryOptions(tmp_path / "inbox", "inbox", settle_seconds=0.0),
            store=store,
            clock=asyncio.get_running_loop().time,
            emit=lambda signal: None,
        )
        failing = Failure(Fault.FUNCTION, "KeyError", "'total'")
        made = Scene(source, answer=failing)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(made.mapping.run)
            with anyio.fail_after(10):
                while not (held := [x for x in made.view()["lanes"] if x["name"] == "bad"]):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            assert (held[0]["state"], held[0]["attempt"]) == ("retrying", 1)
            assert held[0]["reason"] == "ObjectCreated:Put has failed once: KeyError: 'total'"
            assert 0 < held[0]["next_in_seconds"] <= 1
            assert made.view()["state"] == "retrying"
            await made.mapping.stop(5.0)
        await store.close()

    asyncio.run(main())
