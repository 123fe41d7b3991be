"""The configuration, and before it the variables of OpenTelemetry."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamfaas.telemetry.otlp.settings import Asked, Bounds, hint, settings

HERE = "http://127.0.0.1:4318"
NAMES = [
    "OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER",
    "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_COMPRESSION", "OTEL_EXPORTER_OTLP_TIMEOUT",
    "OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", "OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
    "OTEL_BSP_SCHEDULE_DELAY", "OTEL_BSP_EXPORT_TIMEOUT", "OTEL_BLRP_MAX_QUEUE_SIZE",
    "OTEL_METRIC_EXPORT_INTERVAL", "OTEL_METRIC_EXPORT_TIMEOUT", "OTEL_SPAN_LINK_COUNT_LIMIT",
    "OTEL_RESOURCE_ATTRIBUTES", "OTEL_CONFIG_FILE", "OTEL_METRICS_EXEMPLAR_FILTER",
    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
]  # fmt: skip
WORDS = st.sampled_from(
    ["", "none", "otlp", "grpc", "http/protobuf", "true", "gzip", "0", "-1", "1", "2.5", "nan",
     "inf", "1e9", "512", "https://c:4318/x", "c:4317", "http://[::1", "a=b", "a=%0a", ",=,", "é=1", "delta"]
)  # fmt: skip


def endpoints(asked=None, **environ):
    return {name: each.endpoint for name, each in settings(asked, environ).targets.items()}


@given(st.dictionaries(st.sampled_from(NAMES), WORDS | st.text(max_size=9)), st.booleans())
@example({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://[::1"}, False)
@example({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:b"}, True)
def test_whatever_the_variables_say_what_follows_is_sound(environ, asks):
    found = settings(Asked(HERE) if asks else None, environ)
    assert found.bounds.keys() == found.targets.keys()
    for target in found.targets.values():
        assert 0 < target.timeout_seconds <= 300
        assert target.protocol in {"http/protobuf", "grpc"}
        assert target.endpoint
        assert hint(target) is not None
    for bounds in found.bounds.values():
        assert 0 < bounds.batch_max <= bounds.waiting_max
        assert bounds.delay_seconds >= 0
    assert found.interval_seconds > 0
    for line in found.warnings:
        assert line.isprintable()


@given(st.dictionaries(st.sampled_from(NAMES), st.text(max_size=9)))
def test_no_warning_tells_a_value(environ):
    hidden = {name: f"hunter{text}2" for name, text in environ.items()}
    assert "hunter" not in "\n".join(settings(Asked(HERE), hidden).warnings)


def test_nothing_is_sent_where_nothing_says_so():
    assert settings(None, {}).targets == {}
    assert settings(Asked(), {}).targets == {}
    assert settings(None, {"OTEL_SERVICE_NAME": "x", "OTEL_BSP_MAX_QUEUE_SIZE": "1"}).targets == {}


def test_the_address_of_all_gets_a_path_for_each_and_one_of_its_own_is_taken_as_it_is():
    assert endpoints(Asked(f"{HERE}/")) == {
        name: f"{HERE}/v1/{name}" for name in ("traces", "metrics", "logs")
    }
    assert endpoints(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="https://t/in") == {
        "traces": "https://t/in"
    }
    found = endpoints(
        OTEL_EXPORTER_OTLP_ENDPOINT="https://a/p", OTEL_EXPORTER_OTLP_LOGS_ENDPOINT="https://l"
    )
    assert found == {
        "traces": "https://a/p/v1/traces",
        "metrics": "https://a/p/v1/metrics",
        "logs": "https://l",
    }


def test_by_grpc_the_address_has_no_path():
    found = settings(None, {"OTEL_EXPORTER_OTLP_ENDPOINT": "c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})  # fmt: skip
    assert {each.endpoint for each in found.targets.values()} == {"c:4317"}
    assert not any(each.insecure for each in found.targets.values())
    assert settings(Asked("http://c:4317", "grpc"), {}).targets["logs"].insecure
    assert not settings(Asked("https://c:4317", "grpc"), {}).targets["logs"].insecure


def test_a_variable_goes_before_the_configuration():
    asked = Asked("http://file", headers={"a": "file"}, compression="none", timeout_seconds=7.0, interval_seconds=9.0)  # fmt: skip
    assert settings(asked, {}).targets["traces"].headers == {"a": "file"}
    assert settings(asked, {}).interval_seconds == 9.0
    found = settings(
        asked,
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://variable",
            "OTEL_EXPORTER_OTLP_HEADERS": "B=x%20y, c = z ",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "3",
            "OTEL_EXPORTER_OTLP_LOGS_TIMEOUT": "2",
            "OTEL_METRIC_EXPORT_INTERVAL": "1500",
        },
    )
    traces = found.targets["traces"]
    assert traces.endpoint == "http://variable/v1/traces"
    assert traces.headers == {"b": "x y", "c": "z"}
    assert (traces.compression, traces.timeout_seconds) == ("gzip", 3.0)
    assert found.targets["logs"].timeout_seconds == 2.0
    assert found.interval_seconds == 1.5
    assert found.warnings == ()


def test_a_signal_is_left_out_by_the_configuration_or_by_its_variable():
    assert endpoints(Asked(HERE, signals=("logs",))).keys() == {"logs"}
    assert endpoints(Asked(HERE), OTEL_METRICS_EXPORTER="none").keys() == {"traces", "logs"}
    assert endpoints(Asked(HERE), OTEL_SDK_DISABLED="true") == {}
    assert endpoints(OTEL_TRACES_EXPORTER="otlp") == {"traces": "http://localhost:4318/v1/traces"}
    found = settings(Asked(HERE), {"OTEL_METRICS_EXPORTER": "prometheus"})
    assert found.targets.keys() == {"traces", "logs"}
    assert found.warnings == (
        "OTEL_METRICS_EXPORTER: there is otlp and none here, and so it is none",
    )


def test_queues_have_the_variables_and_the_sizes_of_opentelemetry():
    found = settings(Asked(HERE), {}).bounds
    assert found["traces"] == Bounds(2048, 512, 5.0)
    assert found["logs"] == Bounds(2048, 512, 1.0)
    found = settings(
        Asked(HERE),
        {
            "OTEL_BSP_MAX_QUEUE_SIZE": "100",
            "OTEL_BSP_SCHEDULE_DELAY": "250",
            "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE": "64",
            "OTEL_BSP_EXPORT_TIMEOUT": "1500",
        },
    )
    assert found.bounds["traces"] == Bounds(100, 100, 0.25)
    assert found.bounds["logs"].batch_max == 64
    assert found.targets["traces"].timeout_seconds == 1.5


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10000", "OTEL_EXPORTER_OTLP_TIMEOUT is no number over 0 and up to 300 s: 10 s it is"),
        ("OTEL_BSP_SCHEDULE_DELAY", "soon", "OTEL_BSP_SCHEDULE_DELAY is no number over 0 and up to 600000 ms: 5000 ms it is"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "2.5", "OTEL_BSP_MAX_QUEUE_SIZE is no number over 0 and up to 1e+06: 2048 it is"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "OTEL_EXPORTER_OTLP_PROTOCOL is none of http/protobuf, grpc: http/protobuf it is"),
        ("OTEL_SDK_DISABLED", "yes", "OTEL_SDK_DISABLED is neither true nor false: false it is"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "===", "one of the OTEL_EXPORTER_OTLP_…HEADERS is no name=value, and is left out"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a b=hunter2", "one of the OTEL_EXPORTER_OTLP_…HEADERS is no name=value, and is left out"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=%20hunter2", "one of the OTEL_EXPORTER_OTLP_…HEADERS is no name=value, and is left out"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "Authorization", "one of the OTEL_EXPORTER_OTLP_…HEADERS is no name=value, and is left out"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "c:4318", "an OTEL_EXPORTER_OTLP_…ENDPOINT is no address, and is not looked at"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=b,c", "one of the OTEL_RESOURCE_ATTRIBUTES is no name=value, and is left out"),
        ("OTEL_METRICS_EXEMPLAR_FILTER", "some", "OTEL_METRICS_EXEMPLAR_FILTER is none of always_on, always_off, trace_based: trace_based it is"),
        ("OTEL_CONFIG_FILE", "otel.yaml", "OTEL_CONFIG_FILE is not read here: what is sent follows from the telemetry block"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta", "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE: there is only cumulative here"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_one_line(name, value, says):
    found = settings(Asked(HERE), {name: value})
    assert found.warnings == (says,)
    assert found.targets.keys() == {"traces", "metrics", "logs"}


def test_a_port_of_the_other_protocol_is_hinted_at():
    target = settings(Asked("http://c:4317"), {}).targets["logs"]
    assert hint(target) == "port 4317 is usually for grpc; http/protobuf has 4318"
    assert hint(settings(Asked(HERE), {}).targets["logs"]) == ""


def test_an_address_is_shown_without_what_may_be_a_secret_in_it():
    for address in ("http://me:hunter2@c:4318/in?key=hunter2", "me:hunter2@c:4317"):
        told = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": address, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"}  # fmt: skip
        shown = settings(None, told).targets["traces"].shown
        assert "hunter2" not in shown
        assert "c:431" in shown


def test_secrets_are_in_no_representation():
    found = settings(Asked(HERE, headers={"authorization": "hunter2"}), {})
    assert "hunter2" not in repr(found)
    assert "hunter2" not in repr(Asked(HERE, headers={"authorization": "hunter2"}))
