import json
import os
import signal
import stat

import pytest

from daemon_process import DaemonProcess, wait_gone, write_project

ECHO = """
def main(event, context):
    print("seen", len(event.get("records", event)))
    return {"event": event, "id": context.aws_request_id}
"""

STREAM = """
version: 1
state: {path: ./state}
shutdown: {grace: 5s}
functions:
  orders:
    code: orders
    handler: app.main
    isolation: best-effort
    concurrency: {warm: 1, max: 2}
    triggers:
      stream: {type: memory, topic: orders, partitions: 2, records: %d, rate: %d, batch: {size: 10}%s}
"""

pytestmark = pytest.mark.slow


def done(count):
    def enough(status):
        trigger = status["triggers"]["orders/stream"]
        return trigger["records"] + trigger["set_aside"] >= count and status

    return enough


def test_the_main_job_runs_is_shown_and_drains(tmp_path):
    config = write_project(tmp_path, STREAM % (200, 2000, ""), orders=ECHO)
    with DaemonProcess(config) as daemon:
        status = daemon.wait_for(done(200))
        trigger = status["triggers"]["orders/stream"]
        assert trigger["state"] == "running"
        assert {lane["name"] for lane in trigger["lanes"]} == {"orders-0", "orders-1"}
        assert sum(lane["position"] + 1 for lane in trigger["lanes"]) == 200
        assert status["functions"]["orders"]["isolation"] in {"full", "reduced", "none"}
        assert status["functions"]["orders"]["invocations"] >= 20
        socket_mode = (daemon.state / "streamfaas.sock").stat().st_mode
        assert stat.S_IMODE(socket_mode) == 0o600
        assert daemon.stop() == 0
        assert "REPORT RequestId:" in daemon.text
        assert "orders/stream" in daemon.text.splitlines()[-1]
        assert not (daemon.state / "streamfaas.sock").exists()


def test_invoke_goes_through_the_same_workers(tmp_path):
    config = write_project(tmp_path, STREAM % (0, 1, ""), orders=ECHO)
    with DaemonProcess(config) as daemon:
        daemon.wait_ready()
        status, headers, body = daemon.request("POST", "/invoke/orders", b'{"a": 1}')
        assert status == 200
        assert json.loads(body)["event"] == {"a": 1}
        assert json.loads(body)["id"] == headers["x-amzn-requestid"]
        assert daemon.request("POST", "/invoke/nobody", b"{}")[0] == 404
        assert daemon.request("POST", "/invoke/orders", b"{")[0] == 400
        assert daemon.request("GET", "/nowhere")[0] == 404
        assert daemon.request("GET", "/invoke/orders")[0] == 405


def test_a_failing_lane_blocks_in_sight_and_heals_when_the_function_does(tmp_path):
    flag = tmp_path / "shared" / "healed"
    flag.parent.mkdir()
    flag.parent.chmod(0o755)
    source = """
import os
def main(event, context):
    records = [r for rs in event["records"].values() for r in rs]
    if records[0]["partition"] == 0 and not os.path.exists("/mnt/shared/healed"):
        raise KeyError("total")
"""
    extra = """
      shared: {type: object-store, via: directory, path: ./shared, bucket: shared, prefix: none/}
"""
    options = ", retries: {backoff: 20ms..100ms}"
    config = write_project(tmp_path, STREAM % (100, 2000, options) + extra, orders=source)
    with DaemonProcess(config) as daemon:

        def states(status):
            lanes = status["triggers"]["orders/stream"]["lanes"]
            return {lane["name"]: lane for lane in lanes}

        blocked = daemon.wait_for(
            lambda s: states(s).get("orders-0", {}).get("state") == "blocked" and states(s)
        )
        assert "KeyError" in blocked["orders-0"]["reason"]
        # the other lane goes on to its end meanwhile
        daemon.wait_for(lambda s: states(s)["orders-1"]["position"] == 49)
        daemon.wait_told("BLOCKED orders/stream orders-0 @0")
        flag.touch()
        daemon.wait_for(done(100))
        daemon.wait_told("healed orders/stream orders-0")
        assert daemon.stop() == 0


