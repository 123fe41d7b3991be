"""Notifications by way of real queues and a real topic."""

from __future__ import annotations

import asyncio
import json
from urllib.parse import quote_plus

import pytest

from aws_servers import Aws
from kafka_broker import Kafka
from object_scene import all_of, bucket, opened, queue_feed, source, told, until
from parts import CHECKOUT
from source_subjects import loop_clock
from streamfaas.config.check import check
from streamfaas.config.object_stores import ObjectTopicTrigger
from streamfaas.daemon import object_stores
from streamfaas.flow.record import Lane
from streamfaas.sources.memory import Memory, MemoryOptions, Stream
from streamfaas.sources.objects import MakeFeed
from streamfaas.sources.objects.log import LogFeed
from streamfaas.telemetry.signals import SourceChanged
from streamfaas.testing.conformance import driven
from streamfaas.wire.sqs import Queue

KEYS = ["plain.txt", "in/a b+c/ä.txt", "in/100%/x=&y.txt"]

WAYS = [("ministack", "sqs"), ("ministack", "sns-sqs"), ("ministack", "eventbridge-sqs"),
        ("moto", "sqs"), ("moto", "sns-sqs")]  # fmt: skip


@pytest.fixture(scope="session", params=WAYS, ids=" ".join)
def way(request: pytest.FixtureRequest) -> tuple[Aws, str]:
    """A server, and what is between a bucket of it and the queue."""
    kind, via = request.param
    return request.getfixturevalue(kind), via


@pytest.mark.slow
def test_what_is_put_into_a_bucket_comes_as_an_event_of_s3(way, tmp_path):
    aws, via = way
    heard: list[object] = []

    async def main():
        async with (
            bucket(aws, via) as (name, queue, s3),
            opened(tmp_path) as store,
            driven(source(store, queue_feed(aws, queue), buckets=(name,), told=heard)) as driver,
        ):
            for key in KEYS:
                await s3.put_object(Bucket=name, Key=key, Body=b"content")
            found = await all_of(driver, len(KEYS))
            assert {record.key.decode() for record in found} == set(KEYS)
            for record in found:
                event = told(record)
                assert event["eventSource"] == "aws:s3"
                assert event["eventName"] == "ObjectCreated:Put"
                described = event["s3"]["object"]
                assert described["key"] == quote_plus(record.key, safe="/")
                assert described["size"] == 7
                assert described["eTag"] == "9a0364b9e99bb480dd25e1f0284c8555"
            await until_empty(aws, queue)
            await driver.quiet()
        remarks = [each.reason for each in heard if isinstance(each, SourceChanged)]
        others = [each for each in remarks if "come as by" in each]
        assert [f"via: {via}, and not" in each for each in others] == [True] * (via != "sqs")

    asyncio.run(main())


@pytest.mark.slow
def test_while_the_inbox_is_full_messages_stay_in_the_queue(ministack, tmp_path):
    async def main():
        async with bucket(ministack, "sqs") as (name, queue, s3), opened(tmp_path) as store:
            for number in range(30):
                await s3.put_object(Bucket=name, Key=f"file {number}", Body=b"")
            feed = queue_feed(ministack, queue)
            made = source(store, feed, buckets=(name,), pending_max=5, parallel=1)
            async with driven(made) as driver:
                await until(lambda: made.view().state == "degraded")
                assert "events wait: no more are taken until some are done" in made.view().reason
                assert made.view().details["pending"] < 30
                assert len(await all_of(driver, 30)) == 30
                await until_empty(ministack, queue)
                await until(lambda: made.view().state == "running")

    asyncio.run(main())


async def until_empty(aws: Aws, name: str) -> None:
    """Nothing is in the queue, and nothing hidden in it."""
    queue = Queue(aws.access, name)
    try:
        await queue.open()
        async with asyncio.timeout(20):
            while True:
                told = await queue.attributes()
                if not told.waiting + told.in_flight:
                    return
                await asyncio.sleep(0.05)
    finally:
        await queue.close()


@pytest.mark.slow
def test_a_message_that_is_no_notification_does_not_block_the_queue(ministack, tmp_path):
    async def main():
        async with (
            bucket(ministack, "sqs") as (name, queue, s3),
            ministack.client("sqs") as sqs,
            opened(tmp_path) as store,
        ):
            await sqs.send_message(QueueUrl=queue, MessageBody="no JSON")
            await s3.put_object(Bucket=name, Key="a", Body=b"")
            made = source(store, queue_feed(ministack, queue), buckets=(name,))
            async with driven(made):
                await until_empty(ministack, queue)
                assert made.view().details["pending"] == 2

    asyncio.run(main())


