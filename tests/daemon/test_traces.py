"""Traces as a daemon has them to show."""

import json
import time

import pytest

from daemon_process import DaemonProcess, write_project

CONFIG = """
version: 1
state: {path: ./state}
shutdown: {grace: 5s}
telemetry: {traces: {sample: 0}}
functions:
  orders:
    code: orders
    handler: app.main
    isolation: best-effort
    triggers:
      stream:
        type: memory
        topic: orders
        partitions: 1
        records: 40
        rate: 1000
        batch: {size: 10}
        retries: {backoff: 10ms..50ms}
"""

FAILS_ONCE_AT_15 = """
import os
tried = []
def main(event, context):
    records = [record for each in event.get("records", {}).values() for record in each]
    if any(record["offset"] == 15 for record in records) and not tried:
        tried.append(1)
        raise KeyError("total")
    if "wait" in event:
        raise ValueError(os.environ.get("TRACEPARENT"))
"""

NONE = {"traces": [], "more": False}

pytestmark = pytest.mark.slow


def asked(daemon, path):
    status, _, body = daemon.request("GET", path)
    return status, json.loads(body)


def test_what_failed_is_listed_and_shown_although_nothing_is_sampled(tmp_path):
    config = write_project(tmp_path, CONFIG, orders=FAILS_ONCE_AT_15)
    with DaemonProcess(config) as daemon:
        daemon.wait_for(lambda status: status["triggers"]["orders/stream"]["records"] == 40)
        (row,) = ended(daemon, 1)
        assert row["mapping"] == "orders/stream"
        assert (row["kept"], row["error"]) == ("error", "KeyError")
        failures = row["attempts"] - 1  # one for each worker that had it
        assert failures >= 1
        status, found = asked(daemon, f"/traces/{row['trace_id']}")
        assert status == 200
        names = [span["name"] for span in found["spans"]]
        attempts = ["orders"] * (failures + 1)
        assert names == ["receive orders", "process orders", *attempts, "settle orders"]
        errors = [span["error"] for span in found["spans"]]
        assert errors == ["", "", *["KeyError"] * failures, "", ""]
        assert asked(daemon, f"/traces/{row['trace_id'][:8]}")[1] == found

        assert daemon.request("POST", "/invoke/orders", b'{"wait": 1}')[0] == 200
        (by_hand, _) = asked(daemon, "/traces?errors=true")[1]["traces"]
        assert (by_hand["mapping"], by_hand["spans"]) == ("orders", 1)
        assert asked(daemon, "/traces?limit=1")[1]["more"]
        assert asked(daemon, "/traces?mapping=orders/stream")[1]["traces"] == [row]
        assert asked(daemon, "/traces?slow=1000")[1] == {"traces": [], "more": False}
        assert asked(daemon, "/traces/00000000")[0] == 404
        assert asked(daemon, "/traces?slow=fast")[0] == 400
        assert daemon.request("POST", "/traces")[0] == 405
        assert daemon.stop() == 0


CHAIN = """
version: 1
state: {path: ./state}
shutdown: {grace: 5s}
telemetry: {traces: {sample: 1}}
functions:
  orders:
    code: orders
    handler: app.main
    isolation: best-effort
    triggers:
      stream:
        type: memory
        topic: orders
        partitions: 1
        records: 10
        rate: 1000
        batch: {size: 10, window: 1s}
        on_success: {type: function, function: receipts}
  receipts:
    code: receipts
    handler: app.main
    isolation: best-effort
"""

TELLS = """
import os
def main(event, context):
    print("TOLD", os.environ["TRACEPARENT"])
"""


