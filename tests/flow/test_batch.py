from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow_runs import LANE, batch, logs, positions, record, run, stretch
from streamfaas.flow.batch import Batch, Batcher, BatchPolicy
from streamfaas.flow.record import Instant, Lane, Records, run_of
from streamfaas.testing.clock import ManualClock

policies = st.builds(
    BatchPolicy,
    records_max=st.integers(1, 12),
    event_bytes_max=st.integers(1, 4_000),
    window_seconds=st.sampled_from([0.0, 2.0, 5.0]),
)
steps = st.lists(
    st.sampled_from(["offer", "offer", "take", "take", "flush"]) | st.sampled_from([0.5, 2.0, 5.0]),
    max_size=40,
)


class Model:
    """What a batcher should hold, record by record."""

    def __init__(self, policy: BatchPolicy) -> None:
        self.policy = policy
        self.runs = []
        self.arrived = {}
        self.out = []

    def offer(self, run, now) -> None:
        self.runs.append(run)
        for position in range(run.first, run.last + 1):
            self.arrived[position] = now

    @property
    def records(self):
        """Records held, oldest first."""
        taken = self.out[-1].last if self.out else -1
        return [r for run in self.runs for r in run.payload.records if r.position > taken]

    @property
    def rest(self):
        """Positions held."""
        return stretch(self.runs)[len(stretch(r for b in self.out for r in b.runs)) :]

    @property
    def deadline(self):
        if records := self.records:
            return self.arrived[records[0].position] + self.policy.window_seconds
        return self.arrived[self.rest[0]] if self.rest else None

    @property
    def full(self) -> bool:
        return (
            len(self.records) >= self.policy.records_max
            or sum_event_bytes(self.records) >= self.policy.event_bytes_max
        )


def sum_event_bytes(records) -> int:
    return Records(tuple(records)).extent(0, 1 << 62).event_bytes


@settings(max_examples=400)
@given(logs(), policies, steps)
def test_batches_are_the_input_cut_at_the_limits_and_at_the_window(log, policy, steps):
    batcher, model, clock = Batcher(policy), Model(policy), ManualClock()
    waiting = deque(log)
    for step in [*steps, "drain"]:
        if isinstance(step, float):
            clock.advance(step)
        elif step == "offer" and waiting:
            arrived = waiting.popleft()
            batcher.offer(arrived, clock())
            model.offer(arrived, clock())
        elif step == "take":
            due = model.deadline is not None and (model.full or clock() >= model.deadline)
            closed = batcher.take(clock())
            assert (closed is not None) == due
            if closed is not None:
                check(closed, model)
        elif step in {"flush", "drain"}:
            while (closed := batcher.flush()) is not None:
                check(closed, model)
                if step == "flush":
                    break
        assert batcher.deadline == model.deadline
        assert bool(batcher) == bool(model.rest)
        assert batcher.held_records == len(model.records)
        assert batcher.held_event_bytes == sum_event_bytes(model.records)
        assert batcher.held_bytes == sum(r.size_bytes for r in model.records)
    runs = [run for closed in model.out for run in closed.runs]
    assert stretch(runs) == stretch(model.runs), "in order, each position once"
    assert positions(runs) == positions(model.runs)


def check(closed: Batch, model: Model) -> None:
    """A batch is within its limits, and as large as they allow."""
    policy = model.policy
    model.out.append(closed)
    assert closed.attempt == 0
    assert closed.count <= policy.records_max
    assert closed.event_bytes <= policy.event_bytes_max or closed.count == 1
    if left := model.records:
        fits = closed.event_bytes + sum_event_bytes(left[:1]) <= policy.event_bytes_max
        assert closed.count == policy.records_max or not fits
        assert closed.count, "records are there, and none was taken"
    else:
        assert not model.rest, "runs of nothing go out with the records before them"


@given(st.data(), logs())
def test_a_batch_cut_anywhere_is_the_same_batch_in_two(data, log):
    whole = Batch(tuple(log), attempt=2)
    at = data.draw(st.integers(whole.first - 1, whole.last + 2))

    before, after = whole.cut(at)

    sides = [side for side in (before, after) if side is not None]
    assert stretch(r for side in sides for r in side.runs) == stretch(log)
    assert positions(r for side in sides for r in side.runs) == positions(log)
    assert all(side.attempt == 2 for side in sides)
    assert before is None or before.last < at
    assert after is None or after.first >= at