@pytest.mark.slow
def test_a_queue_that_is_not_there_degrades_the_source_until_it_is(
    ministack, tmp_path, monkeypatch
):
    monkeypatch.setattr("streamfaas.sources.objects.feed.AGAIN_SECONDS", (0.2,))
    monkeypatch.setattr("streamfaas.sources.objects.feed.REFUSED_SECONDS", 0.2)

    async def main():
        async with ministack.client("sqs") as sqs, opened(tmp_path) as store:
            made = source(store, queue_feed(ministack, "comes-later"))
            async with driven(made):
                await until(lambda: made.view().state == "degraded")
                assert "the queue comes-later" in made.view().reason
                await sqs.create_queue(QueueName="comes-later")
                await until(lambda: made.view().state == "running")

    asyncio.run(main())


def minio(number: int) -> bytes:
    """A message of MinIO's Kafka target."""
    key = f"in/file {number}.txt"
    record = {
        "eventVersion": "2.0",
        "eventSource": "minio:s3",
        "awsRegion": "",
        "eventTime": "2026-01-02T03:04:05.678Z",
        "eventName": "s3:ObjectCreated:Put",
        "userIdentity": {"principalId": "minio"},
        "requestParameters": {"principalId": "minio", "region": "", "sourceIPAddress": "127.0.0.1"},
        "responseElements": {"x-amz-request-id": "R", "x-minio-deployment-id": "D"},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "Config",
            "bucket": {
                "name": "uploads",
                "ownerIdentity": {"principalId": "minio"},
                "arn": "arn:aws:s3:::uploads",
            },
            "object": {
                "key": quote_plus(key),
                "size": 3,
                "eTag": "e",
                "contentType": "text/plain",
                "userMetadata": {"content-type": "text/plain"},
                "sequencer": f"{number + 1:016X}",
            },
        },
        "source": {"host": "127.0.0.1", "port": "", "userAgent": "MinIO"},
    }
    told = {"EventName": "s3:ObjectCreated:Put", "Key": f"uploads/{key}", "Records": [record]}
    return json.dumps(told).encode()


def configured(kafka: Kafka, topic: str) -> MakeFeed:
    """The feed that a configuration asks for."""
    text = f"""
version: 1
connections: {{k: {{type: kafka, brokers: ["{kafka.bootstrap}"]}}}}
functions:
  thumbs:
    code: thumbnails
    handler: app.handler
    triggers:
      uploads:
        {{type: object-store, via: kafka, connection: k, topics: [{topic}], group: {topic},
         bucket: uploads, start: earliest}}
"""
    folder = CHECKOUT / "configs" / "functions"
    config, problems = check(text, name="c.yaml", base_dir=folder, environ={})
    assert config is not None, problems
    trigger = config.functions["thumbs"].triggers["uploads"]
    assert isinstance(trigger, ObjectTopicTrigger)
    return object_stores.options(config, trigger).feeds[0]


@pytest.mark.kafka
@pytest.mark.slow
def test_what_minio_writes_to_a_topic_comes_once_and_is_committed(kafka: Kafka, tmp_path):
    async def main():
        topic = await kafka.create_topic("bucketevents", partitions=2)
        keys = [f"uploads/{n}".encode() for n in range(40)]
        await kafka.produce(topic, [minio(n) for n in range(40)], keys=keys)
        feed = configured(kafka, topic)
        async with opened(tmp_path) as store:
            made = source(store, feed)
            async with driven(made) as driver:
                found = await all_of(driver, 40)
                await until(lambda: made.view().state == "running")
            assert {record.key for record in found} == {b"in/file %d.txt" % n for n in range(40)}
            assert sum((await kafka.committed(topic, topic)).values()) == 40
            await kafka.produce(topic, [minio(n) for n in range(39, 42)], keys=[b"k"] * 3)
            async with driven(source(store, feed)) as driver:
                again = await all_of(driver, 2)
                assert {record.key for record in again} == {b"in/file 40.txt", b"in/file 41.txt"}
                await driver.quiet()

    asyncio.run(main())


@pytest.mark.slow
def test_a_log_is_followed_when_its_lanes_come_and_go(tmp_path):
    """A simulated one: records without a value are nothing, and what is malformed is kept."""

    async def main():
        stream, made = Stream(), []
        asked = MemoryOptions("events", partitions=2, records=0)

        def log(emit):
            made.append(Memory("thumbs/uploads", asked, clock=loop_clock, emit=emit, stream=stream))
            return made[-1]

        async with opened(tmp_path) as store:
            followed = source(store, lambda means: LogFeed("the log", log, means))
            async with driven(followed) as driver:
                await until(lambda: followed.view().state == "running")
                first, second = (Lane("thumbs/uploads", f"events-{n}") for n in range(2))
                for lane, value in ((first, minio(1)), (second, minio(2)), (second, b"")):
                    made[0].put(lane, value, b"k")
                    made[0].wake()
                assert len(await all_of(driver, 2)) == 2
                made[0].revoke(second)
                made[0].put(first, minio(3), b"k")
                made[0].wake()
                assert len(await all_of(driver, 1)) == 1
                made[0].put(first, b"no notification", b"k")
                made[0].wake()
                await until(lambda: followed.view().details["pending"] == 1)

    asyncio.run(main())
