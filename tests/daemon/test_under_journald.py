"""The service's lines and words in the journal of a real journald, as `journalctl` finds them."""

import pytest
from click.testing import CliRunner

import parts
from daemon_process import write_project
from service_manager import ServiceManager
from streamfaas.cli import install_service
from streamfaas.cli.main import main
from streamfaas.telemetry.journal import message_id

CONFIG = """
version: 1
functions:
  orders:
    code: orders
    handler: app.main
    isolation: {mode: enforce, network: none}
    triggers:
      stream: {type: memory, topic: orders, partitions: 1, records: 2, rate: 100, batch: {size: 1}}
"""
HANDLER = """
import logging

def main(event, context):
    (record,) = next(iter(event["records"].values()))
    if record["offset"]:
        print("large " + "x" * 60_000)
    else:
        logging.error("two\\nlines")
"""


@pytest.mark.slow
@pytest.mark.root
def test_each_line_and_each_word_is_an_entry_with_fields_of_its_own(tmp_path, monkeypatch):
    parts.open_to_others(tmp_path)
    config = write_project(tmp_path, CONFIG, orders=HANDLER)
    config.chmod(0o644)
    manager = ServiceManager(tmp_path)
    monkeypatch.setattr(install_service, "SYSTEM_UNITS", manager.units)
    done = CliRunner().invoke(main, ["install-service", "--config", str(config)])
    assert done.exit_code == 0, done.output
    with manager:
        manager.start_journal()
        started = manager.control("start", "streamfaas.service")
        assert started == "", [each["MESSAGE"] for each in manager.journal()]
        manager.wait_for(lambda: len(manager.journal("STREAMFAAS_LINE=function")) == 2)
        error, large = manager.journal("STREAMFAAS_LINE=function")
        assert error["MESSAGE"].startswith("[ERROR]\t")
        assert error["MESSAGE"].endswith("\ttwo\nlines")
        assert error["PRIORITY"] == "3"
        assert error["MESSAGE_ID"] == message_id("LogWritten")
        assert error["STREAMFAAS_FUNCTION"] == "orders"
        assert error["STREAMFAAS_WORKER"].startswith("orders#")
        assert error["_SYSTEMD_UNIT"] == "streamfaas.service"
        assert len(large["MESSAGE"]) == 60_006
        request = manager.journal(f"STREAMFAAS_REQUEST_ID={error['STREAMFAAS_REQUEST_ID']}")
        assert [entry["MESSAGE"].split()[0] for entry in request] == [
            "START", "[ERROR]", "END", "REPORT", "✓",
        ]  # fmt: skip
        of_trigger = manager.journal("STREAMFAAS_TRIGGER=orders/stream")
        assert {entry["STREAMFAAS_EVENT"] for entry in of_trigger} >= {
            "SourceChanged",
            "InvocationEnded",
        }
        (ready,) = (e for e in manager.journal() if e["MESSAGE"].startswith("ready 1 functions"))
        assert ready["STREAMFAAS_EVENT"] == "DaemonStepped"
        assert manager.control("stop", "streamfaas.service") == ""
        assert manager.journal("STREAMFAAS_EVENT=DaemonStepped")[-1]["MESSAGE"] == "stopped"
