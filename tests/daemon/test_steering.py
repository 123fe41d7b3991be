"""Triggers are paused and resumed by commands, and stay so over a restart."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime

import anyio
import pytest
from click.testing import CliRunner

from daemon_process import DaemonProcess, write_project
from engine.test_seek import scene
from streamfaas.api.server import Request
from streamfaas.cli.main import main as command
from streamfaas.daemon.measured import unready
from streamfaas.daemon.steering import Steering
from streamfaas.sources.memory import Memory

pytestmark = pytest.mark.slow

CONFIG = """
version: 1
functions:
  orders:
    code: orders
    handler: app.main
    isolation: best-effort
    triggers:
      stream: {type: memory, topic: orders, partitions: 2, rate: 500, batch: {size: 10}}
      other: {type: memory, topic: other, records: 10}
"""

HANDLER = """
def main(event, context):
    if "records" not in event:
        print("ran", event)
"""


def asked(daemon, *arguments, code=0):
    """What the command printed."""
    made = [*arguments, "--socket", str(daemon.state / "streamfaas.sock")]
    result = CliRunner(env={"SUDO_USER": "ada"}).invoke(command, made)
    assert result.exit_code == code, (result.exit_code, result.output)
    return result.output


def records(status):
    return status["triggers"]["orders/stream"]["records"]


def test_a_paused_trigger_rests_over_a_restart_until_it_is_resumed(tmp_path):
    config = write_project(tmp_path, CONFIG, orders=HANDLER)
    with DaemonProcess(config) as daemon:
        daemon.wait_for(records)
        told = asked(daemon, "pause", "orders/stream", "--wait")
        assert told == "paused orders/stream  (undo: streamfaas resume orders/stream)\n"
        status = daemon.status()
        trigger = status["triggers"]["orders/stream"]
        assert (trigger["state"], trigger["paused"]["by"]) == ("paused", "ada")
        assert trigger["at_rest"]
        assert status["triggers"]["orders/other"]["state"] == "running"
        assert unready(status) == ()
        before = records(status)
        assert asked(daemon, "pause", "orders/stream") == "orders/stream was paused already\n"
        assert records(daemon.status()) == before
        daemon.wait_told("paused orders/stream, as ada asked")
        assert daemon.stop() == 0
    with DaemonProcess(config) as daemon:
        daemon.wait_ready()
        daemon.wait_for(lambda status: status["triggers"]["orders/other"]["records"] == 10)
        assert daemon.status()["triggers"]["orders/stream"]["state"] == "paused"
        assert records(daemon.status()) == 0
        found = json.loads(asked(daemon, "resume", "orders", "-o", "json"))
        assert found["changed"] == ["orders/stream"]
        daemon.wait_for(records)
        assert asked(daemon, "resume", "orders/other") == "orders/other was not paused\n"
        assert daemon.stop() == 0


def test_asynchronous_calls_are_kept_while_they_are_paused(tmp_path):
    config = write_project(tmp_path, CONFIG, orders=HANDLER)
    (tmp_path / "event.json").write_text('{"kept": 1}')
    event = ("-e", str(tmp_path / "event.json"))
    with DaemonProcess(config) as daemon:
        daemon.wait_ready()
        asked(daemon, "pause", "orders/async")
        asked(daemon, "invoke", "orders", *event, "--async")
        daemon.wait_for(
            lambda status: status["triggers"]["orders/asynchronous"]["state"] == "paused"
        )
        asked(daemon, "invoke", "orders", *event)
        daemon.wait_for(lambda _: daemon.text.count("ran {'kept': 1}") == 1)
        asked(daemon, "resume", "orders/async")
        daemon.wait_for(lambda _: daemon.text.count("ran {'kept': 1}") == 2)
        assert daemon.stop() == 0


def test_a_log_is_read_on_from_where_a_person_wants(tmp_path):
    text = CONFIG.replace("rate: 500,", "records: 400, rate: 4000,")
    config = write_project(tmp_path, text, orders=HANDLER)

    def lanes(status):
        return {each["name"]: each["position"] for each in triggers(status)["lanes"]}

    def triggers(status):
        return status["triggers"]["orders/stream"]

    def done(status):
        return records(status) if lanes(status) == {"orders-0": 199, "orders-1": 199} else 0

    with DaemonProcess(config) as daemon:
        assert daemon.wait_for(done) == 400
        told = asked(daemon, "seek", "orders/stream", "--to", "150", "--dry-run")
        assert [line.split() for line in told.splitlines()] == [
            ["PARTITION", "FROM", "TO", "AGAIN", "SKIPPED"],
            ["orders-0", "200", "150", "50", "0"],
            ["orders-1", "200", "150", "50", "0"],
            [
                "100",
                "records",
                "come",
                "again,",
                "0",
                "are",
                "skipped",
                "(at",
                "most:",
                "not",
                "every",
                "offset",
                "holds",
                "a",
                "record)",
            ],
        ]
        assert lanes(daemon.status()) == {"orders-0": 199, "orders-1": 199}
        told = asked(daemon, "seek", "orders/stream", "--to", "earliest", "-p", "1")
        assert told.endswith("orders/stream goes on from there\n")
        daemon.wait_for(lambda status: records(status) == 600 and done(status))
        daemon.wait_told("sought orders/stream orders-1: from 200 to 0, as ada asked")
        asked(daemon, "pause", "orders/stream", "--wait")
        found = asked(daemon, "seek", "orders/stream", "--to", "10", "-o", "json")
        assert json.loads(found)["paused"] is True
        assert lanes(daemon.status()) == {"orders-0": 9, "orders-1": 9}
        told = asked(daemon, "seek", "orders/stream", "--to", "latest", "-p", "orders-0", code=2)
        assert "190 records would be skipped, and never run: give --yes" in told
        asked(daemon, "seek", "orders/stream", "--to", "latest", "-p", "orders-0", "--yes")
        asked(daemon, "resume", "orders/stream")
        daemon.wait_for(lambda status: records(status) == 790 and done(status))
        now = datetime.now(UTC).isoformat()
        told = asked(daemon, "seek", "orders/stream", "--to", now, "--dry-run")
        assert told.count("200  200") == 2
        assert daemon.stop() == 0


def test_what_cannot_be_sought_is_told(tmp_path):
    extra = "      files: {type: object-store, via: directory, path: ./inbox, bucket: inbox}\n"
    (tmp_path / "inbox").mkdir()
    config = write_project(tmp_path, CONFIG + extra, orders=HANDLER)
    with DaemonProcess(config) as daemon:
        daemon.wait_ready()
        seek = ("seek", "orders/stream", "--to")
        assert "orders-0 can be read from 0 to" in asked(daemon, *seek, "1" + "0" * 15, code=1)
        assert "orders-0 can be read from 0 to" in asked(daemon, *seek, str(1 << 63), code=1)
        assert "no partition or shard 7 is here: orders-0, orders-1" in asked(
            daemon, *seek, "5", "-p", "7", code=1
        )
        assert "there is no trigger orders/x" in asked(
            daemon, "seek", "orders/x", "--to", "latest", code=2
        )
        told = asked(daemon, "seek", "orders/files", "--to", "latest", code=1)
        assert "a trigger of type directory cannot be read on from another place" in told
        assert "is not earliest, latest, an offset, or a time" in asked(
            daemon, *seek, "noon", code=2
        )
        assert daemon.stop() == 0


SLOW = """
import time
def main(event, context):
    print("begun")
    time.sleep(1.5)
