"""Logs made up for the tests of flow: runs with gaps, runs of nothing, records of any size."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import strategies as st

from streamfaas.flow.batch import Batch
from streamfaas.flow.record import Lane, Record, Records, Run, run_of

LANE = Lane("orders/stream", "orders-0")


def record(position: int, size: int = 3, timestamp_ms: int = -1) -> Record:
    return Record(LANE, position, b"x" * size, timestamp_ms=timestamp_ms)


def run(first: int, last: int, positions: Iterable[int] | None = None, deliveries: int = 0) -> Run:
    """A run over `first`..`last`, with records at all of these positions or at the given ones."""
    held = range(first, last + 1) if positions is None else positions
    return run_of(LANE, first, last, Records(tuple(record(p) for p in held)), deliveries)


def batch(first: int, last: int, attempt: int = 0) -> Batch:
    return Batch((run(first, last),), attempt)


def positions(runs: Iterable[Run]) -> list[int]:
    """Where the records of runs lie."""
    return [record.position for run in runs for record in run.payload.between(run.first, run.last)]


def stretch(runs: Iterable[Run]) -> list[int]:
    """Every position that runs account for, whether a record lies there or not."""
    return [position for run in runs for position in range(run.first, run.last + 1)]


@st.composite
def logs(draw, runs_max: int = 10, size_max: int = 400) -> list[Run]:
    """A stretch of a log as runs: gaps between them, within them and at their ends."""
    made = []
    position = draw(st.integers(0, 50))
    for _ in range(draw(st.integers(1, runs_max))):
        position += draw(st.integers(0, 3))
        first = position
        held = []
        for skipped, size in draw(
            st.lists(st.tuples(st.integers(0, 2), st.integers(0, size_max)), max_size=8)
        ):
            position += skipped
            timestamp_ms = draw(st.sampled_from([-1, 1_000, 5_000, 9_000]))
            held.append(record(position, size, timestamp_ms))
            position += 1
        position += draw(st.integers(0 if held else 1, 2))
        made.append(run_of(LANE, first, position - 1, Records(tuple(held))))
    return made
