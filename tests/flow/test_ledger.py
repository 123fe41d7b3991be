from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow_runs import LANE, batch, logs, run, stretch
from streamfaas.flow.batch import Batch
from streamfaas.flow.ledger import Checkpoint, LogLedger, QueueLedger, Receipts
from streamfaas.flow.record import Instant, Lane, Records, run_of

OTHER = Lane("orders/stream", "orders-1")


def part(run, data) -> Batch:
    """Any part of a run, as a batch."""
    first = data.draw(st.integers(run.first, run.last))
    last = data.draw(st.integers(first, run.last))
    return Batch((run_of(LANE, first, last, run.payload),))


def open_parts(runs, unfinished: set[int]):
    """What of the runs is unfinished, in unbroken stretches."""
    parts = []
    for whole in runs:
        first = None
        for position in range(whole.first, whole.last + 2):
            if position in unfinished and position <= whole.last:
                first = position if first is None else first
            elif first is not None:
                parts.append(run_of(LANE, first, position - 1, whole.payload))
                first = None
    return parts


@settings(max_examples=300)
@given(st.data(), logs())
def test_a_checkpoint_never_passes_an_unfinished_position_nor_stays_behind_a_finished_one(
    data, log
):
    ledger = LogLedger(LANE)
    waiting, taken, unfinished = deque(log), [], set()
    given = end = log[0].first - 1  # everything up to the end was taken, or was a gap
    for _ in range(data.draw(st.integers(1, 30))):
        parts = open_parts(taken, unfinished)
        choices = ["take"] * bool(waiting) + ["finish", "finish"] * bool(parts)
        choices += ["rewind"] * bool(taken)
        if not choices:
            break
        step = data.draw(st.sampled_from(choices))
        if step == "take":
            arrived = waiting.popleft()
            ledger.take(arrived)
            taken.append(arrived)
            end = arrived.last
            unfinished |= set(range(arrived.first, arrived.last + 1))
        elif step == "finish":
            chosen = sorted(
                data.draw(st.sets(st.integers(0, len(parts) - 1), min_size=1, max_size=3))
            )
            done = Batch(tuple(part(parts[index], data).runs[0] for index in chosen))
            settlement = ledger.finish(done)
            unfinished -= set(stretch(done.runs))
            truth = min(unfinished) - 1 if unfinished else end
            if truth > given:
                assert settlement == Checkpoint(LANE, truth)
                given = truth
            else:
                assert settlement is None, "a checkpoint that says nothing new"
        else:
            position = data.draw(st.integers(given + 1, end + 1))
            ledger.rewind(position)
            end = position - 1
            unfinished -= {p for p in unfinished if p >= position}
            again = [r for r in taken if r.last >= position]
            taken = [r for r in taken if r.last < position]
            for whole in reversed(again):
                rest = whole
                if whole.first < position:
                    kept, rest = whole.cut(position)
                    taken.append(kept)
                waiting.appendleft(rest)
        assert ledger.unfinished == len(unfinished)


@given(st.data(), logs())
def test_each_position_of_a_queue_is_finished_or_given_back_exactly_once(data, log):
    ledger = QueueLedger(LANE)
    waiting = list(log)
    taken, unfinished, told = [], set(), []
    for _ in range(data.draw(st.integers(1, 30))):
        parts = open_parts(taken, unfinished)
        if waiting and (not parts or data.draw(st.booleans())):
            arrived = waiting.pop(data.draw(st.integers(0, len(waiting) - 1)))
            ledger.take(arrived)
            taken.append(arrived)
            unfinished |= set(range(arrived.first, arrived.last + 1))
        elif parts:
            chosen = part(parts[data.draw(st.integers(0, len(parts) - 1))], data)
            ranges = ((chosen.first, chosen.last),)
            if data.draw(st.booleans()):
                assert ledger.finish(chosen) == Receipts(LANE, finished=ranges)
            else:
                at = Instant(5.0)
                assert ledger.release(chosen, at, counted=True) == Receipts(
                    LANE, released=ranges, at=at
                )
            told += stretch(chosen.runs)
            unfinished -= set(stretch(chosen.runs))
        assert ledger.unfinished == len(unfinished)
    assert len(told) == len(set(told))
    assert set(told) | unfinished == set(stretch(taken))


@given(logs(), st.randoms(use_true_random=False))
def test_in_any_order_of_finishing_the_last_one_brings_the_checkpoint_to_the_end(log, random):
    ledger = LogLedger(LANE)
    for arrived in log:
        ledger.take(arrived)
    shuffled = random.sample(log, len(log))

    told = [ledger.finish(Batch((one,))) for one in shuffled]

    positions = [settlement.position for settlement in told if settlement is not None]
    assert positions == sorted(set(positions)), "strictly rising"
    assert positions[-1] == log[-1].last
    assert ledger.unfinished == 0


