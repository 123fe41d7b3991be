"""What arrived, sorted before it is batched: who wants which record, and in which order."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import TypeAlias
from zlib import crc32

from streamfaas.flow.record import Record, Records, Run, run_of

Place: TypeAlias = Callable[[Record], int | None]
"""Which strand of its lane a record belongs to; None: nobody wants it."""


def strand_of(record: Record, strands: int) -> int:
    """Equal keys go to one strand, whatever process asks; records without a key to the first, so
    that they keep their order too."""
    return crc32(record.key) % strands if record.key is not None and strands > 1 else 0


def sorted_out(run: Run, records: Sequence[Record], place: Place) -> list[tuple[int, Run]]:
    """A run cut into the runs of its strands: together they account for the same positions. What
    nobody wants is a run of no records, of the first strand: to be finished with unseen.

    Positions without a record go with the record before them, the first ones with the first.
    """
    if not records:
        return [(0, run.nothing(run.first, run.last))]
    groups = [(where, tuple(group)) for where, group in groupby(records, key=place)]
    firsts = [run.first, *(group[0].position for _, group in groups[1:])]
    lasts = [*(first - 1 for first in firsts[1:]), run.last]
    return [
        (0, run.nothing(first, last))
        if where is None
        else (where, run_of(run.lane, first, last, Records(group), run.deliveries))
        for (where, group), first, last in zip(groups, firsts, lasts, strict=True)
    ]


def spared(run: Run, ranges: Iterable[tuple[int, int]]) -> list[Run]:
    """A run in pieces, those in the ranges (rising, disjoint) holding no record: what a letter
    that is already on its way speaks of is not run again."""
    pieces: list[Run] = []
    at = run.first
    for first, last in ranges:
        if last < at or first > run.last:
            continue
        begin, end = max(first, at), min(last, run.last)
        if at < begin:
            pieces.append(run.part(at, begin - 1))
        pieces.append(run.nothing(begin, end))
        at = end + 1
    if at <= run.last:
        pieces.append(run.part(at, run.last))
    return pieces


def without(
    ranges: Iterable[tuple[int, int]], gone: Sequence[tuple[int, int]]
) -> tuple[tuple[int, int], ...]:
    """What of ranges is not in others (rising, disjoint, as the first are)."""
    left: list[tuple[int, int]] = []
    lasts = [last for _, last in gone]
    for first, last in ranges:
        at = first
        for begin, end in gone[bisect_left(lasts, first) :]:
            if begin > last:
                break
            if at < begin:
                left.append((at, begin - 1))
            at = end + 1
        if at <= last:
            left.append((at, last))
    return tuple(left)
