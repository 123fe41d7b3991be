"""A source of notifications over a store and a feed by hand, and buckets that send them for real."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

from aws_servers import Aws
from source_subjects import loop_clock
from streamfaas.flow.record import Record
from streamfaas.sources.objects import Feed, MakeFeed, Means, Objects, ObjectsOptions
from streamfaas.sources.objects.queue import QueueFeed
from streamfaas.store import Store
from streamfaas.testing.conformance import Driver
from streamfaas.wire.s3_event import Notification, S3Change, notification

NAME = "thumbs/uploads"


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Store]:
    store = await Store.open(folder / "state" / "streamfaas.db")
    try:
        yield store
    finally:
        await store.close()


def source(store: Store, *feeds: Feed | MakeFeed, told: Any = None, **options: Any) -> Objects:
    """Over feeds that are there, or are to be made."""
    asked = ObjectsOptions(
        **{"buckets": ("uploads",), "events": ("*",), "parallel": 4, **options},
        feeds=tuple(feed if callable(feed) else _given(feed) for feed in feeds),
    )
    hear = told.append if told is not None else lambda signal: None
    return Objects(NAME, asked, store=store, clock=loop_clock, emit=hear)


def _given(feed: Feed) -> MakeFeed:
    return lambda means: feed


def put(key: str, sequencer: str = "", **more: Any) -> Notification:
    asked = {"bucket": "uploads", "name": "ObjectCreated:Put", "time_ms": 1, "etag": "e", **more}
    return notification(S3Change(key=key.encode(), sequencer=sequencer, **asked))


def sequencer_of(record: Record) -> str:
    return str(told(record)["s3"]["object"].get("sequencer", ""))


def told(record: Record) -> dict[str, Any]:
    return dict(orjson.loads(record.value or b""))


async def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - of anything
            await asyncio.sleep(0.01)


async def all_of(driver: Driver, count: int) -> list[Record]:
    """So many records, each finished with as soon as it has come."""
    found: list[Record] = []
    while len(found) < count:
        found += await driver.take(1)
        await driver.finish_all()
    return found


# -- buckets that send notifications


@asynccontextmanager
async def bucket(aws: Aws, via: str) -> AsyncIterator[tuple[str, str, Any]]:
    """A bucket and the queue that hears of it, with a client of S3."""
    name = f"{via.replace('-', '')}-{uuid.uuid4().hex[:8]}"
    async with (
        aws.client("s3") as s3,
        aws.client("sqs") as sqs,
        aws.client("sns") as sns,
        aws.client("events") as events,
    ):
        url = (await sqs.create_queue(QueueName=name))["QueueUrl"]
        queue_arn = f"arn:aws:sqs:{aws.region}:{aws.account}:{name}"
        await s3.create_bucket(Bucket=name)
        wanted = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]
        asked: dict[str, Any] = {}
        if via == "sqs":
            asked["QueueConfigurations"] = [{"QueueArn": queue_arn, "Events": wanted}]
        elif via == "sns-sqs":
            topic = (await sns.create_topic(Name=name))["TopicArn"]
            await sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue_arn)
            asked["TopicConfigurations"] = [{"TopicArn": topic, "Events": wanted}]
        else:
            pattern = json.dumps({"source": ["aws.s3"], "detail": {"bucket": {"name": [name]}}})
            await events.put_rule(Name=name, EventPattern=pattern)
            await events.put_targets(Rule=name, Targets=[{"Id": "1", "Arn": queue_arn}])
            asked["EventBridgeConfiguration"] = {}
        await s3.put_bucket_notification_configuration(Bucket=name, NotificationConfiguration=asked)
        yield name, url, s3


def queue_feed(aws: Aws, queue: str, via: str = "sqs") -> MakeFeed:
    def make(means: Means) -> Feed:
        return QueueFeed(aws.access, queue, via, means)

    return make
