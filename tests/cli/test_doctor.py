"""`streamfaas doctor`: what it says of this machine, and of configurations that are not well."""

import json
import os
import re
import socket
import subprocess
import sys
import sysconfig
from contextlib import closing
from io import StringIO
from pathlib import Path

import pytest
from click.testing import CliRunner

import parts
from daemon_process import DaemonProcess, write_project
from parts import CHECKOUT
from sandbox_users import AS_BOTH, need
from streamfaas.cli import doctor, install_service
from streamfaas.cli.main import main
from streamfaas.daemon.doctor import Finding, checks
from zygote_harness import interpreter_for

APP = "def main(event, context):\n    return event\n"
CONFIG = """
version: 1
state: {path: ./state}
functions:
  orders: {code: orders, handler: app.main, isolation: best-effort%s}
"""
KERNEL = ("namespaces", "root", "privileges", "limits", "worker", "limits held", "killed")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Nothing of the machine's own is looked at but the machine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(install_service, "SYSTEM_UNITS", tmp_path / "units")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "own"))
    return tmp_path


def examined(*arguments):
    done = CliRunner().invoke(main, ["doctor", "-o", "json", *map(str, arguments)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.output
    told = json.loads(done.stdout)
    assert done.exit_code == (0 if told["ok"] else 1)
    assert told["ok"] == all(each["mark"] != "bad" for each in told["findings"])
    return {each["subject"]: each for each in told["findings"]}


def of(found, mark):
    return {name: each for name, each in found.items() if each["mark"] == mark}


@pytest.mark.slow
@AS_BOTH
def test_the_machine_is_tried_by_a_worker_that_tries_to_get_out(tmp_path, uid):
    need(uid)
    packages = sysconfig.get_path("purelib")
    if uid and not all(each.stat().st_mode & 0o001 for each in Path(packages).parents):
        pytest.skip("the packages lie where another user does not get to")
    done = subprocess.run(
        [interpreter_for(uid), "-m", "streamfaas", "doctor", "-o", "json"],
        env={"PYTHONPATH": f"{CHECKOUT}:{packages}", "PATH": os.environ["PATH"], "HOME": "/"},
        cwd="/",
        user=uid,
        group=uid,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = {each["subject"]: each for each in json.loads(done.stdout)["findings"]}
    assert of(found, "bad") == {}
    for name in KERNEL:
        assert found[name]["mark"] == "ok", found[name]
    assert "all 3 processes gone" in found["killed"]["found"]
    assert not list(Path("/sys/fs/cgroup").glob("**/streamfaas-doctor-*"))


@pytest.mark.slow
def test_what_a_configuration_names_is_tried(tmp_path):
    (tmp_path / "inbox").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/letters"
        triggers = (
            ", triggers: {inbox: {type: object-store, via: directory, path: inbox, bucket: inbox, "
            "on_failure: {type: file, path: dead.jsonl}, on_success: {type: http, url: 'URL'}}}}\n"
            "telemetry: {otlp: 'URL', logs: {directory: logs/own}"
        ).replace("URL", url)
        found = examined(write_project(tmp_path, CONFIG % triggers, orders=APP))
    assert of(found, "bad") == {}, found
    assert "is valid" in found["config"]["found"] or found["config"]["explain"] == "SF1091"
    assert "inbox can be read" in found["orders/inbox"]["found"]
    assert "can be read and written" in found["destination"]["found"]
    assert "answers" in found[url.split("/")[2]]["found"]
    assert "answers" in found[f"collector {url.split('/')[2]}"]["found"]
    assert "can be read and written" in found["logs"]["found"]
    assert "orders starts: app.main, init" in found["orders"]["found"]
    assert "fsync" in found["disk"]["found"] or "tmpfs" in found["disk"]["found"]
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "inbox",
        "orders",
        "streamfaas.yaml",
    ]


@pytest.mark.slow
def test_what_does_not_work_is_told_with_what_helps(tmp_path, monkeypatch):
    with closing(socket.socket()) as nobody:
        nobody.bind(("127.0.0.1", 0))
        at = f"127.0.0.1:{nobody.getsockname()[1]}"
        more = """, triggers: {
      orders: {type: kafka, connection: main, topics: [orders], start: latest, on_failure: {type: http, url: "http://AT/"}}}}
  thumbs: {code: thumbs, handler: app.main, triggers: {
      inbox: {type: object-store, via: directory, path: nowhere, bucket: inbox}}}
connections:
  main: {type: kafka, brokers: ["AT"]""".replace("AT", at)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://{at}")
        path = write_project(
            tmp_path, CONFIG % more, orders="import nothing_like_it\n" + APP, thumbs=APP
        )
        found = examined(path)
    assert found["main"]["found"] == f"main: cannot reach {at} (connection refused)"
    assert found["main"]["explain"] == "SF3041"
    assert found[at]["explain"] == "SF3045"
    assert "connection refused" in found[at]["found"]
    assert found["thumbs/inbox"]["explain"] == "SF3044"
    assert "nowhere: No such file or directory" in found["thumbs"]["found"]
    assert "No module named 'nothing_like_it'" in found["orders"]["found"]
    assert "streamfaas invoke orders" in found["orders"]["remedy"]
    collector = f"collector {at}"
    assert found[collector]["explain"] == "SF3048"
    assert set(of(found, "bad")) == {"main", at, collector, "thumbs/inbox", "thumbs", "orders"}
    assert all(each["remedy"] and each["explain"] for each in of(found, "bad").values())


@pytest.mark.slow
def test_a_configuration_that_is_not_valid_is_one_line_and_the_machine_is_tried_all_the_same(
    tmp_path,
):
    path = write_project(tmp_path, CONFIG % ", timeout: 1000s", orders=APP)
    found = examined(path)
    assert found["config"]["explain"] == "SF1042"
    assert found["config"]["remedy"] == f"streamfaas validate {path}"
    assert set(of(found, "bad")) == {"config"}
    assert found["killed"]["mark"] == "ok"


@pytest.mark.slow
def test_a_daemon_that_runs_is_asked_and_its_database_left_alone(tmp_path):
    path = write_project(tmp_path, CONFIG % "", orders=APP)
    with DaemonProcess(path) as daemon:
        daemon.wait_ready()
        found = examined(path)
        assert f"process {daemon.process.pid}, running" in found["daemon"]["found"]
        assert "answers" in found["socket"]["found"]
        daemon.stop()
    found = examined(path)
    assert "locked, sound" in found["store"]["found"]
    database = tmp_path / "state" / "streamfaas.db"
    data = bytearray(database.read_bytes())
    data[4096:4196] = b"\xff" * 100
    database.write_bytes(data)
    found = examined(path)
    assert found["store"]["explain"] == "SF3023"
    assert found["store"]["mark"] == "bad"
    assert database.read_bytes() == data


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="writes units, which only root can")
def test_a_unit_that_does_not_fit_any_more_is_told(tmp_path):
    parts.open_to_others(tmp_path)
    path = write_project(tmp_path, CONFIG.replace("./state", "/var/lib/st") % "", orders=APP)
    written = CliRunner().invoke(main, ["install-service", "-c", str(path)])
    assert written.exit_code == 0, written.output
    unit = tmp_path / "units" / "streamfaas.service"
    check = next(
        each for each in checks.of_config(*_loaded(path)) if each.name == "service"
    )  # the whole of it would look for a state directory of the machine
    assert _performed(check).told == f"{unit} fits the configuration"
    unit.write_text(unit.read_text().replace("WatchdogSec=30", "WatchdogSec=40"))
    stale = _performed(check)
    assert (stale.mark, stale.code) == ("warn", "SF3031")
    assert stale.remedy.startswith(f"streamfaas install-service --config {path} --name streamfaas")


def _loaded(path):
    from streamfaas.config.load import load

    return load(path, os.environ), doctor._units()


def _performed(check):
    import anyio

    (finding,) = anyio.run(check.perform)
    return finding


def test_on_a_screen_what_is_not_well_stands_last_with_its_remedy_and_code(capsys):
    found = [
        Finding("ok", "a", "all is well with a"),
        Finding("bad", "b", "b is not\x1b[2J well", "mend b", "SF3045"),
        Finding("ok", "c", "all is well with c"),
        Finding("warn", "d", "d is so so", "look at d", "SF3002"),
    ]
    assert shown(found, 120) == [
        "✓ all is well with a ✓ all is well with c",
        "! d is so so → look at d (SF3002)",
        "✗ b is not\\x1b[2J well → mend b (SF3045)",
        "2 ✓  1 !  1 ✗   more: streamfaas explain SF3045",
    ]
    assert shown(found[:1] + found[2:3], 80) == [
        "✓ all is well with a", "✓ all is well with c", "2 ✓  0 !  0 ✗",
    ]  # fmt: skip


@pytest.mark.parametrize("width", [40, 80, 116, 120, 200])
def test_no_line_is_wider_than_the_screen(width):
    found = [Finding(mark, "x", "word " * 30, "help " * 10, "SF3002") for mark in ("ok", "warn")]
    assert all(len(line) <= max(width, 50) for line in shown(found * 3, width))


def shown(found, width):
    from rich.console import Console

    console = Console(width=width, highlight=False, markup=False, record=True, file=StringIO())
    doctor._show(found, console)
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_every_code_that_doctor_names_is_explained():
    from streamfaas.docs import explanations

    sources = (CHECKOUT / "streamfaas" / "daemon" / "doctor").glob("*.py")
    named = {code for path in sources for code in re.findall(r"SF3\d{3}", path.read_text())}
    assert named == {code for code in explanations() if code.startswith("SF3")}


def test_a_library_that_does_not_load_is_all_that_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "cramjam", None)
    found = examined()
    assert list(found) == ["cramjam"]
    assert found["cramjam"]["explain"] == "SF3001"
    assert "pip install" in found["cramjam"]["remedy"]