def test_a_checkpoint_waits_for_the_lowest():
    ledger = LogLedger(LANE)
    for first in (100, 110, 120):
        ledger.take(run(first, first + 9))

    assert ledger.finish(batch(110, 119)) is None
    assert ledger.finish(batch(100, 104)) == Checkpoint(LANE, 104)
    assert ledger.finish(batch(105, 109)) == Checkpoint(LANE, 119)
    assert ledger.unfinished == 10


def test_a_gap_between_runs_neither_stalls_nor_is_skipped_too_early():
    ledger = LogLedger(LANE)
    ledger.take(run(0, 4))
    ledger.take(run(50, 54))

    assert ledger.finish(batch(50, 54)) is None
    assert ledger.finish(batch(0, 4)) == Checkpoint(LANE, 54)


def test_a_run_of_nothing_moves_the_checkpoint():
    ledger = LogLedger(LANE)
    ledger.take(run(0, 9, positions=()))

    assert ledger.finish(Batch((run(0, 9, positions=()),))) == Checkpoint(LANE, 9)


def test_what_was_finished_ahead_is_read_again_after_a_rewind():
    ledger = LogLedger(LANE)
    ledger.take(run(0, 9))
    ledger.take(run(10, 19))
    assert ledger.finish(batch(10, 19)) is None

    ledger.rewind(5)

    assert ledger.unfinished == 5
    assert ledger.finish(batch(0, 4)) == Checkpoint(LANE, 4)
    ledger.take(run(5, 19))
    assert ledger.finish(batch(5, 19)) == Checkpoint(LANE, 19)


def test_a_log_takes_nothing_back():
    ledger = LogLedger(LANE)
    ledger.take(run(0, 9))

    assert ledger.release(batch(0, 9), None, counted=False) is None
    assert ledger.unfinished == 10


def test_a_queue_hands_out_again_what_was_given_back():
    ledger = QueueLedger(LANE)
    ledger.take(run(3, 3))

    assert ledger.release(batch(3, 3), None, counted=False) == Receipts(
        LANE, released=((3, 3),), counted=False
    )
    ledger.take(run(3, 3, deliveries=1))
    assert ledger.finish(batch(3, 3)) == Receipts(LANE, finished=((3, 3),))


def test_a_batch_of_several_runs_is_one_receipt():
    ledger = QueueLedger(LANE)
    ledger.take(run(5, 9))
    ledger.take(run(0, 2))

    told = ledger.finish(Batch((run(0, 1), run(6, 7))))

    assert told == Receipts(LANE, finished=((0, 1), (6, 7)))
    assert ledger.unfinished == 4


@pytest.mark.parametrize("ledger", [LogLedger(LANE), QueueLedger(LANE)], ids=["log", "queue"])
@pytest.mark.parametrize("wrong", [batch(0, 4), batch(3, 7), batch(18, 20), batch(30, 31)])
def test_finishing_what_is_not_open_is_refused(ledger, wrong):
    if not ledger.unfinished:
        ledger.take(run(0, 9))
        ledger.take(run(10, 19))
        ledger.finish(batch(0, 4))

    with pytest.raises(AssertionError):
        ledger.finish(wrong)


@pytest.mark.parametrize("ledger", [LogLedger, QueueLedger])
@pytest.mark.parametrize(
    "wrong", [run(5, 9), run(9, 12), run(0, 20), run_of(OTHER, 20, 20, Records(()))]
)
def test_taking_twice_or_of_another_lane_is_refused(ledger, wrong):
    it = ledger(LANE)
    it.take(run(5, 9))

    with pytest.raises(AssertionError):
        it.take(wrong)


@pytest.mark.parametrize("ledger", [LogLedger, QueueLedger])
def test_another_lanes_batch_is_refused(ledger):
    it = ledger(LANE)
    it.take(run(0, 9))

    with pytest.raises(AssertionError):
        it.finish(Batch((run_of(OTHER, 0, 9, Records(())),)))


def test_a_rewind_to_before_the_checkpoint_is_refused():
    ledger = LogLedger(LANE)
    ledger.take(run(0, 9))
    ledger.finish(batch(0, 4))

    with pytest.raises(AssertionError):
        ledger.rewind(4)
    ledger.rewind(5)


def test_a_queue_is_not_rewound():
    with pytest.raises(AssertionError):
        QueueLedger(LANE).rewind(0)