def test_a_trace_goes_on_in_the_function_that_a_result_is_sent_to(tmp_path):
    config = write_project(tmp_path, CHAIN, orders=TELLS, receipts=TELLS)
    with DaemonProcess(config) as daemon:
        name = "receipts/asynchronous"
        daemon.wait_for(lambda s: s["triggers"].get(name, {}).get("records") == 1)
        ids = {row["trace_id"] for row in ended(daemon, 2)}
        (trace_id,) = ids
        spans = asked(daemon, f"/traces/{trace_id}")[1]["spans"]
        by_id = {span["span_id"]: span for span in spans}
        chain = [next(span for span in spans if span["name"] == "receipts")]
        while chain[-1]["parent_id"]:
            chain.append(by_id[chain[-1]["parent_id"]])
        assert [span["name"] for span in reversed(chain)] == [
            "receive orders", "process orders", "send function receipts",
            f"receive {name}", f"process {name}", "receipts",
        ]  # fmt: skip
        assert [span["kind"] for span in reversed(chain)] == [
            "client", "consumer", "producer", "client", "consumer", "server"]  # fmt: skip
        told = f"TOLD 00-{trace_id}-{chain[0]['span_id']}-01"
        assert daemon.stop() == 0
        assert told in daemon.text


def test_an_asynchronous_invocation_goes_on_with_its_callers_trace(tmp_path):
    config = write_project(tmp_path, CHAIN, orders=TELLS, receipts=TELLS)
    with DaemonProcess(config) as daemon:
        daemon.wait_ready()
        caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        headers = {"traceparent": caller}
        assert daemon.request("POST", "/invoke/receipts/event", b"{}", headers)[0] == 202
        assert daemon.request("POST", "/invoke/receipts", b"{}", headers)[0] == 200
        ended(daemon, 2, lambda row: row["trace_id"] == caller[3:35])
        spans = asked(daemon, f"/traces/{caller[3:35]}")[1]["spans"]
        roots = [span["name"] for span in spans if span["parent_id"] == caller[36:52]]
        assert sorted(roots) == ["receipts", "receive receipts/asynchronous"]
        assert daemon.stop() == 0


def ended(daemon, count, wanted=lambda row: True):
    """So many traces, once they have ended."""
    until = time.monotonic() + 20
    while True:
        rows = [row for row in asked(daemon, "/traces?limit=1000")[1]["traces"] if wanted(row)]
        if len(rows) >= count and not any(row["going"] for row in rows):
            return rows
        assert time.monotonic() < until, rows
        time.sleep(0.02)


def test_sampling_changes_while_the_daemon_runs(tmp_path):
    config = write_project(
        tmp_path, CHAIN.replace("sample: 1", "sample: 0"), orders=TELLS, receipts=TELLS
    )
    with DaemonProcess(config, env={"OTEL_SPAN_LINK_COUNT_LIMIT": "7"}) as daemon:
        daemon.wait_ready()
        assert daemon.request("POST", "/invoke/receipts", b"{}")[0] == 200
        assert asked(daemon, "/traces?mapping=receipts")[1]["traces"] == []
        config.write_text(CHAIN)
        assert daemon.request("POST", "/reload", b"{}")[0] == 200
        assert daemon.request("POST", "/invoke/receipts", b"{}")[0] == 200
        (row,) = asked(daemon, "/traces?mapping=receipts")[1]["traces"]
        assert (row["kept"], row["spans"]) == ("sampled", 1)
        assert daemon.stop() == 0
        assert "traces: up to 7 links, as OTEL_SPAN_LINK_COUNT_LIMIT says" in daemon.text


def test_what_there_is_no_trace_of_is_told_apart_from_what_there_is_not(tmp_path):
    config = write_project(tmp_path, CONFIG, orders=FAILS_ONCE_AT_15)
    with DaemonProcess(config) as daemon:
        daemon.wait_ready()
        assert asked(daemon, "/traces?mapping=orders/asynchronous") == (200, NONE)
        for what in ("nofn", "nofn/x", "orders/x"):
            status, found = asked(daemon, f"/traces?mapping={what}")
            assert status == 404
            assert f" {what}; " in found["error"]
        assert daemon.stop() == 0
