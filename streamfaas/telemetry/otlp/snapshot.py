"""All that is counted, at one moment: taken on the event loop, made into points elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from streamfaas.telemetry.instruments import (
    AnyInstrument,
    Bounds,
    Counter,
    Exemplar,
    Histogram,
    Instrument,
    Labels,
    Number,
    Registry,
    View,
)


@dataclass(frozen=True, slots=True)
class Spread:
    """What a histogram has counted."""

    counts: tuple[int, ...]
    sum: Number


Value: TypeAlias = Number | Spread
Exemplars: TypeAlias = tuple[tuple[Number, Exemplar], ...]
"""What has counted last of those whose spans were kept, each with what it was worth."""


@dataclass(frozen=True, slots=True)
class Series:
    """One instrument with all that it has counted; `bounds` only of a histogram."""

    about: Instrument
    bounds: Bounds
    values: tuple[tuple[Labels, Value, Exemplars], ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Counts began at `start_ns`; times are epoch nanoseconds."""

    start_ns: int
    at_ns: int
    series: tuple[Series, ...]


def snapshot(registry: Registry, view: View, start_ns: int, at_ns: int) -> Snapshot:
    """Everything as it is now. Nothing happens in between, so that its numbers belong together."""
    series = tuple(
        Series(each.about, getattr(each, "bounds", ()), tuple(_values(each, view)))
        for each in registry
    )
    return Snapshot(start_ns, at_ns, series)


def _values(instrument: AnyInstrument, view: View) -> Iterator[tuple[Labels, Value, Exemplars]]:
    match instrument:
        case Histogram():
            for labels, spread in instrument.cells.items():
                counts = Spread(tuple(spread.counts), spread.sum)
                yield labels, counts, tuple(spread.exemplars.values())
        case Counter():
            for labels, cell in instrument.cells.items():
                yield labels, cell.value, ((1, cell.exemplar),) if cell.exemplar else ()
        case _:
            for labels, value in instrument.read(view):
                yield labels, value, ()
