"""The service as systemd runs it: its real sandbox, watchdog, restarts and end."""

import signal

import pytest
from click.testing import CliRunner

import parts
from daemon_process import write_project
from service_manager import ServiceManager
from streamfaas.cli import install_service
from streamfaas.cli.main import main

CONFIG = """
version: 1
shutdown: {grace: 5s}
functions:
  orders:
    code: orders
    handler: app.main
    isolation: {mode: enforce, network: none}
    env: {KEY: "${credential:key}"}
    triggers:
      stream: {type: memory, topic: orders, partitions: 1, records: 1, rate: 100, batch: {size: 5}}
      inbox: {type: object-store, via: directory, path: inbox, bucket: inbox, prefix: "none/"}
"""
HANDLER = """
import os

def main(event, context):
    print("seen with", os.environ["KEY"], os.listdir("/mnt/inbox"))
"""
DROP_IN = """
[Service]
WatchdogSec=2
RestartSec=100ms
StandardOutput=append:{0}/daemon.log
StandardError=append:{0}/daemon.log
"""


@pytest.mark.slow
@pytest.mark.root
def test_the_service_that_is_installed_runs_isolated_is_watched_and_ends(tmp_path, monkeypatch):
    parts.open_to_others(tmp_path)
    config = write_project(tmp_path, CONFIG, orders=HANDLER)
    config.chmod(0o644)
    for name in ("inbox", "credentials"):
        (tmp_path / name).mkdir()
    (tmp_path / "inbox" / "seen.txt").touch()
    (tmp_path / "credentials" / "key").write_text("hush")
    manager = ServiceManager(tmp_path)
    monkeypatch.setattr(install_service, "SYSTEM_UNITS", manager.units)
    arguments = ["--config", str(config), "--credentials", str(tmp_path / "credentials")]
    done = CliRunner().invoke(main, ["install-service", *arguments])
    assert done.exit_code == 0, done.output
    (manager.units / "streamfaas.service.d").mkdir()
    drop_in = manager.units / "streamfaas.service.d" / "test.conf"
    drop_in.write_text(DROP_IN.format(tmp_path))

    def said(count, words):
        log = tmp_path / "daemon.log"
        return log.exists() and log.read_text().count(words) == count

    unit = "streamfaas.service"
    with manager:
        assert manager.control("start", unit) == ""
        assert manager.shown(unit, "StatusText").startswith("1 functions, 2 triggers")
        assert said(1, "isolation orders: full")
        assert int(manager.shown(unit, "UID")) >= 61_184  # a user of the moment
        manager.wait_for(lambda: said(1, "seen with hush ['seen.txt']"))

        manager.signal(unit, signal.SIGSTOP)  # its loop stands still, and the watchdog unfed
        manager.wait_for(lambda: manager.shown(unit, "NRestarts") == "1")
        manager.wait_for(lambda: manager.shown(unit, "ActiveState") == "active")
        assert said(1, "Fatal Python error: Aborted")
        assert said(2, "isolation orders: full")

        manager.signal(unit, signal.SIGKILL)
        manager.wait_for(lambda: manager.shown(unit, "NRestarts") == "2")
        manager.wait_for(lambda: manager.shown(unit, "ActiveState") == "active")

        assert manager.control("stop", unit) == ""
        assert manager.shown(unit, "Result") == "success"
        assert said(1, "draining")

        config.write_text(CONFIG.replace("grace: 5s", "grace: 5 weeks"))
        assert "failed" in manager.control("start", unit)
        assert manager.shown(unit, "ExecMainStatus") == "78"
        assert manager.shown(unit, "ActiveState") == "failed"  # and not tried again
