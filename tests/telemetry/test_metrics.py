from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics_read import PLACE, scraped, view
from streamfaas.daemon.reload import State
from streamfaas.docs import topics
from streamfaas.flow.outcome import Failure, Fault, Report, Success
from streamfaas.flow.record import Lane
from streamfaas.flow.trace import Context
from streamfaas.flow.verdict import Condition
from streamfaas.telemetry import signals
from streamfaas.telemetry.exposition import exposition
from streamfaas.telemetry.instruments import LABELS
from streamfaas.telemetry.metrics import RELOADS, WORKER_REASONS, Metrics, table
from streamfaas.telemetry.names import METRIC_ATTRIBUTES


def ended(outcome, *, records=100, of="orders/stream", name="orders-0"):
    at = Lane(of, name) if of else None
    return signals.InvocationEnded("id", "orders", at, records, 0, 99, 0, outcome)


def test_an_invocation_that_is_kept_is_an_exemplar():
    metrics = Metrics(["orders/stream"], wall_clock=lambda: 1_700_000_000.0)
    metrics(ended(Success(b"", report=Report("w", 0.03))))
    metrics(replace(ended(failure(Fault.TIMEOUT, Report("w", 3.0))), context=Context(7, 9)))
    text = exposition(metrics.registry, view(), openmetrics=True).decode()
    told = f'# {{trace_id="{7:032x}",span_id="{9:016x}"}}'
    found = [line.partition(" # ") for line in text.splitlines() if told in line]
    assert [(line.partition("{")[0], tail.split("} ")[1]) for line, _, tail in found] == [
        ("faas_invoke_duration_seconds_bucket", "3.0 1700000000.000"),
        ("faas_errors_total", "1 1700000000.000"),
        ("faas_timeouts_total", "1 1700000000.000"),
    ]


def failure(fault, report=None):
    return Failure(fault, "T", "m", report=report or Report())


CONDITIONS = [word for name, word in vars(Condition).items() if name.isupper()]
TEXT = st.text(max_size=8)
LANES = st.builds(lambda name: Lane("orders/stream", name), TEXT)
COUNT = st.integers(0, 1000)
OUTCOMES = st.one_of(
    st.builds(lambda: Success(b"", report=Report("w", 0.1, 0.2, 1 << 20))),
    st.builds(Failure, st.sampled_from(Fault), TEXT, TEXT),
)
SIGNALS = st.one_of(
    st.builds(
        lambda id_, at, outcome: signals.InvocationEnded(id_, "orders", at, 1, 0, 0, 0, outcome),
        TEXT, st.none() | LANES, OUTCOMES,
    ),
    st.builds(
        lambda at, said: signals.LaneRetrying(at, 0, 9, 1, 1.0, False, said),
        LANES, TEXT,
    ),
    st.builds(lambda at: signals.BatchSplit(at, 0, 9, (5, 5)), LANES),
    st.builds(
        lambda at, why, to: signals.BatchSetAside(at, 0, 9, 10, why, to),
        LANES, st.sampled_from(CONDITIONS), TEXT,
    ),
    st.builds(lambda at, to, said: signals.DestinationFailed(at, to, said, 1.0), LANES, TEXT, TEXT),
    st.builds(signals.DestinationUnready, TEXT, TEXT),
    st.builds(lambda worker: signals.WorkerStarted("orders", worker, 0.1), TEXT),
    st.builds(lambda worker, why: signals.WorkerEnded("orders", worker, why), TEXT, TEXT),
    st.builds(signals.LaneClosed, LANES, COUNT),
    st.builds(lambda worker, text: signals.LogWritten("orders", worker, "id", text, False), TEXT, TEXT),
    st.builds(lambda size: signals.OutputCut("orders", size), COUNT),
    st.builds(signals.LogsDropped, TEXT, COUNT, TEXT),
    st.builds(signals.DaemonStepped, TEXT, TEXT),
    st.builds(lambda state, said: signals.ConfigReloaded(state, said, 0.1), st.sampled_from(RELOADS), TEXT),
)  # fmt: skip


def everything():
    """All that signals about one function with one trigger may be labelled with."""
    metrics = Metrics(["orders", "orders/stream"])
    for each in CONDITIONS:
        metrics(signals.BatchSetAside(Lane("orders/stream", ""), 0, 0, 1, each, "", True))
    for why in ("idle", "drained", "timeout", "crash", "protocol", "init", "aborted", "else"):
        metrics(signals.WorkerEnded("orders", "w", why))
    metrics(signals.WorkerStarted("orders", "w", 1.0))
    for state in RELOADS:
        metrics(signals.ConfigReloaded(state, "", 0.0))
    metrics(signals.OutputCut("orders", 1))
    return set(scraped(metrics.registry).samples)


EVERYTHING = everything()


