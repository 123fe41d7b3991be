"""What MinIO writes to a topic, through the whole daemon, killed in the middle."""

import json
import textwrap

import pytest
import uvloop

from daemon_process import DaemonProcess

LEDGER = """
    import json, os

    def handler(event, context):
        (record,) = event["Records"]
        with open(os.environ["LEDGER"], "a") as ledger:
            ledger.write(json.dumps([record["eventName"], record["s3"]["object"]["key"]]) + "\\n")
            ledger.flush()
            os.fsync(ledger.fileno())
"""
CONFIG = """
version: 1
state: {path: ./state}
connections:
  main: {type: kafka, brokers: ["%s"]}
functions:
  uploads:
    code: code
    handler: app.handler
    isolation: best-effort
    env: {LEDGER: /mnt/out/ledger.jsonl}
    triggers:
      uploads:
        {type: object-store, via: kafka, connection: main, topics: [%s], start: earliest,
         bucket: uploads, parallel: 20}
      out: {type: object-store, via: directory, path: out, bucket: out, prefix: no/, write: true}
"""
COUNT = 10_000


def notification(number):
    """As MinIO's Kafka target has it: the key of the object stands in the record's key."""
    record = {
        "eventVersion": "2.0",
        "eventSource": "minio:s3",
        "awsRegion": "",
        "eventTime": "2026-01-02T03:04:05.678Z",
        "eventName": "s3:ObjectCreated:Put",
        "s3": {
            "s3SchemaVersion": "1.0",
            "bucket": {"name": "uploads", "arn": "arn:aws:s3:::uploads"},
            "object": {
                "key": f"in%2F{number}.jpg",
                "size": 7,
                "eTag": f"{number:032x}",
                "sequencer": f"{number:016X}",
            },
        },
        "source": {"host": "127.0.0.1", "port": "", "userAgent": "MinIO"},
    }
    told = {"EventName": "s3:ObjectCreated:Put", "Key": f"uploads/in/{number}.jpg"}
    return json.dumps({**told, "Records": [record]}).encode()


def ran(folder):
    ledger = folder / "out" / "ledger.jsonl"
    return [json.loads(each) for each in ledger.read_text().splitlines()] if ledger.exists() else []


async def produced(kafka, topic, numbers):
    keys = [f"uploads/in/{number}.jpg".encode() for number in numbers]
    await kafka.produce(topic, [notification(number) for number in numbers], keys=keys)


@pytest.mark.slow
@pytest.mark.kafka
def test_ten_thousand_notifications_of_a_topic_run_over_a_kill(tmp_path, kafka):
    async def begin():
        topic = await kafka.create_topic("bucketevents", partitions=3)
        await produced(kafka, topic, range(COUNT // 2))
        return topic

    topic = uvloop.run(begin())
    for name in ("code", "out"):
        (tmp_path / name).mkdir()
    (tmp_path / "code" / "app.py").write_text(textwrap.dedent(LEDGER))
    config = tmp_path / "streamfaas.yaml"
    config.write_text(CONFIG % (kafka.bootstrap, topic))
    with DaemonProcess(config) as daemon:
        daemon.wait_for(lambda _: len(ran(tmp_path)) > COUNT // 10, 90)
        daemon.process.kill()
        daemon.wait()
    before = len(ran(tmp_path))
    assert before < COUNT
    uvloop.run(produced(kafka, topic, range(COUNT // 2, COUNT)))
    with DaemonProcess(config) as daemon:
        daemon.wait_for(lambda _: len({tuple(each) for each in ran(tmp_path)}) == COUNT, 180)
        daemon.signal()
        assert daemon.wait() == 0
    found = [key for _, key in ran(tmp_path)]
    assert set(found) == {f"in/{number}.jpg" for number in range(COUNT)}
    assert len(found) - COUNT <= 20  # what was in hand at the kill
