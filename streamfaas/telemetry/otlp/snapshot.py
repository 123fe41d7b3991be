"""All that is counted, at one moment: taken on the event loop, made into points elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from streamfaas.telemetry.instruments import (
    AnyInstrument,
    Bounds,
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


@dataclass(frozen=True, slots=True)
class Series:
    """One instrument with all that it has counted; `bounds` only of a histogram."""

    about: Instrument
    bounds: Bounds
    values: tuple[tuple[Labels, Value], ...]


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


def _values(instrument: AnyInstrument, view: View) -> Iterator[tuple[Labels, Value]]:
    if isinstance(instrument, Histogram):
        for labels, cell in instrument.cells.items():
            yield labels, Spread(tuple(cell.counts), cell.sum)
    else:
        yield from instrument.read(view)