@given(logs().filter(lambda log: sum(run.count for run in log) >= 2))
def test_a_split_halves_the_records(log):
    whole = Batch(tuple(log), attempt=1)

    first, second = whole.split()

    assert first.count == whole.count // 2
    assert first.count + second.count == whole.count
    assert positions([*first.runs, *second.runs]) == positions(log)
    assert stretch([*first.runs, *second.runs]) == stretch(log)
    assert first.attempt == second.attempt == 1


def test_a_batch_that_is_full_does_not_wait_for_the_window():
    batcher = Batcher(BatchPolicy(records_max=3, window_seconds=60))
    batcher.offer(run(0, 1), Instant(0.0))
    assert batcher.take(Instant(0.0)) is None

    batcher.offer(run(2, 6), Instant(1.0))

    assert positions(batcher.take(Instant(1.0)).runs) == [0, 1, 2]
    assert positions(batcher.take(Instant(1.0)).runs) == [3, 4, 5]
    assert batcher.take(Instant(1.0)) is None
    assert batcher.deadline == 61.0, "what is left arrived a second later"


def test_the_window_runs_from_the_first_record_and_not_from_a_marker_before_it():
    batcher = Batcher(BatchPolicy(window_seconds=10))
    batcher.offer(run(0, 4, positions=()), Instant(0.0))
    batcher.offer(run(5, 5), Instant(8.0))

    assert batcher.take(Instant(10.0)) is None
    assert positions(batcher.take(Instant(18.0)).runs) == [5]


def test_markers_alone_come_out_at_once_so_that_the_checkpoint_moves():
    batcher = Batcher(BatchPolicy(window_seconds=300))
    batcher.offer(run(0, 4, positions=()), Instant(7.0))

    closed = batcher.take(Instant(7.0))

    assert (closed.first, closed.last, closed.count) == (0, 4, 0)


def test_a_record_over_the_byte_limit_comes_out_alone():
    batcher = Batcher(BatchPolicy(event_bytes_max=1_000))
    records = (record(0), record(1, size=5_000), record(2))
    batcher.offer(run_of(LANE, 0, 2, Records(records)), Instant(0.0))

    assert [positions(batcher.take(Instant(0.0)).runs) for _ in range(3)] == [[0], [1], [2]]


def test_a_marker_after_a_record_over_the_limit_goes_out_with_it():
    batcher = Batcher(BatchPolicy(event_bytes_max=1_000))
    batcher.offer(run_of(LANE, 0, 0, Records((record(0, size=5_000),))), Instant(0.0))
    batcher.offer(run(1, 2, positions=()), Instant(0.0))

    assert batcher.take(Instant(0.0)).last == 2
    assert not batcher


def test_what_is_dropped_is_forgotten():
    batcher = Batcher(BatchPolicy(window_seconds=1))
    batcher.offer(run(0, 9), Instant(0.0))

    batcher.drop()

    assert not batcher
    assert batcher.deadline is None
    assert batcher.flush() is None
    assert (batcher.held_records, batcher.held_bytes, batcher.held_event_bytes) == (0, 0, 0)


def test_a_batch_without_timestamps_in_part_is_as_old_as_its_oldest_known_record():
    dated = run_of(LANE, 0, 1, Records((record(0, timestamp_ms=4_000), record(1))))
    later = run_of(LANE, 2, 2, Records((record(2, timestamp_ms=9_000),)))
    marker = run(3, 3, positions=())

    made = Batch((dated, later, marker))

    assert (made.oldest, made.newest) == (4.0, 9.0)
    assert Batch((marker,)).oldest == 0.0


def test_a_batch_adds_up_its_runs():
    made = Batch((run(0, 3), run(6, 7)))

    assert (made.first, made.last, made.count, made.size_bytes) == (0, 7, 6, 18)
    assert made.lane == LANE


@pytest.mark.parametrize(
    "runs",
    [
        (),
        (run(0, 3), run(3, 4)),
        (run(5, 6), run(0, 1)),
        (run(0, 1), run_of(Lane("orders/stream", "orders-1"), 2, 2, Records(()))),
    ],
)
def test_runs_that_are_no_batch_are_refused(runs):
    with pytest.raises(AssertionError):
        Batch(runs)


def test_one_record_has_no_halves():
    with pytest.raises(AssertionError):
        batch(4, 4).split()


@pytest.mark.parametrize(
    "wrong",
    [
        {"records_max": 0},
        {"records_max": 10_001},
        {"event_bytes_max": 0},
        {"event_bytes_max": 6 * 1024 * 1024 + 1},
        {"window_seconds": -1.0},
        {"window_seconds": 301.0},
    ],
)
def test_a_policy_outside_of_lambdas_limits_is_refused(wrong):
    with pytest.raises(AssertionError):
        BatchPolicy(**wrong)