def test_a_batch_that_is_given_up_is_in_the_file_before_the_checkpoint_moves(tmp_path):
    source = "def main(event, context):\n    raise ValueError('never')\n"
    retries = "{max: 2, backoff: 10ms..20ms, bisect: false}"
    options = f", retries: {retries}, on_failure: {{type: file, path: dead.jsonl}}"
    config = write_project(tmp_path, STREAM % (20, 2000, options), orders=source)
    with DaemonProcess(config) as daemon:
        daemon.wait_for(done(20))
        assert daemon.stop() == 0
    documents = [json.loads(line) for line in (tmp_path / "dead.jsonl").read_text().splitlines()]
    values = [
        record["offset"]
        for document in documents
        for records in document["payload"]["records"].values()
        for record in records
    ]
    assert sorted(values) == sorted([*range(10), *range(10)])
    assert {d["requestContext"]["approximateInvokeCount"] for d in documents} == {3}
    assert {d["responsePayload"]["errorType"] for d in documents} == {"ValueError"}
    assert all("KafkaBatchInfo" in document for document in documents)


def test_sigterm_waits_for_what_is_in_hand_and_a_second_one_does_not(tmp_path):
    source = "import time\ndef main(event, context):\n    time.sleep(2)\n"
    config = write_project(tmp_path, STREAM % (20, 2000, ""), orders=source)
    with DaemonProcess(config) as daemon:
        daemon.wait_for(lambda s: s["functions"]["orders"]["workers"]["busy"])
        assert daemon.stop() == 0
        assert "ABORTED" not in daemon.text
    with DaemonProcess(config) as daemon:
        daemon.wait_for(lambda s: s["functions"]["orders"]["workers"]["busy"])
        below = daemon.descendants()
        assert below
        daemon.signal()
        daemon.wait_for(lambda s: s["state"] == "draining")
        daemon.signal()
        assert daemon.wait() == 128 + signal.SIGTERM
        assert wait_gone(below) == []


def test_a_daemon_that_is_killed_leaves_no_process_behind(tmp_path):
    source = "import time\ndef main(event, context):\n    time.sleep(60)\n"
    config = write_project(tmp_path, STREAM % (20, 2000, ""), orders=source)
    with DaemonProcess(config) as daemon:
        daemon.wait_for(lambda s: s["functions"]["orders"]["workers"]["busy"])
        below = daemon.descendants()
        assert len(below) >= 2
        daemon.signal(signal.SIGKILL)
        daemon.wait(5)
        assert wait_gone(below) == []


def test_a_second_daemon_on_the_same_state_is_refused(tmp_path):
    config = write_project(tmp_path, STREAM % (0, 1, ""), orders=ECHO)
    with DaemonProcess(config) as first:
        first.wait_ready()
        with DaemonProcess(config) as second:
            assert second.wait(20) == 78
            assert "another daemon" in second.text
        assert first.stop() == 0


def test_a_broker_that_is_down_is_one_line_and_a_degraded_daemon(tmp_path):
    text = """
version: 1
state: {path: ./state}
connections:
  main: {type: kafka, brokers: ["127.0.0.1:1"]}
functions:
  orders:
    code: orders
    handler: app.main
    isolation: best-effort
    triggers:
      stream: {type: kafka, connection: main, topics: [orders], start: earliest}
"""
    config = write_project(tmp_path, text, orders=ECHO)
    with DaemonProcess(config) as daemon:
        status = daemon.wait_for(lambda s: s["state"] == "degraded" and s)
        assert "127.0.0.1:1" in status["triggers"]["orders/stream"]["reason"]
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.text
        told = [line for line in daemon.text.splitlines() if "cannot reach" in line]
        assert len(told) <= 6


def test_a_bad_config_exits_78_with_file_line_and_column(tmp_path):
    config = write_project(
        tmp_path, STREAM.replace("size: 10", "size: 0") % (1, 1, ""), orders=ECHO
    )
    with DaemonProcess(config) as daemon:
        assert daemon.wait(20) == 78
        assert "streamfaas.yaml:12:" in daemon.text
        assert "Traceback" not in daemon.text


def test_under_systemd_it_says_when_it_is_ready_and_when_it_stops(tmp_path):
    import socket

    config = write_project(tmp_path, STREAM % (0, 1, ""), orders=ECHO)
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        with DaemonProcess(config, env={"NOTIFY_SOCKET": str(tmp_path / "notify")}) as daemon:
            assert manager.recv(4096).startswith(b"READY=1\nSTATUS=1 functions, 1 triggers, lag 0")
            daemon.signal(signal.SIGHUP)
            assert manager.recv(4096).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
            assert manager.recv(4096).startswith(b"READY=1\nSTATUS=1 functions, 1 triggers")
            daemon.signal()
            assert manager.recv(4096).startswith(b"STOPPING=1\n")
            assert daemon.wait() == 0


