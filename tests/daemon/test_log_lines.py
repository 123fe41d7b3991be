"""What functions of a running daemon write: in files, and as it is asked for, over a restart."""

import json
import socket

import pytest

from daemon_process import DaemonProcess, write_project

CONFIG = """
version: 1
state: {path: ./state}
telemetry: {logs: {directory: logs, recent: 1KB}}
functions:
  orders:
    code: orders
    handler: app.main
    isolation: best-effort
    logging: {format: json}
    triggers:
      stream: {type: memory, topic: orders, partitions: 1, records: 20, rate: 1000, batch: {size: 1}}
"""
HANDLER = """
import logging

log = logging.getLogger("shop")

def main(event, context):
    (record,) = next(iter(event["records"].values()))
    log.info("paid", extra={"number": record["offset"]})
"""

pytestmark = pytest.mark.slow


def numbers(daemon, query=""):
    rows = json.loads(daemon.request("GET", f"/logs?platform=0&limit=100{query}")[2])["lines"]
    return [json.loads(row["line"])["number"] for row in rows]


def test_lines_are_in_a_file_and_are_shown_after_a_restart_too(tmp_path):
    config = write_project(tmp_path, CONFIG, orders=HANDLER)
    with DaemonProcess(config, "--quiet") as daemon:
        daemon.wait_for(lambda status: status["triggers"]["orders/stream"]["records"] == 20)
        daemon.wait_for(lambda _: len(numbers(daemon)) == 20)
        assert daemon.stop() == 0
        assert "paid" not in daemon.text  # it was told to be quiet
    lines = [
        json.loads(line) for line in (tmp_path / "logs" / "orders.log").read_text().splitlines()
    ]
    assert [line["number"] for line in lines if "message" in line] == list(range(20))
    types = [line["type"] for line in lines if "type" in line]
    assert types == ["platform.start", "platform.report"] * 20
    config.write_text(CONFIG.replace("records: 20", "records: 0"))
    with DaemonProcess(config) as daemon:
        daemon.wait_ready()
        assert numbers(daemon) == list(range(20))
        assert numbers(daemon, "&function=orders&limit=3")[-3:] == [17, 18, 19]


def test_who_follows_is_told_that_the_daemon_has_ended(tmp_path):
    config = write_project(tmp_path, CONFIG.replace("records: 20", "records: 0"), orders=HANDLER)
    with DaemonProcess(config) as daemon:
        daemon.wait_ready()
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(str(daemon.state / "streamfaas.sock"))
            client.sendall(b"GET /logs?follow=1 HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(65_536).startswith(b"HTTP/1.1 200")
            daemon.signal()
            told = b""
            while data := client.recv(65_536):
                told += data
        assert b'{"ended":"the daemon has ended"}' in told
        assert daemon.wait() == 0
