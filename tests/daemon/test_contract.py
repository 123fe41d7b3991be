"""The delivery contract as a whole, in a running daemon: what is asked for in a file happens."""

import contextlib
import http.server
import json
import re
import threading

import anyio
import pytest
import uvloop
from aiokafka import AIOKafkaConsumer

from daemon_process import DaemonProcess, write_project

pytestmark = pytest.mark.slow

CONFIG = """
version: 1
state: {path: ./state}
shutdown: {grace: 5s}
functions:
  orders:
    code: orders
    handler: app.main
    isolation: best-effort
    triggers:
      stream:
        type: memory
        topic: orders
        partitions: 2
        records: 80
        rate: 4000
        batch: {size: 10}
%s
"""


def done(status):
    """All 80 records are accounted for."""
    trigger = status["triggers"]["orders/stream"]
    ended = sum(trigger[key] for key in ("records", "set_aside", "filtered"))
    return ended == 80 and trigger


def documents(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_one_bad_record_alone_is_given_up_and_all_others_are_answered(tmp_path):
    source = """
def main(event, context):
    records = [r for rs in event["records"].values() for r in rs]
    if any((r["partition"], r["offset"]) == (0, 13) for r in records):
        raise ValueError("poison")
    return [r["offset"] for r in records]
"""
    asked = """
        retries: {max: 1, backoff: 10ms..20ms}
        on_failure: {type: file, path: dead.jsonl}
        on_success: {type: file, path: done.jsonl}
"""
    config = write_project(tmp_path, CONFIG % asked, orders=source)
    with DaemonProcess(config) as daemon:
        trigger = daemon.wait_for(done)
        assert daemon.stop() == 0
    assert (trigger["records"], trigger["set_aside"]) == (79, 1)
    (dead,) = documents(tmp_path / "dead.jsonl")
    assert dead["KafkaBatchInfo"]["batchSize"] == 1
    assert [r["offset"] for r in dead["payload"]["records"]["orders-0"]] == [13]
    answers = [document["responsePayload"] for document in documents(tmp_path / "done.jsonl")]
    answered = sorted(offset for answer in answers for offset in answer)
    assert answered == sorted([*range(40), *(set(range(40)) - {13})])


def test_only_what_is_wanted_runs_and_only_what_failed_runs_again(tmp_path):
    source = """
seen = set()
def main(event, context):
    failed = []
    for records in event["records"].values():
        for record in records:
            assert record["partition"] == 1
            offset = record["offset"]
            print("again" if offset in seen else "first", offset)
            if offset % 10 == 7 and offset not in seen:
                failed.append(offset)
            seen.add(offset)
    return {"batchItemFailures": [
        {"itemIdentifier": {"partition": "orders-1", "offset": offset}} for offset in failed]}
"""
    asked = """
        filter: {partition: [1]}
        partial_failures: true
        retries: {backoff: 10ms..20ms}
"""
    config = write_project(tmp_path, CONFIG % asked, orders=source)
    with DaemonProcess(config) as daemon:
        trigger = daemon.wait_for(done)
        assert daemon.stop() == 0
    assert (trigger["records"], trigger["filtered"], trigger["set_aside"]) == (40, 40, 0)
    again = [int(offset) for offset in re.findall(r"again (\d+)", daemon.text)]
    assert again == [7, 17, 27, 37]


@contextlib.contextmanager
def receiver():
    """A web server that keeps what is posted to it."""
    taken = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            taken.append((dict(self.headers), json.loads(body)))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        try:
            yield server.server_port, taken
        finally:
            server.shutdown()
            serving.join()


def test_what_is_given_up_is_posted_with_a_signature(tmp_path):
    source = "def main(event, context):\n    raise ValueError('never')\n"
    asked = """
        retries: {max: 0, bisect: false}
        parallel: {per_partition: 2}
        on_failure:
          type: http
          url: http://127.0.0.1:%d/dead
          headers: {Authorization: "${TOKEN}"}
          secret: "${SECRET}"
"""
    env = {"TOKEN": "Bearer t", "SECRET": "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"}
    with receiver() as (port, taken):
        config = write_project(tmp_path, CONFIG % (asked % port), orders=source)
        with DaemonProcess(config, env=env) as daemon:
            daemon.wait_for(done)
            assert daemon.stop() == 0
    assert sum(document["KafkaBatchInfo"]["batchSize"] for _, document in taken) == 80
    assert {headers["authorization"] for headers, _ in taken} == {"Bearer t"}
    assert all(headers["webhook-signature"].startswith("v1,") for headers, _ in taken)


def test_what_is_given_up_is_another_functions_event(tmp_path):
    source = "def main(event, context):\n    raise ValueError('never')\n"
    repair = """
def main(event, context):
    batch = event["KafkaBatchInfo"]
    if "orders-1" in batch["recordsInfo"]:
        raise KeyError("beyond repair")
    return batch["batchSize"]
"""
    asked = """
        retries: {max: 0, bisect: false}
        on_failure: {type: function, function: repair}
  repair:
    code: repair
    handler: app.main
    isolation: best-effort
    asynchronous:
      retries: 0
      on_success: {type: file, path: repaired.jsonl}
      on_failure: {type: file, path: broken.jsonl}
      dead_letter: {type: file, path: events.jsonl}
"""
    config = write_project(tmp_path, CONFIG % asked, orders=source, repair=repair)

    def repaired(status):
        trigger = status["triggers"].get("repair/asynchronous", {})
        return trigger.get("records", 0) == trigger.get("set_aside", 0) == 4

    with DaemonProcess(config) as daemon:
        daemon.wait_for(done)
        daemon.wait_for(repaired)
        assert daemon.stop() == 0
    good, broken = documents(tmp_path / "repaired.jsonl"), documents(tmp_path / "broken.jsonl")
    assert [document["responsePayload"] for document in good] == [10] * 4
    assert {document["requestContext"]["condition"] for document in broken} == {"RetriesExhausted"}
    given = [document["requestPayload"] for document in broken]
    assert all("orders-1" in event["KafkaBatchInfo"]["recordsInfo"] for event in given)
    # the dead letters are the events alone, as they came
    assert sorted(documents(tmp_path / "events.jsonl"), key=str) == sorted(given, key=str)


def test_events_outlive_the_daemon_and_are_missed_where_their_function_is_gone(tmp_path):
    source = "def main(event, context):\n    raise ValueError('never')\n"
    trigger = "        retries: {max: 0, bisect: false}\n"
    asked = """
        on_failure: {type: %s}
  repair:
    code: orders
    handler: app.main
    isolation: best-effort
"""
    text = CONFIG % (trigger + asked % "function, function: repair")
    config = write_project(tmp_path, text, orders=source)
    with DaemonProcess(config) as daemon:
        daemon.wait_for(done)
        # each has failed, and is to run again in a minute
        name = "repair/asynchronous"
        daemon.wait_for(lambda s: s["triggers"].get(name, {}).get("failures") == 8)
        assert daemon.stop() == 0
    with DaemonProcess(config) as daemon:
        daemon.wait_for(lambda status: name in status["triggers"])
        assert daemon.stop() == 0
    config.write_text(
        text.replace("function: repair", "function: mend").replace("  repair:", "  mend:")
    )
    with DaemonProcess(config) as daemon:
        daemon.wait_ready()
        assert daemon.stop() == 0
        told = r"warning: (\d+) events wait for repair, which is not configured"
        # the second daemon has read the simulated topic anew, as far as it came
        assert int(re.search(told, daemon.text)[1]) >= 8


TOPICS = """
version: 1
state: {path: ./state}
shutdown: {grace: 5s}
connections:
  main: {type: kafka, brokers: ["%s"]}
functions:
  orders:
    code: orders
    handler: app.main
    isolation: best-effort
    triggers:
      stream:
        type: kafka
        connection: main
        topics: [%s]
        start: earliest
        batch: {size: 10, window: 100ms}
        filter: {value: {total: [{numeric: [">", 0]}]}, headers: {kind: [{exists: false}]}}
        parallel: {per_partition: 3}
        retries: {max: 0}
        on_failure: {type: kafka, connection: main, topic: %s}
"""


@pytest.mark.kafka
def test_a_bad_record_goes_to_a_topic_under_its_own_key(tmp_path, kafka):
    source = """
import base64
def main(event, context):
    for records in event["records"].values():
        for record in records:
            if base64.b64decode(record["key"]) == b"k7":
                raise ValueError("poison")
"""

    async def written():
        orders, dead = [await kafka.create_topic(stem) for stem in ("orders", "dead")]
        values = [b'{"total": %d}' % (number % 10) for number in range(40)]
        await kafka.produce(orders, values, keys=[b"k%d" % (n % 10) for n in range(40)])
        return orders, dead

    async def read(topic):
        consumer = AIOKafkaConsumer(
            topic, bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest"
        )
        await consumer.start()
        try:
            with anyio.fail_after(30):
                return [await consumer.getone() for _ in range(4)]
        finally:
            await consumer.stop()

    orders, dead = uvloop.run(written())
    config = write_project(tmp_path, TOPICS % (kafka.bootstrap, orders, dead), orders=source)

    def done(status):
        trigger = status["triggers"]["orders/stream"]
        counts = [trigger[key] for key in ("records", "set_aside", "filtered")]
        return counts if sum(counts) == 40 else None

    with DaemonProcess(config) as daemon:
        # a total of nothing is not wanted, and one key in ten fails
        assert daemon.wait_for(done) == [32, 4, 4]
        assert daemon.stop() == 0
    messages = uvloop.run(read(dead))
    assert {message.key for message in messages} == {b"k7"}
    told = [json.loads(message.value) for message in messages]
    assert sorted(each["KafkaBatchInfo"]["recordInfo"]["offset"] for each in told) == ["17", "27", "37", "7"]  # fmt: skip
    assert all(dict(message.headers)["streamfaas-hops"] == b"1" for message in messages)