def test_a_reader_of_the_log_who_sleeps_does_not_stop_the_work(tmp_path):
    import subprocess
    import sys

    source = "def main(event, context):\n    print('x' * 2000)\n"
    config = write_project(tmp_path, STREAM % (20_000, 1_000_000, ""), orders=source)
    process = subprocess.Popen(
        [sys.executable, "-m", "streamfaas", "run", str(config)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,  # and nobody reads it
        stderr=subprocess.DEVNULL,
        cwd=tmp_path,
        env=dict(os.environ),
    )
    try:
        watcher = DaemonProcess.__new__(DaemonProcess)
        watcher.config, watcher.state, watcher.process = config, tmp_path / "state", process
        watcher.output = tmp_path / "none"
        watcher.output.touch()
        watcher.wait_for(done(20_000), seconds=60)
    finally:
        process.kill()
        process.stdout.close()
        process.wait(10)


def test_a_state_directory_that_cannot_be_made_is_told_in_one_line(tmp_path):
    text = (STREAM % (0, 1, "")).replace("./state", "/proc/st")
    with DaemonProcess(write_project(tmp_path, text, orders=ECHO)) as daemon:
        assert daemon.wait() == 78
        assert "refused the state directory /proc/st cannot be made: " in daemon.text
        assert "Traceback" not in daemon.text


def test_with_json_every_line_is_json_and_the_last_one_sums_up(tmp_path):
    config = write_project(tmp_path, STREAM % (40, 2000, ""), orders=ECHO)
    with DaemonProcess(config, "--json") as daemon:
        daemon.wait_for(done(40))
        assert daemon.stop() == 0
        *_, last = [json.loads(line) for line in daemon.text.splitlines()]
    assert last["event"] == "RunSummed"
    trigger = last["triggers"]["orders/stream"]
    assert (trigger["records"], trigger["failures"], trigger["left_blocked"]) == (40, 0, {})
    assert trigger["checkpoints"] == {"orders-0": 19, "orders-1": 19}


def test_workers_that_do_not_start_do_not_hold_up_the_end(tmp_path):
    text = (STREAM % (100, 2000, "")).replace("grace: 5s", "grace: 200s")
    config = write_project(
        tmp_path, text, orders="raise RuntimeError('no table')\ndef main(): ...\n"
    )
    with DaemonProcess(config) as daemon:
        daemon.wait_for(lambda status: status["triggers"]["orders/stream"]["failures"] >= 3)
        assert daemon.stop() == 0
        _, ending = daemon.text.split(" draining ")
        told = [line for line in ending.splitlines() if "✗" in line]
        assert all("the service is stopping" in line for line in told)


MOUNTED = """
version: 1
state: {path: ./state}
functions:
  photos:
    code: photos
    handler: app.main
    isolation: best-effort
    concurrency: {warm: 1}
    triggers:
      box: {type: object-store, via: directory, path: box, bucket: box, interval: 1s}
      stream: {type: memory, topic: orders, partitions: 1, records: 10, rate: 1000, retries: {max: 1},
               on_failure: {type: file, path: dead.jsonl}}
"""


def test_a_directory_that_comes_later_is_waited_for_and_nothing_is_lost(tmp_path):
    config = write_project(tmp_path, MOUNTED, photos=ECHO)

    def waits(status):
        told = status["functions"]["photos"]["last_error"]
        state = status["triggers"]["photos/box"]["state"]
        return "box: No such file" in told and state == "degraded"

    def both(status):
        return all(each["records"] for each in status["triggers"].values()) and status

    with DaemonProcess(config) as daemon:
        daemon.wait_for(waits)
        (tmp_path / "box").mkdir()
        (tmp_path / "box" / "a.txt").write_text("a")
        status = daemon.wait_for(both)
        assert sum(each["set_aside"] for each in status["triggers"].values()) == 0
        assert daemon.stop() == 0
    assert not (tmp_path / "dead.jsonl").exists()
