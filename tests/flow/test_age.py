from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flow_runs import LANE, logs, positions, stretch
from streamfaas.flow.age import has_overdue, overdue
from streamfaas.flow.batch import Batch
from streamfaas.flow.record import Record, run_of_records


def aged(*seconds: float) -> Batch:
    """A record for each age, at second 1,000."""
    made = [
        Record(LANE, at, b"x", timestamp_ms=int(1_000_000 - age * 1000))
        for at, age in enumerate(seconds)
    ]
    return Batch((run_of_records(tuple(made)),))


def records(batch: Batch) -> list[Record]:
    return [r for run in batch.runs for r in run.payload.between(run.first, run.last)]


def test_old_records_are_split_off_and_their_young_neighbours_are_delivered():
    whole = aged(90, 10, 61, 60, 5)

    old, young = overdue(whole, records(whole), 60, 1_000.0)

    assert positions(old.runs) == [0, 2]
    assert positions(young.runs) == [1, 3, 4]


@given(logs(), st.floats(0.1, 20), st.floats(0, 30))
def test_who_is_too_old_is_told_by_each_record_and_nobody_is_on_both_sides(log, limit, wall):
    whole = Batch(tuple(log))

    old, young = overdue(whole, records(whole), limit, wall)

    late = [r.position for r in records(whole) if 0 <= r.timestamp_ms < (wall - limit) * 1000]
    assert positions(old.runs if old else ()) == late
    both = stretch(old.runs if old else ()) + stretch(young.runs if young else ())
    assert sorted(both) == stretch(whole.runs)
    assert not late or has_overdue(whole, limit, wall)


def test_without_a_limit_or_a_timestamp_nothing_is_too_old():
    assert not has_overdue(aged(10_000_000), None, 1_000.0)
    timeless = Batch((run_of_records((Record(LANE, 0, b"x"),)),))
    assert not has_overdue(timeless, 1.0, 1e9)
