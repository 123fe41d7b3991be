"""What a collector is sent by a daemon, as the collector has it."""

import contextlib
import subprocess
import sys

import pytest

from daemon_process import DaemonProcess, write_project
from otlp_sink import Sink, attributes, points

pytestmark = pytest.mark.slow

CONFIG = """version: 1
telemetry: {otlp: {interval: 1s}}
functions:
  f:
    code: f
    handler: app.main
    isolation: best-effort
    concurrency: {max: 2}
    triggers:
      t: {type: memory, topic: a, partitions: 2, records: 3000, rate: 2000, retries: {max: 0, bisect: false}, on_failure: {type: file, path: dead.jsonl}}
"""

HANDLER = """
import base64
def main(event, context):
    values = [base64.b64decode(r["value"]) for rs in event["records"].values() for r in rs]
    print("[WARN] " + str(len(values)))
    if any(b'"id":7,' in value for value in values):
        raise ValueError("seven")
"""


def balance(export):
    """What came, and what has become of it: they are the same, exactly."""
    (received,) = points(export["messaging.client.consumed.messages"]).values()
    (in_flight,) = points(export["streamfaas.records_in_flight"]).values()
    outcomes = points(export["streamfaas.records"]).values()
    assert received == sum(outcomes) + in_flight
    return received


def test_metrics_and_lines_come_to_the_collector_and_the_counts_of_each_export_belong_together(
    tmp_path,
):
    config = write_project(tmp_path, CONFIG, f=HANDLER)
    with Sink() as sink:
        told = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint,
            "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Basic%20hunter2",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
            "OTEL_SERVICE_NAME": "orders",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
        }
        with DaemonProcess(config, env=told) as daemon:
            daemon.wait_for(lambda s: s["triggers"]["f/t"]["received"] == 3000)
            sink.wait_for(lambda sink: len(sink.exports()) > 1)
            view = daemon.status()["export"]
            assert daemon.stop() == 0
            assert "hunter2" not in daemon.text
        exports = sink.exports()
        assert balance(exports[-1]) == 3000
        received = [balance(export) for export in exports]
        assert received == sorted(received)
        starts = {
            point.start_time_unix_nano
            for export in exports
            for point in export["streamfaas.records"].sum.data_points
        }
        assert len(starts) == 1
        assert view["metrics"]["dropped"] == 0
        assert view["metrics"]["endpoint"] == f"{sink.endpoint}/v1/metrics"
        assert {each["authorization"] for each in sink.headers} == {"Basic hunter2"}
        assert {each["Content-Encoding"] for each in sink.headers} == {"gzip"}

        (whole,) = sink.of("metrics")[-1].resource_metrics
        found = attributes(whole.resource.attributes)
        assert found["service.name"] == "orders"
        assert found["deployment.environment.name"] == "test"
        assert found["telemetry.sdk.name"] == "opentelemetry"
        assert found["streamfaas.isolation.level"] in {"full", "reduced", "none"}
        assert {"service.version", "service.instance.id", "host.name", "process.pid"} <= set(found)

        records = sink.records()
        lines = [each for each in records if each.body.string_value.startswith("[WARN] ")]
        named = attributes(lines[0].attributes)
        assert named.keys() == {"faas.name", "faas.invocation_id", "faas.instance"}
        assert lines[0].severity_text == "WARN"
        ends = [each for each in records if each.event_name]
        assert {each.event_name for each in ends} >= {
            "streamfaas.DaemonStepped",
            "streamfaas.InvocationEnded",
            "streamfaas.BatchSetAside",
        }
        assert any("ValueError: seven" in each.body.string_value for each in ends)
        # nothing of what they carried is told
        assert not any(b"customer" in each.SerializeToString() for each in records)


def test_a_daemon_that_sends_nothing_has_none_of_it_in_memory():
    code = (
        "import sys, streamfaas.daemon.main; sys.exit(any(name.startswith("
        "('opentelemetry', 'requests', 'google.protobuf', 'grpc')) for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_variables_that_make_no_sense_are_told_in_a_line_and_export_goes_on(tmp_path):
    config = write_project(tmp_path, CONFIG, f="def main(e, c): return None\n")
    with Sink() as sink:
        told = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint, "OTEL_BSP_MAX_QUEUE_SIZE": "many"}
        with DaemonProcess(config, env=told) as daemon:
            daemon.wait_ready()
            assert daemon.stop() == 0
            assert daemon.text.count("OTEL_BSP_MAX_QUEUE_SIZE is no number over 0") == 1
            assert "\nTraceback" not in daemon.text
        assert sink.exports()


def test_a_collector_that_takes_nothing_is_told_of_once_and_holds_nothing_up(tmp_path):
    config = write_project(tmp_path, CONFIG, f=HANDLER)
    with Sink() as sink:
        sink.conduct = ("status", 401, {})
        told = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint,
            "OTEL_BLRP_SCHEDULE_DELAY": "50",
            "OTEL_BLRP_MAX_QUEUE_SIZE": "50",
        }
        with DaemonProcess(config, env=told) as daemon:
            daemon.wait_for(lambda s: s["triggers"]["f/t"]["received"] == 3000)
            view = daemon.wait_for(
                lambda s: s["export"] if s["export"]["metrics"]["dropped"] > 1 else None
            )
            assert view["logs"]["dropped"] > 50
            assert view["logs"]["sent"] == view["metrics"]["sent"] == 0
            assert view["logs"]["waiting"] <= 50
            assert view["metrics"]["failing"] == "401 Unauthorized"
            sink.conduct = None
            daemon.wait_for(lambda s: not s["export"]["metrics"]["failing"])
            assert daemon.stop() == 0
            text = daemon.text
        assert text.count("cannot send metrics") == text.count("sending again metrics") == 1
        assert text.count("cannot send logs") == 1
        assert "401 Unauthorized" in text
        assert "Failed to export" not in text
        assert "\nTraceback" not in text
        dropped = points(sink.exports()[-1]["streamfaas.export.dropped"])
        assert dropped[frozenset({("streamfaas.signal", "metrics")})] > 1


@pytest.mark.parametrize("conduct", [None, ("hang", 60.0)], ids=["not there", "never answers"])
def test_a_collector_without_an_answer_holds_up_neither_the_start_nor_the_end(tmp_path, conduct):
    config = write_project(tmp_path, CONFIG, f=HANDLER)
    with Sink() as sink, contextlib.ExitStack() as there:
        sink.conduct = conduct
        if conduct is None:  # its port is free again
            with Sink() as gone:
                endpoint = gone.endpoint
        else:
            endpoint = sink.endpoint
        told = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
        daemon = there.enter_context(DaemonProcess(config, env=told))
        daemon.wait_for(lambda s: s["triggers"]["f/t"]["received"] == 3000)
        assert daemon.stop() == 0
        assert "\nTraceback" not in daemon.text
        assert "cannot send logs" in daemon.text
