"""A snapshot as OpenTelemetry's metrics: cumulative, and each series with the moment it began."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias, cast

from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.export import Histogram as HistogramData
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from streamfaas.telemetry.console import unicode
from streamfaas.telemetry.instruments import Labels, Number
from streamfaas.telemetry.names import METRIC_ATTRIBUTES, SCHEMA_URL
from streamfaas.telemetry.otlp.snapshot import Exemplars, Series, Snapshot, Spread

CUMULATIVE = AggregationTemporality.CUMULATIVE

Key: TypeAlias = tuple[str, Labels]


@dataclass(slots=True)
class Starts:
    """Since when each series counts. One that came later began after the snapshot before; one that
    counts less than it did has begun again (its trigger was made anew)."""

    _known: dict[Key, tuple[Number, int]] = field(default_factory=dict)
    _before_ns: int = 0

    def of(self, found: Snapshot) -> dict[Key, int]:
        """The starts of all of a snapshot's series, each of which is later than the last."""
        known: dict[Key, tuple[Number, int]] = {}
        for each in found.series:
            for labels, value, _ in each.values:
                key = (each.about.otel_name, labels)
                count = sum(value.counts) if isinstance(value, Spread) else value
                known[key] = (count, self._start(key, count, found))
        self._known, self._before_ns = known, found.at_ns
        return {key: start for key, (_, start) in known.items()}

    def _start(self, key: Key, count: Number, found: Snapshot) -> int:
        before = self._known.get(key)
        if before is not None and before[0] <= count:
            return before[1]
        return self._before_ns or found.start_ns


def metrics_data(
    found: Snapshot,
    starts: Starts,
    resource: Resource,
    scope: InstrumentationScope,
    *,
    exemplars: bool = True,
) -> MetricsData:
    """What the SDK's exporters take."""
    began = starts.of(found)
    points = _Points(began, found.at_ns, exemplars)
    metrics = [points.metric(each) for each in found.series if each.values]
    scoped = ScopeMetrics(scope, metrics, SCHEMA_URL)
    return MetricsData([ResourceMetrics(resource, [scoped], SCHEMA_URL)])


@dataclass(frozen=True, slots=True)
class _Points:
    """Makes those of one snapshot."""

    began: dict[Key, int]
    at_ns: int
    exemplars: bool

    def metric(self, series: Series) -> Metric:
        about = series.about
        data: Sum | Gauge | HistogramData
        if about.kind == "histogram":
            data = HistogramData(list(self._spreads(series)), CUMULATIVE)
        else:
            points = list(self._numbers(series))
            data = Sum(points, CUMULATIVE, True) if about.kind == "counter" else Gauge(points)
        return Metric(about.otel_name, about.help, about.otel_unit, data)

    def _numbers(self, series: Series) -> Iterator[NumberDataPoint]:
        for labels, value, known in series.values:
            assert not isinstance(value, Spread)
            yield NumberDataPoint(
                attributes=_attributes(series, labels),
                start_time_unix_nano=self.began[series.about.otel_name, labels],
                time_unix_nano=self.at_ns,
                value=value,
                exemplars=self._told(known),
            )

    def _spreads(self, series: Series) -> Iterator[HistogramDataPoint]:
        unknown = cast("float", None)  # the least and the most are not kept: they are left out
        for labels, value, known in series.values:
            assert isinstance(value, Spread)
            yield HistogramDataPoint(
                attributes=_attributes(series, labels),
                start_time_unix_nano=self.began[series.about.otel_name, labels],
                time_unix_nano=self.at_ns,
                count=sum(value.counts),
                sum=value.sum,
                bucket_counts=value.counts,
                explicit_bounds=series.bounds,
                min=unknown,
                max=unknown,
                exemplars=self._told(known),
            )

    def _told(self, known: Exemplars) -> list[Exemplar]:
        return [
            Exemplar({}, value, int(each.at * 1e9), each.context.span_id, each.context.trace_id)
            for value, each in (known if self.exemplars else ())
        ]


def _attributes(series: Series, labels: Labels) -> dict[str, str]:
    """As the series is labelled; an empty label is none."""
    return {
        METRIC_ATTRIBUTES[name]: unicode(value)
        for name, value in zip(series.about.labels, labels, strict=True)
        if value
    }