@pytest.mark.slow
@settings(max_examples=60)
@given(st.lists(SIGNALS, max_size=20))
def test_no_signal_makes_a_series_that_is_not_of_the_configuration(told):
    """Not by a request id, a lane, a worker, an error's words or a destination."""
    metrics = Metrics(["orders/stream"])
    for signal in told:
        metrics(signal)
    assert set(scraped(metrics.registry).samples) <= EVERYTHING


def test_every_label_that_is_bounded_is_one_that_there_is():
    labels = [each.about.labels for each in Metrics(per_partition=True).registry]
    assert {label for each in labels for label in each} == set(LABELS)


def test_what_invocations_cost_is_counted_by_function_and_trigger():
    metrics = Metrics()
    metrics(ended(Success(b"", report=Report("w", 0.02, 0.3, 20 << 20))))
    metrics(ended(failure(Fault.TIMEOUT, Report("w", 3.0, None, 40 << 20)), records=7))
    metrics(ended(failure(Fault.FUNCTION, Report("w", 0.001)), of=None, records=1))
    scrape = scraped(metrics.registry)
    assert scrape.of("faas_invocations_total", **PLACE) == 1
    assert scrape.of("faas_errors_total", **PLACE, error_type="timeout") == 1
    assert scrape.of("faas_timeouts_total", **PLACE) == 1
    assert scrape.of("faas_coldstarts_total", **PLACE) == 1
    assert scrape.of("faas_invoke_duration_seconds_sum", **PLACE) == 3.02
    assert scrape.of("faas_invoke_duration_seconds_bucket", **PLACE, le="0.025") == 1
    assert scrape.of("faas_mem_usage_bytes_count", **PLACE) == 2
    assert scrape.of("streamfaas_batch_size_sum", **PLACE) == 107
    direct = {"function": "orders", "trigger": ""}
    assert scrape.of("faas_errors_total", **direct, error_type="function") == 1


def test_what_is_no_fault_of_the_function_is_not_an_error_of_it():
    metrics = Metrics()
    for fault in (Fault.THROTTLED, Fault.ABORTED, Fault.OVERSIZE, Fault.CORRUPT):
        metrics(ended(failure(fault)))
    scrape = scraped(metrics.registry)
    assert scrape.of("streamfaas_not_run_total", **PLACE, reason="throttled") == 1
    assert scrape.of("faas_errors_total", **PLACE, error_type="function") == 0
    assert scrape.of("faas_invoke_duration_seconds_count", **PLACE) == 0


def test_the_manual_lists_every_metric_with_the_name_that_cloudwatch_has_for_it():
    """After a change: put what `table()` gives at the end of docs/metrics.md."""
    assert topics()["metrics"].endswith(table().rstrip())
    for name in ("Invocations", "Errors", "Duration", "Throttles", "IteratorAge", "OffsetLag", "ConcurrentExecutions", "DeadLetterErrors", "InitDuration", "MaxMemoryUsed"):  # fmt: skip
        assert name in table()


PROMETHEUS_HAS_ITS_OWN = {
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_open_fds",
    "process_max_fds",
}
"""Names of the process, as Prometheus' own clients have them."""


def translated(about):
    """The name that a Prometheus has for what it was sent by OTLP, by OpenTelemetry's rules."""
    name = about.otel_name.replace(".", "_")
    name += {"s": "_seconds", "By": "_bytes"}.get(about.otel_unit, "")
    return name + ("_total" if about.kind == "counter" else "")


def test_a_metric_has_the_same_name_in_prometheus_whichever_way_it_came():
    for about in (each.about for each in Metrics().registry):
        assert about.shown in {translated(about)} | PROMETHEUS_HAS_ITS_OWN, about.otel_name


def test_the_names_that_opentelemetry_has_are_given_once():
    names = [each.about.otel_name for each in Metrics().registry]
    assert len(names) == len(set(names))
    for name in ("faas.invoke_duration", "faas.init_duration", "faas.coldstarts", "faas.errors", "faas.invocations", "faas.timeouts", "faas.mem_usage", "messaging.client.consumed.messages", "streamfaas.source.lag"):  # fmt: skip
        assert name in names


def test_every_label_has_a_name_in_opentelemetry():
    assert LABELS.keys() == METRIC_ATTRIBUTES.keys()
    assert len(set(METRIC_ATTRIBUTES.values())) == len(METRIC_ATTRIBUTES)


def test_what_is_shown_is_what_the_table_lists():
    names = {line.split(" ")[1] for line in table().splitlines()[2:]}
    assert names == {each.about.shown for each in Metrics().registry}


def test_what_is_counted_is_there_as_0_before_the_first():
    scrape = scraped(Metrics(["orders/stream"]).registry)
    for condition in CONDITIONS:
        assert scrape.of("streamfaas_set_aside_total", **PLACE, condition=condition) == 0
    for reason in WORKER_REASONS:
        assert scrape.of("streamfaas_workers_ended_total", function="orders", reason=reason) == 0
    assert set(RELOADS) == set(get_args(State))
    for state in RELOADS:
        assert scrape.of("streamfaas_config_reloads_total", state=state) == 0
