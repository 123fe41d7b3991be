"""What failed, or lies in a log, is run once more: `dlq redrive`, `replay`, `skip`, `invoke --async`."""

from __future__ import annotations

import asyncio
import json
import re

import pytest
from click.testing import CliRunner

from daemon_process import DaemonProcess, write_project
from streamfaas.cli.main import main as command

pytestmark = pytest.mark.slow

POISON = """
def main(event, context):
    for records in event["records"].values():
        for record in records:
            again = [h["streamfaas-replays"] for h in record["headers"] if "streamfaas-replays" in h]
            if record["offset"] == 7 and not again:
                raise ValueError("poison")
            if again:
                beside = context.client_context.custom["streamfaas-replays"]
                print(f"replayed {record['partition']}-{record['offset']} {bytes(again[0])} {beside}")
"""

STREAM = """
version: 1
functions:
  orders:
    code: orders
    handler: app.main
    isolation: best-effort
    triggers:
      stream: {type: memory, topic: orders, records: 20, rate: 2000, batch: {size: 10}%s}
"""

ASIDE = ", retries: {max: 0, bisect: false}, on_failure: {type: file, path: dead.jsonl}"


def asked(daemon, *arguments, code=0):
    """What the command printed."""
    made = [*arguments, "--socket", str(daemon.state / "streamfaas.sock")]
    result = CliRunner().invoke(command, made)
    assert result.exit_code == code, (result.exit_code, result.output)
    return result.output


def replayed(daemon):
    return [tuple(found) for found in re.findall(r"replayed (\S+) b'(\d+)' (\d+)", daemon.text)]


def lanes(status):
    return status["triggers"]["orders/stream"]["lanes"]


def settled(status):
    trigger = status["triggers"]["orders/stream"]
    return trigger["records"] + trigger["set_aside"] == 20


def test_a_failed_batch_runs_again_marked_and_its_entry_counts_the_replays(tmp_path):
    config = write_project(tmp_path, STREAM % ASIDE, orders=POISON)
    with DaemonProcess(config) as daemon:
        daemon.wait_for(settled)
        (entry,) = json.loads(asked(daemon, "dlq", "list", "-o", "json"))["entries"]
        assert (entry["records"], entry["condition"]) == (10, "RetryAttemptsExhausted")
        told = asked(daemon, "dlq", "redrive", entry["id"], "--dry-run")
        assert told == f"would run {entry['id']}: 10 records of orders/stream\n"
        assert "no entry 'nobody'" in asked(
            daemon, "dlq", "redrive", entry["id"], "nobody", code=2
        ), "nothing is run where a name is wrong"
        for count in (1, 2):
            asked(daemon, "dlq", "redrive", entry["id"], entry["id"])
            daemon.wait_for(lambda status, count=count: len(replayed(daemon)) == 10 * count)
        (entry,) = json.loads(asked(daemon, "dlq", "list", "-o", "json"))["entries"]
        assert entry["replays"] == 2
        assert daemon.stop() == 0
    assert replayed(daemon) == [
        (f"0-{offset}", str(count), str(count)) for count in (1, 2) for offset in range(10)
    ]


REPORTING = """
def main(event, context):
    failed = []
    for lane, records in event["records"].items():
        for record in records:
            if record["offset"] == 7:
                failed.append({"itemIdentifier": {"partition": lane, "offset": 7}})
            elif context.client_context:
                print(f"replayed {record['offset']}")
    return {"batchItemFailures": failed}
"""


def test_a_replay_whose_answer_reports_a_failure_has_failed_and_is_put_aside_alone(tmp_path):
    text = STREAM % (
        ASIDE.replace("max: 0", "max: 1, backoff: 10ms..20ms") + ", partial_failures: true"
    )
    text = text.replace("    triggers:", "    asynchronous: {retries: 0}\n    triggers:")
    config = write_project(tmp_path, text, orders=REPORTING)
    with DaemonProcess(config) as daemon:
        daemon.wait_for(settled)
        (entry,) = json.loads(asked(daemon, "dlq", "list", "-o", "json"))["entries"]
        assert entry["records"] == 1
        asked(daemon, "dlq", "redrive", entry["id"])

        def both(_status):
            return len(json.loads(asked(daemon, "dlq", "list", "-o", "json"))["entries"]) == 2

        daemon.wait_for(both)
        newest, _ = json.loads(asked(daemon, "dlq", "list", "-o", "json"))["entries"]
        assert (newest["mapping"], newest["records"]) == ("orders/asynchronous", 1)
        assert newest["condition"] == "RetriesExhausted"
        assert daemon.stop() == 0


