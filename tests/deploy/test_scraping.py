"""A real Prometheus scrapes a real daemon under load: rules and dashboards say something."""

import time
import urllib.request

import pytest

from daemon_process import DaemonProcess, write_project
from expressions import ALERTS, DEPLOY, EXPRESSIONS, GROUPS
from prometheus_server import Prometheus
from server_process import free_port

pytestmark = pytest.mark.slow

FAILS = """
import os, time

def main(event, context):
    for records in event["records"].values():
        if any(record["offset"] == 5 for record in records):
            os._exit(3)
        if any(record["offset"] % 400 == 13 for record in records):
            raise ValueError("a bad record")
        time.sleep(0.02)
"""
STUCK = """
def main(event, context):
    raise ValueError("it never works")
"""
CONFIG = """
version: 1
state: {path: ./state}
shutdown: {grace: 1s}
telemetry: {metrics: {listen: "127.0.0.1:PORT", per_partition: true}}
functions:
  orders:
    code: orders
    handler: app.main
    isolation: best-effort
    triggers:
      stream:
        type: memory
        topic: orders
        partitions: 2
        rate: 2000
        batch: {size: 100, window: 50ms}
        retries: {max: 1, backoff: 100ms..1s}
        on_failure: {type: file, path: dead.jsonl}
  stuck:
    code: stuck
    handler: app.main
    isolation: best-effort
    triggers:
      stream: {type: memory, topic: stuck, rate: 10, retries: {backoff: 100ms..200ms}}
"""
SILENT = {
    "overview: annotations": "nothing has fired for long enough",
}
"""What may have nothing to say in a short run, and why."""

SCRAPES = 8


@pytest.fixture(scope="module")
def scraped(tmp_path_factory):
    """Both run, and some scrapes are done."""

    folder = tmp_path_factory.mktemp("scraped")
    port = free_port()
    config = write_project(folder, CONFIG.replace("PORT", str(port)), orders=FAILS, stuck=STUCK)
    (folder / "data").mkdir()
    asked = (DEPLOY / "prometheus" / "prometheus.yml").read_text()
    asked = asked.replace("127.0.0.1:9464", f"127.0.0.1:{port}").replace("15s", "1s")
    asked = asked.replace("rules.yml", str(DEPLOY / "prometheus" / "rules.yml"))
    with DaemonProcess(config, "--quiet") as daemon:
        daemon.wait_ready()
        daemon.request("POST", "/invoke/orders/event", b"{}")  # which fails, and waits for a minute
        daemon.wait_for(lambda status: status["triggers"]["stuck/stream"]["state"] == "blocked")
        with Prometheus(folder, asked) as prometheus:
            prometheus.port_of_daemon, prometheus.daemon = port, daemon
            taken = "count_over_time(up{job='streamfaas'}[1m])"
            prometheus.wait_for(
                lambda: (seen := prometheus.query(taken)) and float(seen[0]["value"][1]) >= SCRAPES
            )
            yield prometheus


def test_all_targets_are_up_and_exemplars_are_kept(scraped):
    (target,) = scraped.ask("targets")["activeTargets"]
    assert (target["health"], target["lastError"]) == ("up", "")
    assert scraped.ask("status/flags")["enable-feature"] == "exemplar-storage"


def test_every_rule_is_evaluated(scraped):
    told = scraped.ask("rules")["groups"]
    rules = [rule for group in told for rule in group["rules"]]
    assert len(rules) == sum(len(group["rules"]) for group in GROUPS)
    assert {rule["name"] for rule in rules if rule["health"] != "ok"} == set()
    assert {rule["name"] for rule in rules} >= set(ALERTS)


@pytest.mark.parametrize(
    "name", [each for each in EXPRESSIONS if not each.startswith("rules: Str")]
)
def test_every_expression_has_something_to_say(scraped, name):
    expression = EXPRESSIONS[name].replace("$__rate_interval", "10s").replace("[5m]", "[10s]")
    expression = expression.replace("$job", "streamfaas").replace("$function", "orders")
    result = scraped.query(expression.replace("$trigger", "stream"))
    assert result or name in SILENT


def test_what_came_is_what_became_of_it_in_every_scrape(scraped):
    balance = EXPRESSIONS["rules: trigger:streamfaas_balance:records"]
    now = time.time()
    told = scraped.ask("query_range", query=balance, start=now - 6, end=now, step=1)["result"]
    assert {series["metric"]["trigger"] for series in told} == {"stream", "asynchronous"}
    assert {value for series in told for _, value in series["values"]} == {"0"}


def test_a_lane_that_is_blocked_is_seen_by_its_alert(scraped):
    (alert,) = (
        alert for group in scraped.ask("rules")["groups"] for alert in group["rules"]
        if alert["name"] == "StreamfaasLaneBlocked"
    )  # fmt: skip
    assert alert["state"] in {"pending", "firing"}
    (active,) = alert["alerts"]
    assert (active["labels"]["function"], active["labels"]["trigger"]) == ("stuck", "stream")
    assert "streamfaas skip stuck/stream" in active["annotations"]["command"]


def test_what_is_scraped_is_what_the_daemon_answers(scraped):
    with urllib.request.urlopen(f"http://127.0.0.1:{scraped.port_of_daemon}/metrics", timeout=5) as answer:  # fmt: skip
        names = {line.partition(b"{")[0].partition(b" ")[0] for line in answer if line[:1] != b"#"}
    known = set(scraped.ask("label/__name__/values"))
    assert {name.decode() for name in names} <= known


def test_an_exemplar_leads_from_a_bucket_to_a_trace_that_the_daemon_has(scraped):
    now = time.time()
    buckets = "faas_invoke_duration_seconds_bucket"
    told = scraped.ask("query_exemplars", query=buckets, start=now - 60, end=now)
    ids = [each["labels"]["trace_id"] for series in told for each in series["exemplars"]]
    assert ids
    # the last ones of all are still in its memory
    answers = [scraped.daemon.request("GET", f"/traces/{each}") for each in ids]
    assert any(
        status == 200 and each in body.decode()
        for each, (status, _, body) in zip(ids, answers, strict=True)
    )
