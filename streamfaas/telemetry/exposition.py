"""Instruments as text that Prometheus reads: its own format, or OpenMetrics."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

from streamfaas.telemetry.instruments import (
    AnyInstrument,
    Buckets,
    Counter,
    Exemplar,
    Histogram,
    Instrument,
    Labels,
    Number,
    Registry,
    View,
)

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


def wanted(accept: str) -> str:
    """The content type that a scraper with this `Accept` is given."""
    for each in accept.lower().split(","):
        kind, *parameters = (part.strip() for part in each.split(";"))
        if kind == "application/openmetrics-text" and not _refused(parameters):
            return OPENMETRICS
    return PROMETHEUS


def exposition(registry: Registry, view: View, *, openmetrics: bool) -> bytes:
    """All that there is to tell, at the moment of the view."""
    lines: list[str] = []
    for instrument in registry:
        lines += _head(instrument.about, openmetrics=openmetrics)
        lines += _samples(instrument, view, exemplars=openmetrics)
    if openmetrics:
        lines.append("# EOF")
    return ("\n".join(lines) + "\n").encode()


def _refused(parameters: list[str]) -> bool:
    return any(
        each.replace(" ", "") in {"q=0", "q=0.0", "q=0.00", "q=0.000"} for each in parameters
    )


def _head(about: Instrument, *, openmetrics: bool) -> Iterator[str]:
    name, kind = (about.name, about.kind) if openmetrics else (about.shown, about.kind)
    if not openmetrics and kind == "info":
        kind = "gauge"
    yield f"# HELP {name} {_escaped(about.help, quotes=openmetrics)}"
    yield f"# TYPE {name} {kind}"
    if openmetrics and about.unit:
        yield f"# UNIT {name} {about.unit}"


def _samples(instrument: AnyInstrument, view: View, *, exemplars: bool) -> Iterator[str]:
    about = instrument.about
    if isinstance(instrument, Histogram):
        for labels, buckets in instrument.cells.items():
            yield from _buckets(about, labels, buckets, exemplars=exemplars)
        return
    if isinstance(instrument, Counter) and exemplars:
        for labels, cell in instrument.cells.items():
            shown = _sample(about.shown, _pairs(about, labels), cell.value)
            yield shown if cell.exemplar is None else f"{shown} {_exemplar(1, cell.exemplar)}"
        return
    for labels, value in instrument.read(view):
        yield _sample(about.shown, _pairs(about, labels), value)


def _buckets(
    about: Instrument, labels: Labels, buckets: Buckets, *, exemplars: bool
) -> Iterator[str]:
    pairs = _pairs(about, labels)
    counts = list(accumulate(buckets.counts))
    bounds = [*map(float, buckets.bounds), "+Inf"]
    for at, (bound, count) in enumerate(zip(bounds, counts, strict=True)):
        shown = _sample(f"{about.name}_bucket", [*pairs, f'le="{bound}"'], count)
        known = buckets.exemplars.get(at) if exemplars else None
        yield shown if known is None else f"{shown} {_exemplar(*known)}"
    yield _sample(f"{about.name}_sum", pairs, buckets.sum)
    yield _sample(f"{about.name}_count", pairs, counts[-1])


def _exemplar(value: Number, exemplar: Exemplar) -> str:
    context = exemplar.context
    ids = f'trace_id="{context.trace_id:032x}",span_id="{context.span_id:016x}"'
    return f"# {{{ids}}} {value} {exemplar.at:.3f}"


def _pairs(about: Instrument, labels: Labels) -> list[str]:
    return [
        f'{name}="{_escaped(value, quotes=True)}"'
        for name, value in zip(about.labels, labels, strict=True)
    ]


def _sample(name: str, pairs: list[str], value: Number) -> str:
    return f"{name}{{{','.join(pairs)}}} {value}" if pairs else f"{name} {value}"


def _escaped(text: str, *, quotes: bool) -> str:
    found = text.replace("\\", "\\\\").replace("\n", "\\n")
    found = found.replace('"', '\\"') if quotes else found
    return found.encode("utf-8", "backslashreplace").decode()