def test_a_replay_that_was_accepted_survives_a_kill(tmp_path):
    slow = POISON.replace(
        "def main(event, context):", "import time\ndef main(event, context):\n    time.sleep(0.3)"
    )
    config = write_project(tmp_path, STREAM % ASIDE, orders=slow)
    with DaemonProcess(config) as daemon:
        daemon.wait_for(settled)
        (entry,) = json.loads(asked(daemon, "dlq", "list", "-o", "json"))["entries"]
        asked(daemon, "dlq", "redrive", entry["id"])
        daemon.process.kill()
        daemon.wait()
    with DaemonProcess(config) as daemon:
        daemon.wait_for(lambda status: len(replayed(daemon)) >= 10)
        assert daemon.stop() == 0


def test_a_lane_that_is_blocked_is_skipped_into_a_file_and_goes_on(tmp_path):
    config = write_project(tmp_path, STREAM % ", retries: {backoff: 1m..1m}", orders=POISON)
    with DaemonProcess(config) as daemon:
        daemon.wait_for(lambda s: any(one["attempt"] for one in lanes(s)))
        told = asked(daemon, "skip", "orders/stream", "--dry-run")
        assert told.startswith("orders-0 @0..9: 10 records, failed 1 times, would go to ")
        assert daemon.status()["triggers"]["orders/stream"]["records"] == 0
        asked(daemon, "skip", "orders/stream", "--lane", "orders-0")
        daemon.wait_for(settled)
        assert "nothing waits" in asked(daemon, "skip", "orders/stream", code=1)
        assert "no trigger" in asked(daemon, "skip", "orders/other", code=2)
        (entry,) = json.loads(asked(daemon, "dlq", "list", "-o", "json"))["entries"]
        assert entry["condition"] == "Skipped"
        assert daemon.stop() == 0
    (line,) = (tmp_path / "state/set-aside/orders.stream.jsonl").read_text().splitlines()
    assert len(json.loads(line)["payload"]["records"]["orders-0"]) == 10


def test_what_went_back_to_its_queue_is_told_of_and_not_skipped(tmp_path):
    stream = "{type: memory, topic: orders, records: 20, rate: 2000, batch: {size: 10}%s}"
    files = "{type: object-store, via: directory, path: inbox, bucket: files}"
    poison = "def main(event, context):\n    1 / 0\n"
    config = write_project(tmp_path, STREAM.replace(stream, files), orders=poison)
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / "a.jpg").write_bytes(b"no photo")
    with DaemonProcess(config) as daemon:
        daemon.wait_for(lambda status: any(each["by_key"] for each in lanes(status)))
        told = asked(daemon, "skip", "orders/stream", code=1)
        assert "1 that failed went back, to be tried again, and hold up only their key" in told
        assert daemon.stop() == 0


def test_an_event_that_nobody_waits_for_is_kept_and_run(tmp_path):
    source = "def main(event, context):\n    print('got', event, context.aws_request_id)\n"
    number = "1" * 40  # as it was written, and not as some JSON library reads it
    config = write_project(tmp_path, STREAM % "", orders=source)
    (tmp_path / "e.json").write_text(f'{{"a": {number}}}')
    with DaemonProcess(config) as daemon:
        daemon.wait_ready()
        request_id = asked(daemon, "invoke", "orders", "-e", str(tmp_path / "e.json"), "--async")
        daemon.wait_for(lambda status: f"got {{'a': {number}}} {request_id.strip()}" in daemon.text)
        assert "no function" in asked(
            daemon, "invoke", "other", "-e", str(tmp_path / "e.json"), "--async", code=2
        )
        assert daemon.stop() == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["replay", "orders/stream"], "which records?"),
        (["replay", "abc", "--from", "3"], "an ID stands for a whole batch"),
        (["replay", "orders/", "--from", "3"], "neither an ID nor FUNCTION/TRIGGER"),
        (["replay", "orders/stream", "--since", "yesterday"], "is not a time"),
        (["replay", "orders/stream", "--since", "2026-01-01"], "has no time zone"),
        (["skip", "orders"], "is not FUNCTION/TRIGGER"),
        (["dlq", "redrive"], "which ones?"),
    ],
)
def test_a_wrong_command_line_is_told_before_anybody_is_asked(tmp_path, arguments, said):
    result = CliRunner().invoke(command, [*arguments, "--socket", str(tmp_path / "none")])

    assert result.exit_code == 2
    assert said in result.output


def test_what_cannot_be_replayed_is_said(tmp_path):
    config = write_project(tmp_path, STREAM % "", orders=POISON)
    with DaemonProcess(config) as daemon:
        daemon.wait_ready()
        assert "keeps no log" in asked(daemon, "replay", "orders/stream", "--from", "1", code=1)
        assert "no trigger" in asked(daemon, "replay", "orders/x", "--from", "1", code=2)
        assert "no entry" in asked(daemon, "replay", "0123", code=2)
        assert daemon.stop() == 0


KAFKA = """
version: 1
connections: {main: {type: kafka, brokers: ["%s"]}}
functions:
  orders:
    code: orders
    handler: app.main
    isolation: best-effort
    triggers:
      stream:
        type: kafka
        connection: main
        topics: ["%s"]
        start: earliest
        batch: {size: 4}
        filter: [{value: {n: [{numeric: [">=", 5]}]}}]
"""


