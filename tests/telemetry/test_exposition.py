import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from metrics_read import OPENMETRICS as ACCEPTED
from metrics_read import Scrape
from streamfaas.flow.trace import Context
from streamfaas.telemetry.exposition import OPENMETRICS, PROMETHEUS, exposition, wanted
from streamfaas.telemetry.instruments import SECONDS, Exemplar, Registry


def made(label="x"):
    registry = Registry()
    counter = registry.counter("things", 'Things "counted"\nby \\us.', "function")
    counter.cell(label).value += 3
    histogram = registry.histogram(
        "took_seconds", "How long.", "function", unit="seconds", bounds=SECONDS
    )
    for value in (0.004, 0.005, 9.5, 1000):
        histogram.cell(label).observe(value)
    registry.watch("here", "Here.", read=lambda view: [((), view["here"])])
    registry.watch("it", "It.", "version", kind="info", read=lambda _view: [(("1.0",), 1)])
    return registry


@given(st.text(max_size=20), st.sampled_from([OPENMETRICS, PROMETHEUS]))
def test_whatever_a_label_says_the_parser_reads_it_back(label, kind):
    body = exposition(made(label), {"here": 2.5}, openmetrics=kind == OPENMETRICS)
    scrape = Scrape(body, kind)
    shown = label.encode("utf-8", "backslashreplace").decode()
    assert scrape.of("things_total", function=shown) == 3
    assert scrape.of("here") == 2.5
    assert scrape.of("it_info", version="1.0") == 1
    assert scrape.of("took_seconds_bucket", function=shown, le="0.005") == 2
    assert scrape.of("took_seconds_bucket", function=shown, le="10.0") == 3
    assert scrape.of("took_seconds_bucket", function=shown, le="+Inf") == 4
    assert scrape.of("took_seconds_count", function=shown) == 4
    assert scrape.of("took_seconds_sum", function=shown) == pytest.approx(1009.509)


def test_what_was_kept_is_an_exemplar_of_what_it_has_counted_in():
    registry = made()
    exemplar = Exemplar(Context(1 << 100, 7, sampled=True), 1_700_000_000.25)
    registry.instruments["things"].cell("x").add(exemplar)
    took = registry.instruments["took_seconds"].cell("x")
    took.observe(0.006)
    took.observe(0.007, exemplar)
    told = {"trace_id": f"{1 << 100:032x}", "span_id": f"{7:016x}"}
    body = exposition(registry, {"here": 1}, openmetrics=True).decode()
    found = {
        (sample.name, sample.labels.get("le")): sample.exemplar
        for family in text_string_to_metric_families(body)
        for sample in family.samples
        if sample.exemplar is not None
    }
    assert set(found) == {("things_total", None), ("took_seconds_bucket", "0.01")}
    assert all(each.labels == told for each in found.values())
    assert [each.value for each in found.values()] == [1, 0.007]
    assert {float(each.timestamp) for each in found.values()} == {1_700_000_000.25}
    assert "trace_id" not in exposition(registry, {"here": 1}, openmetrics=False).decode()


def test_each_format_has_its_own_words():
    text = exposition(made(), {"here": 1}, openmetrics=False).decode()
    assert "# TYPE things_total counter\n" in text
    assert "# TYPE it_info gauge\n" in text
    assert "# UNIT" not in text
    text = exposition(made(), {"here": 1}, openmetrics=True).decode()
    assert "# TYPE things counter\n" in text
    assert "# TYPE it info\n" in text
    assert "# UNIT took_seconds seconds\n" in text
    assert text.endswith("\n# EOF\n")


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", PROMETHEUS),
        ("*/*", PROMETHEUS),
        ("text/plain;version=0.0.4", PROMETHEUS),
        (ACCEPTED, OPENMETRICS),
        (f"text/plain;q=0.5, {ACCEPTED};q=0.9", OPENMETRICS),
        ("Application/OpenMetrics-Text", OPENMETRICS),
        ("application/openmetrics-text; q=0", PROMETHEUS),
        ("application/openmetrics-text-not", PROMETHEUS),
        (";,;;,=", PROMETHEUS),
    ],
)
def test_openmetrics_is_given_to_whoever_takes_it(accept, kind):
    assert wanted(accept) == kind
