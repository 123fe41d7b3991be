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

pytestmark = pytest.mark.slow


def asked(daemon, path):
    status, _, body = daemon.request("GET", path)
    return status, json.loads(body)


def test_what_failed_is_listed_and_shown_although_nothing_is_sampled(tmp_path):
    config = write_project(tmp_path, CONFIG, orders=FAILS_ONCE_AT_15)
    with DaemonProcess(config) as daemon:
        daemon.wait_for(lambda status: status["triggers"]["orders/stream"]["records"] == 40)
        until = time.monotonic() + 10
        while (rows := asked(daemon, "/traces")[1]["traces"]) and rows[0]["going"]:
            assert time.monotonic() < until
        (row,) = rows
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