"""


def test_a_trigger_and_then_the_daemon_are_drained_and_what_was_in_flight_has_ended(tmp_path):
    config = write_project(tmp_path, CONFIG, orders=SLOW)
    with DaemonProcess(config) as daemon:
        daemon.wait_for(lambda _: "begun" in daemon.text)
        asked(daemon, "drain", "orders/stream")
        assert daemon.status()["triggers"]["orders/stream"]["at_rest"]
        asked(daemon, "resume", "orders/stream")
        daemon.wait_for(lambda status: records(status) > 10)
        assert asked(daemon, "drain", "--wait") == "drained, and ended\n"
        assert daemon.wait() == 0
        assert "no daemon answers" in asked(daemon, "drain", code=69)


def test_everything_is_shown_of_a_trigger_that_runs(tmp_path):
    config = write_project(tmp_path, CONFIG, orders=HANDLER)
    with DaemonProcess(config) as daemon:
        daemon.wait_for(lambda status: records(status) > 500)
        status = daemon.status()
        function, trigger = status["functions"]["orders"], status["triggers"]["orders/stream"]
        assert function["recent"]["invocations_per_second"] > 0
        assert function["recent"]["p99_seconds"] >= function["recent"]["p50_seconds"] > 0
        assert function["recent"]["cold_starts_per_hour"] >= 1
        assert trigger["recent"]["records_per_second"] > 0
        assert (trigger["reads"], trigger["unwell_seconds"]) == ("orders", None)
        assert status["cpu"] > 0
        shown = json.loads(asked(daemon, "triggers", "show", "orders/stream", "-o", "json"))
        assert shown["config"]["batch"]["size"] == 10
        assert shown["details"]["on_failure"].endswith("/set-aside/orders.stream.jsonl")
        assert "orders/stream" in asked(daemon, "triggers", "show", "orders/stream")
        assert "there are orders/stream" in asked(daemon, "triggers", "show", "orders/x", code=2)
        assert asked(daemon, "lag", "orders/stream").count("orders-") == 2
        assert daemon.request("POST", "/status")[0] == 405
        assert daemon.stop() == 0


def test_what_is_not_there_cannot_be_paused(tmp_path):
    config = write_project(tmp_path, CONFIG, orders=HANDLER)
    with DaemonProcess(config) as daemon:
        daemon.wait_ready()
        told = asked(daemon, "pause", "ordres", code=2)
        assert told == "streamfaas: there is no function 'ordres'; there are orders\n"
        told = asked(daemon, "pause", "orders/straem", code=2)
        assert told.endswith("no trigger 'straem'; it has stream, other, async\n")
        assert asked(daemon, "pause", "orders/", code=2).endswith("nor FUNCTION/TRIGGER\n")
        assert daemon.request("GET", "/pause/orders")[0] == 405
        assert daemon.request("POST", "/pause/orders", b"{}")[0] == 400
        assert daemon.stop() == 0


def test_what_nobody_waits_for_any_more_is_not_done(tmp_path):
    config = write_project(tmp_path, CONFIG, orders=HANDLER)
    body = b'{"by": "ada"}'
    with DaemonProcess(config) as daemon:
        daemon.wait_ready()
        for until in (f"{time.monotonic() - 0.01:.3f}", "nan", "noon"):
            late = {"streamfaas-until": until}
            assert daemon.request("POST", "/pause/orders/stream", body, late)[0] == 408
            assert daemon.request("GET", "/status", None, late)[0] == 200
        assert daemon.status()["triggers"]["orders/stream"]["paused"] is None
        soon = {"streamfaas-until": f"{time.monotonic() + 60:.3f}"}
        assert daemon.request("POST", "/pause/orders/stream", body, soon)[0] == 200
        assert daemon.stop() == 0


def test_a_place_that_cannot_be_is_refused_in_words_of_ours(tmp_path):
    config = write_project(tmp_path, CONFIG, orders=HANDLER)
    with DaemonProcess(config) as daemon:
        daemon.wait_for(records)
        for to, told in (
            ("2999-01-01T00:00:00Z", "2999-01-01T00:00:00+0000 is yet to come: to skip all that"),
            ("9" * 5_000, "no log has a position of more than 60 digits"),
        ):
            assert told in asked(daemon, "seek", "orders/stream", "--to", to, "-y", code=2)
        assert daemon.stop() == 0


def test_of_a_log_that_does_not_say_its_places_that_is_told_and_nothing_moves(monkeypatch):
    async def hangs(source, lanes, to):
        await anyio.sleep_forever()

    monkeypatch.setattr(Memory, "places", hangs)

    async def body(s):
        steering = Steering({}, {"f/t": s.mapping}, brakes=None, emit=s.signals.append)
        told = await steering.handle(Request("POST", "/seek/f/t", b'{"to": "earliest"}'))
        assert told.status == 503
        assert b"what f/t reads from did not answer within 30 s" in told.body
        await s.finished()

    scene(body)
