"""Instruments: counters and histograms of plain numbers, gauges that are read when asked."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypedDict, TypeVar, Unpack

from streamfaas.flow.trace import Context
from streamfaas.flow.value import value

View: TypeAlias = Mapping[str, Any]
"""The daemon as `status` shows it, at one moment: what gauges are read from."""

Number: TypeAlias = int | float
Labels: TypeAlias = tuple[str, ...]
Bounds: TypeAlias = tuple[int, ...] | tuple[float, ...]
Reading: TypeAlias = tuple[Labels, Number]
Read: TypeAlias = Callable[[View], Iterable[Reading]]

SECONDS = (
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(30.0, 60.0, 300.0, 900.0),
)
"""Bounds of durations: those of OpenTelemetry, and four more for runs as long as Lambda's."""

DELAYS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
BYTES = (*(mega << 20 for mega in (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 10240)),)
RECORDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)

SERIES_MAX = 10_000
"""Series of one instrument. Labels are names of the configuration, so that only one with as many
functions comes near; what is beyond goes into one series whose labels are all `other`."""

LABELS: Mapping[str, str] = {
    "function": "functions of the configuration",
    "trigger": "triggers of the configuration, and asynchronous; empty for direct calls",
    "partition": "lanes that are read, and only with telemetry.metrics.per_partition",
    "outcome": "succeeded, failed, filtered, expired, given_back",
    "error_type": "function, timeout, crash, memory, init, report",
    "reason": "throttled, aborted, oversize, corrupt; why workers end",
    "condition": "why records are given up, in Lambda's words",
    "state": "states of workers, triggers, or the daemon; how a reload ends",
    "signal": "traces, metrics, logs",
    "version": "one",
    "python": "one",
}
"""Every label there is, and what bounds its values."""

UNITS: Mapping[str, str] = {"seconds": "s", "bytes": "By"}
"""What OpenTelemetry calls each unit."""

PLACE = ("function", "trigger")
"""Labels of what belongs to a trigger, or to the direct calls of a function."""


def place(source: str) -> tuple[str, str]:
    """What they are, of `function/trigger` or of a function."""
    function, _, trigger = source.partition("/")
    return function, trigger


@value
class Exemplar:
    """A span that was kept and has counted, and when that was, in epoch seconds."""

    context: Context
    at: float


class Cell:
    """One series of a counter. `exemplar` has counted last, of those that were kept."""

    __slots__ = ("exemplar", "value")

    def __init__(self) -> None:
        self.value: Number = 0
        self.exemplar: Exemplar | None = None

    def add(self, exemplar: Exemplar | None) -> None:
        """One more."""
        self.value += 1
        if exemplar is not None:
            self.exemplar = exemplar


class Buckets:
    """One series of a histogram. `exemplars` are the last of each bucket, with their values."""

    __slots__ = ("bounds", "counts", "exemplars", "sum")

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum: Number = 0
        self.exemplars: dict[int, tuple[Number, Exemplar]] = {}

    def observe(self, value: Number, exemplar: Exemplar | None = None) -> None:
        at = bisect_left(self.bounds, value)
        self.counts[at] += 1
        self.sum += value
        if exemplar is not None:
            self.exemplars[at] = value, exemplar


Kind: TypeAlias = Literal["counter", "gauge", "histogram", "info"]


@dataclass(frozen=True, slots=True)
class Instrument:
    """What is measured: `name` without the suffix of its kind, and `unit` (empty: a count) as the
    last word of it. `cloudwatch` is what AWS calls it, `otel` what OpenTelemetry does, where that
    is not the name with a dot after its first word; `counts` is what a count is of."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...]
    unit: str = ""
    cloudwatch: str = ""
    otel: str = ""
    counts: str = ""

    def __post_init__(self) -> None:
        assert not self.unit or self.name.endswith(f"_{self.unit}"), self.name
        assert set(self.labels) <= set(LABELS), f"{self.name}: a label that nothing bounds"
        assert not self.name.endswith("_total")

    @property
    def shown(self) -> str:
        """The name as a query has it."""
        return self.name + {"counter": "_total", "info": "_info"}.get(self.kind, "")

    @property
    def otel_name(self) -> str:
        """The name as OpenTelemetry has it: dots, and no word for unit or kind."""
        return self.otel or self.name.removesuffix(f"_{self.unit}").replace("_", ".", 1)

    @property
    def otel_unit(self) -> str:
        """The unit as OpenTelemetry has it."""
        return UNITS.get(self.unit) or (f"{{{self.counts}}}" if self.counts else "")


class Counter:
    """Counts up. Whoever counts often keeps the cell."""

    def __init__(self, about: Instrument) -> None:
        self.about = about
        self.cells: dict[Labels, Cell] = {}

    def cell(self, *labels: str) -> Cell:
        found = self.cells.get(labels)
        if found is None:
            key = _within(labels, self.about, self.cells)
            found = self.cells.setdefault(key, Cell())
        return found

    def read(self, _view: View) -> Iterator[Reading]:
        return ((labels, cell.value) for labels, cell in self.cells.items())


class Histogram:
    """Counts values by their size."""

    def __init__(self, about: Instrument, bounds: Bounds) -> None:
        self.about = about
        self.bounds = bounds
        self.cells: dict[Labels, Buckets] = {}

    def cell(self, *labels: str) -> Buckets:
        found = self.cells.get(labels)
        if found is None:
            key = _within(labels, self.about, self.cells)
            found = self.cells.setdefault(key, Buckets(self.bounds))
        return found


class Watched:
    """A gauge, or a count that somebody else keeps: read off the view."""

    def __init__(self, about: Instrument, read: Read) -> None:
        self.about = about
        self.read = read


def _within(labels: Labels, about: Instrument, cells: Mapping[Labels, object]) -> Labels:
    assert len(labels) == len(about.labels)
    return labels if len(cells) < SERIES_MAX else ("other",) * len(labels)


AnyInstrument: TypeAlias = Counter | Histogram | Watched
Made = TypeVar("Made", Counter, Histogram, Watched)


class About(TypedDict, total=False):
    """What an instrument may be told besides its name, text and labels; see there."""

    unit: str
    cloudwatch: str
    otel: str
    counts: str


class Registry:
    """All instruments, in the order of the table. Names are given once."""

    def __init__(self) -> None:
        self.instruments: dict[str, AnyInstrument] = {}

    def counter(self, name: str, text: str, *labels: str, **more: Unpack[About]) -> Counter:
        return self._added(Counter(Instrument(name, "counter", text, labels, **more)))

    def histogram(
        self, name: str, text: str, *labels: str, bounds: Bounds, **more: Unpack[About]
    ) -> Histogram:
        return self._added(Histogram(Instrument(name, "histogram", text, labels, **more), bounds))

    def watch(
        self,
        name: str,
        text: str,
        *labels: str,
        read: Read,
        kind: Kind = "gauge",
        **more: Unpack[About],
    ) -> Watched:
        return self._added(Watched(Instrument(name, kind, text, labels, **more), read))

    def __iter__(self) -> Iterator[AnyInstrument]:
        return iter(self.instruments.values())

    def _added(self, made: Made) -> Made:
        assert made.about.name not in self.instruments
        self.instruments[made.about.name] = made
        return made
