"""Tumbling windows: state, last call, early end (line 9.13)."""

import orjson

from streamfaas.flow.batch import BatchPolicy
from streamfaas.flow.outcome import Success
from streamfaas.flow.window import STATE_BYTES_MAX
from streamfaas.telemetry import signals
from window_scene import World, counted, lived, partial, positions, states


def test_9_13_the_state_is_carried_and_the_last_call_of_a_window_says_so():
    world = lived(World(records=30, rate=10.0, batch=BatchPolicy(10, window_seconds=1.0)))
    assert world.events[0]["state"] == {}
    assert world.events[1]["state"]["seen"] == list(
        range(len(world.events[0]["records"]["orders-0"]))
    )
    (last,) = [event for event in world.events if event["isFinalInvokeForWindow"]][-1:]
    assert last["records"] == {"orders-0": []}
    assert last["shardId"] == "orders-0"
    assert not any(event["isWindowTerminatedEarly"] for event in world.events)
    ended = world.seen(signals.WindowEnded)
    assert [(each.end_ms - each.start_ms, each.early) for each in ended] == [(4000, False)] * len(
        ended
    )
    assert len(ended) == len(world.finals)


def test_9_13_an_answer_without_a_state_has_failed():
    answers = [Success(b"{}"), Success(b'{"state": 1}')]
    world = lived(
        World(records=3, rate=None, answer=lambda event, out: answers.pop() if answers else out)
    )
    assert states(world) == [(False, 0)] * 3 + [(True, 3)]
    reasons = [signal.reason for signal in world.seen(signals.LaneRetrying)]
    assert all(reason.startswith("TumblingWindow.NoState") for reason in reasons)
    assert len(reasons) == 2


def test_9_13_a_state_over_1_mb_ends_its_window_early():
    large = "x" * STATE_BYTES_MAX

    def answer(event, outcome):
        if event["isFinalInvokeForWindow"] or positions(event)[0]:
            return outcome
        return Success(orjson.dumps({"state": {"seen": positions(event), "large": large}}))

    world = lived(World(records=6, rate=None, answer=answer, batch=BatchPolicy(3)))
    early, last = world.finals
    assert early["state"] == {"seen": [0, 1, 2], "large": large}
    assert (early["isWindowTerminatedEarly"], last["isWindowTerminatedEarly"]) == (True, False)
    assert last["state"] == {"seen": [3, 4, 5]}
    assert early["window"] == last["window"]


def test_9_13_a_state_may_come_with_a_report_and_covers_what_succeeded():
    def answer(event, outcome):
        if event["isFinalInvokeForWindow"] or 5 not in positions(event)[1:]:
            return outcome
        records = event["records"]["orders-0"]
        return partial(event, records, positions(event).index(5))

    world = lived(World(records=9, rate=None, answer=answer, partial=True))
    assert [positions(event) for event in world.events] == [[*range(9)], [5, 6, 7, 8], []]
    assert list(counted(world).values()) == [list(range(9))]
