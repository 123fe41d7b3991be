"""Another configuration for a daemon that runs: all of it, or nothing."""

import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from daemon_process import DaemonProcess, wait_gone, write_project

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
        assert daemon.text.count("simulated anew, without what waited: orders/other") == 1
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
        shown = daemon.status()["configuration"]
        assert (shown["differs"], shown["reason"], shown["last_reload"]) == (False, "", "invalid")
        assert "streamfaas.yaml:" in shown["last_reason"]
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
    "prepare workers",
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


def words(daemon):
    """What the handler was given, in the order in which it ran."""
    found = [line.split()[3] for line in daemon.text.splitlines() if "| ran " in line]
    return list(dict.fromkeys(found))


def test_a_function_is_changed_under_load_and_its_triggers_do_not_notice(project):
    with DaemonProcess(project) as daemon:
        daemon.wait_ready()
        daemon.wait_for(lambda s: s["triggers"]["orders/steady"]["records"] > 50)
        for word in ("first", "second", "third"):
            env = f"    env: {{WORD: {word}}}\n    isolation"
            project.write_text((HEAD + FUNCTION).replace("    isolation", env))
            told = reload(daemon)
            assert told["changes"]["workers_replaced"] == ["orders"]
            assert told["changes"]["triggers"] == []
            before = counted(daemon)
            daemon.wait_for(lambda s, b=before: s["triggers"]["orders/steady"]["records"] > b + 50)
        status = daemon.status()
        trigger = status["triggers"]["orders/steady"]
        assert (trigger["failures"], trigger["given_back"]) == (0, 0)
        assert status["functions"]["orders"]["errors"] == 0
        assert daemon.stop() == 0
        assert words(daemon) == ["-", "first", "second", "third"]
        positions = [int(line.split()[4]) for line in daemon.text.splitlines() if "| ran " in line]
        assert max(Counter(positions).values()) == 2  # once in each of the two partitions


SECOND = """  second:
    code: orders
    handler: app.main
    isolation: best-effort
"""


def test_a_function_comes_and_goes_and_what_was_accepted_for_it_is_kept(project):
    with DaemonProcess(project) as daemon:
        daemon.wait_ready()
        assert daemon.request("POST", "/invoke/second", b'{"records": {}}')[0] == 404
        both = (HEAD + FUNCTION).replace("functions:\n", "functions:\n" + SECOND)
        project.write_text(
            both.replace("orders\n    handler: app.main", "orders\n    handler: app.slow", 1)
        )
        (project.parent / "orders" / "app.py").write_text(
            HANDLER + "def slow(event, context):\n    raise ValueError('not now')\n"
        )
        assert reload(daemon)["changes"]["functions"][0]["name"] == "second"
        assert daemon.request("POST", "/invoke/second/event", b'{"records": {}}')[0] == 202
        daemon.wait_for(lambda s: s["triggers"]["second/asynchronous"]["failures"])
        project.write_text(HEAD + FUNCTION)
        command = [sys.executable, "-m", "streamfaas", "diff", str(project)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "1 events wait for second: they are kept until it is back" in done.stdout
        assert reload(daemon)["changes"]["unclaimed"] == {"second": 1}
        assert daemon.status()["unclaimed"] == {"second": 1}
        daemon.wait_for(lambda _: "1 events wait for second, which is not" in daemon.text)
        assert daemon.request("POST", "/invoke/second", b'{"records": {}}')[0] == 404
        assert set(daemon.status()["functions"]) == {"orders"}
        project.write_text(both)
        assert reload(daemon)["state"] == "reloaded"
        assert daemon.status()["unclaimed"] == {}
        # it waits for its time to be tried again, and is known
        assert daemon.wait_for(lambda s: s["triggers"].get("second/asynchronous"))
        assert daemon.stop() == 0


def test_code_that_changed_in_place_is_taken_by_a_reload(project):
    with DaemonProcess(project) as daemon:
        daemon.wait_ready()
        daemon.wait_for(lambda s: s["triggers"]["orders/steady"]["records"] > 20)
        (project.parent / "orders" / "app.py").write_text(HANDLER.replace('"-"', '"newer"'))
        told = reload(daemon)
        assert told["changes"]["code_changed"] == ["orders"]
        before = counted(daemon)
        daemon.wait_for(lambda s: s["triggers"]["orders/steady"]["records"] > before + 50)
        assert reload(daemon)["state"] == "unchanged"
        assert daemon.stop() == 0
        assert words(daemon) == ["-", "newer"]


WATCH = "reload: {watch: true, settle: 100ms}\n"


def test_what_is_saved_runs_where_it_is_watched(project):
    handler = project.parent / "orders" / "app.py"
    project.write_text(HEAD + WATCH + FUNCTION)
    with DaemonProcess(project) as daemon:
        daemon.wait_ready()
        daemon.wait_for(lambda s: s["triggers"]["orders/steady"]["records"] > 20)
        handler.write_text(HANDLER.replace('"-"', '"newer"'))
        daemon.wait_for(lambda _: "newer" in words(daemon))
        # what cannot be run is told, and the old code goes on
        handler.write_text("def main(event, context)\n")
        daemon.wait_told("is not Python: line 1: ")
        assert "its workers go on with the old code" in daemon.text
        before = counted(daemon)
        daemon.wait_for(lambda s: s["triggers"]["orders/steady"]["records"] > before + 20)
        assert daemon.status()["functions"]["orders"]["errors"] == 0
        # what is Python, and fails when it is imported, is not hidden
        handler.write_text("raise RuntimeError\n\n\ndef main(event, context): ...\n")
        daemon.wait_for(
            lambda s: s["triggers"]["orders/steady"]["state"] in {"retrying", "blocked"}
        )
        handler.write_text(HANDLER.replace('"-"', '"mended"'))
        daemon.wait_for(lambda _: "mended" in words(daemon))
        # the file itself, by a rename as editors do it
        new = project.with_suffix(".new")
        new.write_text(HEAD + WATCH + FUNCTION + OTHER % 5)
        new.rename(project)
        daemon.wait_for(lambda s: "orders/other" in s["triggers"])
        # and nothing is watched any more
        project.write_text(HEAD + FUNCTION)
        daemon.wait_for(lambda s: "orders/other" not in s["triggers"])
        project.write_text(HEAD + FUNCTION + OTHER % 5)
        reload(daemon)
        assert daemon.stop() == 0
        assert daemon.text.count("reloaded in") == 3


def test_a_stop_while_it_is_reloading_ends_cleanly_wherever_it_comes(tmp_path):
    """Twenty times, a little later each time; several daemons beside each other."""
    changed = (HEAD + FUNCTION).replace("    isolation", "    env: {WORD: b}\n    isolation")
    for group in range(5):
        with contextlib.ExitStack() as stack:
            daemons = []
            for number in range(4):
                folder = tmp_path / f"{group}-{number}"
                project = write_project(folder, HEAD + FUNCTION + OTHER % 5, orders=HANDLER)
                daemons.append(stack.enter_context(DaemonProcess(project)))
            for number, daemon in enumerate(daemons):
                daemon.wait_ready()
                daemon.config.write_text(changed + OTHER % 9 + (OTHER % 3).replace("other", "new"))
                daemon.signal(signal.SIGHUP)
                time.sleep((group * 4 + number) * 0.01)
                below = daemon.descendants()
                assert daemon.stop() == 0, daemon.text
                assert wait_gone(below) == []
                assert "Traceback" not in daemon.text
                assert "stopped" in daemon.text
                # what came in was finished with, or comes again: nothing is left between
                assert "ABORTED" not in daemon.text