@pytest.mark.kafka
def test_a_stretch_of_a_topic_is_read_once_more_and_the_group_stays_where_it_is(kafka, tmp_path):
    async def written():
        topic = await kafka.create_topic(partitions=2)
        values = [b'{"n": %d}' % number for number in range(20)]
        await kafka.produce(topic, values, partition=0)
        await kafka.produce(topic, values[:3], partition=1)
        return topic

    topic = asyncio.run(written())
    source = POISON.replace('record["offset"] == 7', "False")
    config = write_project(tmp_path, KAFKA % (kafka.bootstrap, topic), orders=source)
    with DaemonProcess(config) as daemon:
        daemon.wait_for(lambda s: s["triggers"]["orders/stream"]["records"] == 15)
        told = asked(daemon, "replay", "orders/stream", "--from", "3", "--to", "9", "--dry-run")
        assert told.splitlines() == [f"would run {topic}-0 @3..9", "7 positions in 1 lanes"]
        asked(daemon, "replay", "orders/stream", "--lane", f"{topic}-0", "--from", "3", "--to", "9")
        daemon.wait_for(lambda status: len(replayed(daemon)) == 5)
        told = asked(
            daemon, "replay", "orders/stream", "--since", "2020-01-01T00:00:00Z", "--dry-run"
        )
        assert told.splitlines()[-1] == "23 positions in 2 lanes"
        future = ["--since", "2100-01-01T00:00:00Z"]
        assert "no such records" in asked(daemon, "replay", "orders/stream", *future, code=1)
        unknown = ["--lane", "nothing-0", "--from", "0"]
        assert "there is no partition nothing-0" in asked(
            daemon, "replay", "orders/stream", *unknown, code=1
        )
        trigger = daemon.status()["triggers"]["orders/stream"]
        assert trigger["records"] == 15, "a replay is nothing that arrived"
        assert daemon.stop() == 0
    assert [place for place, _, _ in replayed(daemon)] == [f"0-{n}" for n in range(5, 10)]


KINESIS = """
version: 1
connections:
  aws: {type: aws, region: us-east-1, endpoint_url: "%s", access_key_id: a, secret_access_key: "${SECRET}"}
functions:
  clicks:
    code: clicks
    handler: app.main
    isolation: best-effort
    triggers:
      stream:
        type: kinesis
        connection: aws
        stream: "%s"
        start: earliest
        filter: [{data: {n: [{numeric: [">=", 2]}]}}]
"""

COUNTING = """
import base64, json

def main(event, context):
    for record in event["Records"]:
        number = json.loads(base64.b64decode(record["kinesis"]["data"]))["n"]
        if context.client_context:
            times = context.client_context.custom["streamfaas-replays"]
            print(f"replayed {number} b'{len(event['Records'])}' {times}")
"""


def test_a_stretch_of_a_stream_is_read_once_more_by_sequence_numbers_and_by_times(
    kinesalite, tmp_path
):
    asyncio.run(kinesalite.create("again", 2))
    records = [("key", b'{"n": %d}' % number) for number in range(8)]
    asyncio.run(kinesalite.put("again", records))
    config = write_project(tmp_path, KINESIS % (kinesalite.url, "again"), clicks=COUNTING)
    with DaemonProcess(config, env={"SECRET": "a-secret"}) as daemon:
        daemon.wait_for(lambda s: s["triggers"]["clicks/stream"]["records"] == 6)
        since = ["replay", "clicks/stream", "--since", "2020-01-01T00:00:00Z"]
        told = asked(daemon, *since, "--dry-run")
        line, total = told.splitlines()
        found = re.fullmatch(
            r"would run (shardId-\S+) @(\d{50,60})\.\.(\d{50,60}): 6 records", line
        )
        assert found, told
        assert total == "6 records in 1 lanes"
        assert replayed(daemon) == []
        shard, first, last = found.groups()
        some = ["replay", "clicks/stream", "--lane", shard, "--from", last, "--rate", "5"]
        assert asked(daemon, *some) == "1 records will run: streamfaas status\n"
        daemon.wait_for(lambda status: len(replayed(daemon)) == 1)
        assert asked(daemon, *since) == "6 records will run: streamfaas status\n"
        daemon.wait_for(lambda status: len(replayed(daemon)) == 7)
        future = ["--since", "2100-01-01T00:00:00Z"]
        assert "no such records" in asked(daemon, "replay", "clicks/stream", *future, code=1)
        without = asked(daemon, "replay", "clicks/stream", "--from", first, code=1)
        assert "name that by --lane, or give times" in without
        assert daemon.status()["triggers"]["clicks/stream"]["records"] == 6
        assert daemon.stop() == 0
    assert [place for place, one, _ in replayed(daemon) if one == "1"] == list("7234567")
