"""Counts as OpenTelemetry's metrics, read back by its own encoder."""

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics

from otlp_sink import attributes
from streamfaas.flow.trace import Context
from streamfaas.telemetry.instruments import SECONDS, Exemplar, Registry
from streamfaas.telemetry.otlp.points import Starts, metrics_data
from streamfaas.telemetry.otlp.resource import resource, scope
from streamfaas.telemetry.otlp.snapshot import snapshot

START, STEP = 1_000, 10


def registry():
    made = Registry()
    counter = made.counter("streamfaas_things", "Things.", "function", counts="thing")
    histogram = made.histogram("faas_took_seconds", "How long.", "function", unit="seconds", bounds=SECONDS)  # fmt: skip
    made.watch("streamfaas_here", "Here.", "function", read=lambda view: view["here"])
    return made, counter, histogram


def sent(found, starts):
    request = encode_metrics(metrics_data(found, starts, resource(""), scope()))
    (whole,) = request.resource_metrics
    (scoped,) = whole.scope_metrics
    assert whole.schema_url == scoped.schema_url == "https://opentelemetry.io/schemas/1.44.0"
    assert scoped.scope.name == "streamfaas"
    return {metric.name: metric for metric in scoped.metrics}


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.integers(0, 5)), min_size=1, max_size=8))
def test_a_series_that_counts_less_has_begun_again_and_one_that_is_new_began_since(history):
    """What each function has counted, at one export after another."""
    starts, before = Starts(), {}
    for step, counts in enumerate(history, 1):
        made, counter, _ = registry()
        for name, count in counts.items():
            counter.cell(name).value = count
        at = START + step * STEP
        metrics = sent(snapshot(made, {"here": []}, START, at), starts)
        points = {
            attributes(point.attributes)["faas.name"]: point
            for point in (
                metrics["streamfaas.things"].sum.data_points
                if "streamfaas.things" in metrics
                else ()
            )
        }
        assert points.keys() == counts.keys()
        expected = {}
        for name, point in points.items():
            last = before.get(name)
            begun = last is None or last[0] > counts[name]
            since = START if step == 1 else at - STEP
            expected[name] = (counts[name], since if begun else last[1])
            assert (point.as_int, point.start_time_unix_nano) == expected[name]
            assert point.time_unix_nano == at > point.start_time_unix_nano
        before = expected


def test_each_kind_has_its_own_form():
    made, counter, histogram = registry()
    counter.cell("f").value = 3
    for value in (0.004, 7.0, 9_000.0):
        histogram.cell("f").observe(value)
    here = {"here": [(("f",), 2.5)]}
    metrics = sent(snapshot(made, here, START, START + 1), Starts())
    things = metrics["streamfaas.things"]
    assert (things.unit, things.description) == ("{thing}", "Things.")
    assert things.sum.is_monotonic
    assert things.sum.aggregation_temporality == 2  # cumulative
    (gauge,) = metrics["streamfaas.here"].gauge.data_points
    assert gauge.as_double == 2.5
    took = metrics["faas.took"]
    assert took.unit == "s"
    assert took.histogram.aggregation_temporality == 2
    (point,) = took.histogram.data_points
    assert (point.count, point.sum) == (3, 9_007.004)
    assert list(point.explicit_bounds) == list(SECONDS)
    assert list(point.bucket_counts) == [1, *[0] * 11, 1, *[0] * 5, 1]
    assert not point.HasField("min")


def test_what_was_kept_is_named_by_what_it_has_counted_in():
    made, counter, histogram = registry()
    kept = Exemplar(Context(7, 9, sampled=True), 2.5)
    counter.cell("f").add(kept)
    histogram.cell("f").observe(7.0, kept)
    histogram.cell("f").observe(7.1)
    found = snapshot(made, {"here": []}, START, START + 1)
    metrics = sent(found, Starts())
    (counted,) = metrics["streamfaas.things"].sum.data_points[0].exemplars
    (measured,) = metrics["faas.took"].histogram.data_points[0].exemplars
    assert (counted.as_int, measured.as_double) == (1, 7.0)
    for each in (counted, measured):
        assert each.trace_id == (7).to_bytes(16, "big")
        assert each.span_id == (9).to_bytes(8, "big")
        assert each.time_unix_nano == 2_500_000_000
    without = encode_metrics(metrics_data(found, Starts(), resource(""), scope(), exemplars=False))
    assert b"exemplars" not in str(without).encode()


def test_a_label_that_is_no_text_for_others_is_written_out_and_an_empty_one_is_left_out():
    made, counter, _ = registry()
    counter.cell("\udcff").value = 1
    counter.cell("").value = 1
    metrics = sent(snapshot(made, {"here": []}, START, START + 1), Starts())
    found = [attributes(each.attributes) for each in metrics["streamfaas.things"].sum.data_points]
    assert found == [{"faas.name": "\\udcff"}, {}]
