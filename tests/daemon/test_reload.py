"""Another configuration for a daemon that runs: all of it, or nothing."""

import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from daemon_process import DaemonProcess, write_project

HANDLER = """
import os
def main(event, context):
    offsets = [r["offset"] for rs in event["records"].values() for r in rs]
    print("ran", os.environ.get("WORD", "-"), offsets[0], len(offsets))
"""
HEAD = """
version: 1
state: {path: ./state}
shutdown: {grace: 5s}
"""
FUNCTION = """functions:
  orders:
    code: orders
    handler: app.main
    isolation: best-effort
    concurrency: {warm: 1, max: 4}
    triggers:
      steady: {type: memory, topic: steady, partitions: 2, rate: 200, batch: {size: 10}}
"""
OTHER = "      other: {type: memory, topic: other, rate: 50, batch: {size: %d}}\n"

pytestmark = pytest.mark.slow


@pytest.fixture
def project(tmp_path):
    return write_project(tmp_path, HEAD + FUNCTION, orders=HANDLER)


def reload(daemon, expected=200):
    status, _, body = daemon.request("POST", "/reload")
    told = json.loads(body)
    assert status == expected, (told, daemon.text)
    return told


def counted(daemon, trigger="orders/steady"):
    return daemon.status()["triggers"][trigger]["records"]


def test_a_trigger_is_added_changed_and_removed_and_the_other_goes_on(project):
    with DaemonProcess(project) as daemon:
        daemon.wait_ready()
        daemon.wait_for(lambda s: s["triggers"]["orders/steady"]["records"] > 50)
        project.write_text(HEAD + FUNCTION + OTHER % 5)
        told = reload(daemon)
        assert told["state"] == "reloaded"
        assert told["changes"]["restarted"] == []
        assert "orders/steady" in told["changes"]["untouched"]
        daemon.wait_for(lambda s: s["triggers"]["orders/other"]["records"] > 10)
        before = counted(daemon, "orders/other")
        project.write_text(HEAD + FUNCTION + OTHER % 7)
        assert reload(daemon)["changes"]["restarted"] == ["orders/other"]
        # no number falls, though the source is another
        assert counted(daemon, "orders/other") >= before
        project.write_text(HEAD + FUNCTION)
        reload(daemon)
        assert set(daemon.status()["triggers"]) == {"orders/steady"}
        assert reload(daemon)["state"] == "unchanged"
        assert daemon.stop() == 0
        lines = [line for line in daemon.text.splitlines() if "orders/steady" in line]
        assert sum("connecting" in line for line in lines) <= 1
        assert sum("running orders/steady" in line for line in lines) <= 1


def test_a_bad_file_leaves_what_runs_and_says_why(project):
    with DaemonProcess(project) as daemon:
        daemon.wait_ready()
        project.write_text((HEAD + FUNCTION).replace("rate: 200", "rate: fast"))
        told = reload(daemon, 422)
        assert told["state"] == "invalid"
        assert "rate" in told["report"]
        shown = daemon.status()["configuration"]
        assert shown["differs"]
        assert shown["last_reload"] == "invalid"
        assert "streamfaas.yaml:" in shown["reason"]
        before = counted(daemon)
        daemon.wait_for(lambda s: s["triggers"]["orders/steady"]["records"] > before)
        command = [sys.executable, "-m", "streamfaas", "reload", "-c", str(project)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 78
        assert "rate" in done.stderr
        project.write_text(HEAD + FUNCTION)
        assert reload(daemon)["state"] == "unchanged"
        assert not daemon.status()["configuration"]["differs"]
        assert daemon.stop() == 0
        assert "NOT RELOADED (invalid)" in daemon.text


def test_what_cannot_change_is_refused_before_anything_is_touched(project):
    with DaemonProcess(project) as daemon:
        daemon.wait_ready()
        changed = (HEAD + FUNCTION + OTHER % 5).replace("./state", "./elsewhere")
        project.write_text(changed)
        told = reload(daemon, 409)
        assert "needs a restart: state.path" in told["reason"]
        assert set(daemon.status()["triggers"]) == {"orders/steady"}
        assert not (project.parent / "elsewhere").exists()


def test_the_next_address_is_bound_before_the_last_is_let_go(project):
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        socket.create_server(("127.0.0.1", 0)) as other,
    ):
        port, free = taken.getsockname()[1], other.getsockname()[1]
        other.close()
        metrics = "telemetry: {metrics: {listen: '127.0.0.1:%d'}}\n"
        with DaemonProcess(project) as daemon:
            daemon.wait_ready()
            project.write_text(HEAD + metrics % free + FUNCTION)
            assert reload(daemon)["state"] == "reloaded"
            assert scraped(free) == 200
            project.write_text(HEAD + metrics % port + FUNCTION + OTHER % 5)
            told = reload(daemon, 500)
            assert told["state"] == "rolled back"
            assert f"127.0.0.1:{port}" in told["reason"]
            assert set(daemon.status()["triggers"]) == {"orders/steady"}
            assert scraped(free) == 200
            project.write_text(HEAD + FUNCTION)
            assert reload(daemon)["state"] == "reloaded"
            with pytest.raises(OSError):
                scraped(free)


def scraped(port):
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as asked:
        asked.request("GET", "/metrics")
        return asked.getresponse().status


FAULTY = Path(__file__).with_name("faulty_reload.py")
STEPS = (
    "read the file",
    "prepare triggers",
    "open destinations",
    "listen",
    "stop triggers",
    "change",
)


@pytest.mark.parametrize("step", STEPS)
def test_whichever_step_fails_the_old_configuration_goes_on(project, step):
    project.write_text(HEAD + FUNCTION + OTHER % 5)
    with DaemonProcess(project, env={"FAIL_AT": step}, program=(str(FAULTY),)) as daemon:
        daemon.wait_ready()
        daemon.wait_for(lambda s: s["triggers"]["orders/other"]["records"] > 5)
        project.write_text(HEAD + FUNCTION + OTHER % 9 + (OTHER % 3).replace("other", "third"))
        told = reload(daemon, 500)
        assert told["state"] == "rolled back"
        assert f"cannot {step}: as the test wants it" in told["reason"]
        status = daemon.status()
        assert set(status["triggers"]) == {"orders/steady", "orders/other"}
        before = status["triggers"]["orders/other"]["records"]
        daemon.wait_for(lambda s: s["triggers"]["orders/other"]["records"] > before)
        # the next time it does not fail
        assert reload(daemon)["state"] == "reloaded"
        assert set(daemon.status()["triggers"]) == {
            "orders/steady",
            "orders/other",
            "orders/third",
        }
        assert daemon.stop() == 0


def test_a_hangup_reloads_and_who_asks_meanwhile_shares_one_more(project):
    with DaemonProcess(project) as daemon:
        daemon.wait_ready()
        project.write_text(HEAD + FUNCTION + OTHER % 5)
        for _ in range(20):
            daemon.signal(signal.SIGHUP)
        daemon.wait_for(lambda s: "orders/other" in s["triggers"])
        assert reload(daemon)["state"] == "unchanged"
        assert daemon.stop() == 0
        told = Counter(line.split()[1] for line in daemon.text.splitlines() if "loaded in" in line or "unchanged in" in line)  # fmt: skip
        assert told["reloaded"] == 1
        assert 1 <= told["unchanged"] < 20
