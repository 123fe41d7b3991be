"""Windows of made-up logs, over crashes; and what becomes of records, answers and states."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow_runs import LANE
from streamfaas.flow.batch import Batch, looked_at
from streamfaas.flow.outcome import Failure, Fault, Success
from streamfaas.flow.pane import Window
from streamfaas.flow.record import Record, run_of_records
from streamfaas.flow.window import (
    GRACE_SECONDS,
    NO_STATE,
    STATE_BYTES_MAX,
    Kept,
    Standing,
    Windower,
    resumed,
    state_of,
)

WIDTH = 10.0
BEGUN = 1_700_000_000_000  # where the clocks of these tests begin

times = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 500, 4_000, 9_999, 10_000, 35_000]),  # since the one before
        st.sampled_from([0, 0, 0, 0, -12_000, 60_000, None]),  # off by, or not told
    ),
    min_size=1,
    max_size=30,
)


def record(position, timestamp_ms):
    return Record(LANE, position, b"x", timestamp_ms=timestamp_ms)


def batch_of(*timestamps, first=0):
    return Batch((run_of_records(tuple(record(n, t) for n, t in enumerate(timestamps, first))),))


class Life:
    """A reader of a log that runs what a windower divides, counts in the state, and can crash."""

    def __init__(self, log, draw):
        self.log, self.draw = log, draw
        self.kept, self.checkpoint = None, -1
        self.told = Counter()  # how often the finals have counted each record
        self.windows = []
        self.now = 0
        self.begin()

    def begin(self):
        standing, lost = resumed(self.kept, "log", self.checkpoint)
        assert not lost
        self.windower = Windower(WIDTH, standing)
        self.next = max(self.checkpoint, standing.position) + 1

    def read(self):
        count = self.draw(st.integers(1, 8))
        records = [record for _, record in self.log[self.next : self.next + count]]
        self.now = max(self.now, self.log[self.next + len(records) - 1][0])
        self.next += len(records)
        pending = [Batch((run_of_records(tuple(records)),))]
        while pending:
            batch, *pending = (*self.windower.divide(pending[0], looked_at, self.now), *pending[1:])
            if not self.run(batch):
                return self.begin()
        return None

    def run(self, batch):
        """False: it is cut off on the way."""
        step = self.draw(st.sampled_from(["", "", "", "before", "kept", "told", "lost"]))
        if step == "before":
            return False
        if batch.final:
            self.count(batch.pane)
            self.windower.ended()
            if step == "told":  # the function is done with it, and nobody knows that
                for position in json.loads(batch.pane.state).values():
                    self.told[position] -= 1
                self.windows.pop()
                return False
        else:
            self.check(batch)
            if step == "lost":  # it is given up: it is in no state
                self.told.update(record.position for record in looked_at(batch))
            else:
                state = json.loads(batch.pane.state)
                state |= {str(r.position): r.position for r in looked_at(batch)}
                self.windower.succeeded(json.dumps(state).encode())
            self.windower.settled(batch.last)
        self.kept = Kept(self.windower.standing, "log", self.checkpoint)
        if step == "kept":
            return False
        if not batch.final and self.draw(st.booleans()):
            self.checkpoint = batch.last
        return True

    def check(self, batch):
        """Each record is in the window that it arrived in, or, late, in the one that is open."""
        was, window = self.windower.standing, batch.pane.window
        floor = was.floor_ms if was.window is None else was.window.start_ms
        assert window.end_ms == window.start_ms + 10_000
        for each in looked_at(batch):
            arrived = each.timestamp_ms if 0 <= each.timestamp_ms <= self.now else self.now
            floor = max(arrived - arrived % 10_000, floor)
            assert window.start_ms == floor

    def count(self, pane):
        self.told.update(json.loads(pane.state).values())
        self.windows.append(pane.window)

    def end(self):
        while self.windower.open is not None:
            if not self.run(self.windower.final(LANE)):
                self.begin()


@pytest.mark.slow
@settings(max_examples=300)
@given(times, st.data())
def test_each_record_counts_once_in_one_window_whatever_crashes_come_between(steps, data):
    now, log = BEGUN, []
    for position, (later, off) in enumerate(steps):
        now += later
        log.append((now, record(position, -1 if off is None else now + off)))
    life = Life(log, data.draw)
    while life.next < len(log):
        life.read()
    life.end()
    assert life.told == Counter(range(len(log)))
    starts = [window.start_ms for window in life.windows]
    assert starts == sorted(set(starts))


def answered(windower, batch, state, now_ms=BEGUN + 60_000):
    """Runs what is divided off a batch first, and gives back the rest."""
    first, *rest = windower.divide(batch, looked_at, now_ms)
    if first.final:
        windower.ended()
    else:
        windower.succeeded(state)
        windower.settled(first.last)
    return first, rest


def test_a_batch_is_cut_where_a_window_ends_and_the_state_is_handed_on():
    windower = Windower(WIDTH)
    batch = batch_of(BEGUN, BEGUN + 9_999, BEGUN + 10_000, BEGUN + 31_000)
    first, (rest,) = answered(windower, batch, b'{"n":2}')
    assert [r.position for r in looked_at(first)] == [0, 1]
    assert first.pane.window == Window(BEGUN, BEGUN + 10_000)
    assert (first.pane.state, first.pane.final) == (NO_STATE, False)
    last, (rest,) = answered(windower, rest, b"")
    assert (last.count, last.final, last.pane.state, last.pane.early) == (
        0,
        True,
        b'{"n":2}',
        False,
    )
    second, (rest,) = answered(windower, rest, b'{"n":1}')
    assert second.pane.window == Window(BEGUN + 10_000, BEGUN + 20_000)
    last, (rest,) = answered(windower, rest, b"")
    assert last.pane.state == b'{"n":1}'
    third, rest = answered(windower, rest, b"{}")
    assert third.pane.window == Window(BEGUN + 30_000, BEGUN + 40_000)  # an empty one is none
    assert rest == []


def test_a_late_record_counts_in_the_open_window_or_in_the_one_after_the_last():
    windower = Windower(WIDTH)
    answered(windower, batch_of(BEGUN + 12_000, BEGUN + 3_000), b"{}")
    assert windower.open == Window(BEGUN + 10_000, BEGUN + 20_000)
    windower.ended()
    first, _ = answered(windower, batch_of(BEGUN + 19_999, first=2), b"{}")
    assert first.pane.window == Window(BEGUN + 20_000, BEGUN + 30_000)


@pytest.mark.parametrize("timestamp_ms", [-1, BEGUN + 10_000_000])
def test_what_has_no_time_or_one_in_the_future_arrives_now(timestamp_ms):
    first, _ = answered(Windower(WIDTH), batch_of(timestamp_ms), b"{}", BEGUN + 5_000)
    assert first.pane.window == Window(BEGUN, BEGUN + 10_000)


def test_a_state_that_is_too_large_ends_its_window_which_then_begins_anew():
    windower = Windower(WIDTH)
    large = b'{"x":"' + b"x" * STATE_BYTES_MAX + b'"}'
    answered(windower, batch_of(BEGUN), large)
    assert windower.due == 0.0
    last, (rest,) = answered(windower, batch_of(BEGUN + 1, first=1), b"")
    assert (last.final, last.pane.early, last.pane.state) == (True, True, large)
    again, _ = answered(windower, rest, b"{}")
    assert again.pane.window == last.pane.window
    assert (again.pane.early, again.pane.state) == (False, NO_STATE)
    windower.ended()
    assert windower.standing == Standing(1, BEGUN + 10_000)


def test_a_window_ends_by_itself_a_little_after_its_end_once_anything_was_in_it():
    windower = Windower(WIDTH)
    windower.divide(batch_of(BEGUN), looked_at, BEGUN + 1)
    assert (windower.open, windower.due) == (None, None)
    answered(windower, batch_of(BEGUN), b"{}")
    assert windower.due == BEGUN / 1000 + WIDTH + GRACE_SECONDS


def test_a_window_that_nothing_is_finished_in_is_forgotten_with_the_batch_that_opened_it():
    windower = Windower(WIDTH)
    batch = batch_of(BEGUN + 20_000)  # by a clock that is ahead of ours
    (early,) = windower.divide(batch, looked_at, BEGUN + 9_000)
    (late,) = windower.divide(batch, looked_at, BEGUN + 11_000)
    assert early.pane.window.start_ms == BEGUN
    assert late.pane.window.start_ms == BEGUN + 10_000


def test_windows_of_another_width_begin_where_the_last_one_ended():
    first = Windower(WIDTH)
    answered(first, batch_of(BEGUN), b"{}")
    wider = Windower(60.0, first.standing)
    start = BEGUN - BEGUN % 60_000
    assert wider.divide(batch_of(BEGUN + 10_000, first=1), looked_at, BEGUN + 60_000)[0].final
    wider.ended()
    (again,) = wider.divide(batch_of(BEGUN + 10_000, first=1), looked_at, BEGUN + 60_000)
    assert again.pane.window == Window(BEGUN + 10_000, start + 60_000)


OPEN = Standing(9, BEGUN, Window(BEGUN, BEGUN + 10_000), state=b'{"n":9}')


@pytest.mark.parametrize("checkpoint", [4, 9])
def test_windows_go_on_where_their_position_is_at_or_before_the_checkpoint(checkpoint):
    assert resumed(Kept(OPEN, "log", 4), "log", checkpoint) == (OPEN, "")


@pytest.mark.parametrize(
    ("life", "checkpoint", "floor_ms", "why"),
    [
        ("log", 10, BEGUN, "@10 was finished with elsewhere, and the state is of @9"),
        ("log", 3, 0, "@4 was finished with, and it is read from @4 on again"),
        ("another", 9, 0, "the log, or its checkpoint, was made anew"),
    ],
)
def test_a_state_of_other_records_is_lost_and_it_is_told_if_a_window_was_open(
    life, checkpoint, floor_ms, why
):
    begun = Standing(floor_ms=floor_ms)  # no window begins before one that has ended
    assert resumed(Kept(OPEN, "log", 4), life, checkpoint) == (begun, why)
    assert resumed(Kept(Standing(9, BEGUN), "log", 4), life, checkpoint) == (begun, "")


def test_where_nothing_was_kept_windows_begin():
    assert resumed(None, "log", 17) == (Standing(), "")


@pytest.mark.parametrize(
    ("answer", "state", "rest"),
    [
        (b'{"state":{}}', b"{}", b"{}"),
        (b' { "state" : {"n": 1.0, "t": "\\u00e9"} } ', b'{"n": 1.0, "t": "\\u00e9"}', b"{}"),
        (b'{"state": {"a":\r\n 1}}', b'{"a":   1}', b"{}"),
        (
            b'{"batchItemFailures":[{"itemIdentifier":"7"}],"state":{"n":1}}',
            b'{"n":1}',
            b'{"batchItemFailures":[{"itemIdentifier":"7"}]}',
        ),
    ],
)
def test_a_state_is_handed_on_as_it_was_written_and_the_rest_is_a_report(answer, state, rest):
    assert state_of(Success(answer)) == (state, Success(rest))


@pytest.mark.parametrize(
    "answer", [b"", b"null", b"{}", b"[]", b'{"state":null}', b'{"state":[1]}', b'{"state":"{}"}',
               b'{"state":{"n":NaN}}', b'{"State":{}}', b"\xff", b'{"state":{}} and more'],
)  # fmt: skip
def test_an_answer_without_a_state_is_a_failure(answer):
    failure = state_of(Success(answer, until=3))
    assert isinstance(failure, Failure)
    assert (failure.fault, failure.until) == (Fault.REPORT, 3)
    assert "state" in failure.message
