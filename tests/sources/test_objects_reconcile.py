"""A listing behind a real queue that a real bucket sends to."""

import asyncio
from contextlib import asynccontextmanager
from functools import partial

import pytest

from object_scene import all_of, bucket, opened, queue_feed, source, told
from streamfaas.sources.objects.polling import Polling, PollingOptions
from streamfaas.testing.conformance import driven
from streamfaas.wire.sqs import Queue


@asynccontextmanager
async def scene(aws, folder):
    """A bucket, its queue, and triggers that read the one and list the other."""
    async with bucket(aws, "sqs") as (name, queue, s3), opened(folder) as store:
        async with aws.client("sqs") as sqs:  # a receive that is cut off hides what it took
            asked = {"VisibilityTimeout": "2"}
            await sqs.set_queue_attributes(QueueUrl=queue, Attributes=asked)
        listed = PollingOptions(aws.access, name, interval_seconds=0.5, existing=False, alone=False)

        def trigger():
            feeds = (queue_feed(aws, queue), partial(Polling, listed))
            return source(store, *feeds, buckets=(name,), listed=True)

        async def put(*keys):
            for key in keys:
                await s3.put_object(Bucket=name, Key=key, Body=key.encode())

        yield trigger, put, Queue(aws.access, queue)


def names(records):
    return sorted(told(each)["s3"]["object"]["key"] for each in records)


@pytest.mark.slow
def test_what_no_notification_told_of_is_found_and_all_else_runs_once(aws_server, tmp_path):
    async def main():
        async with scene(aws_server, tmp_path) as (trigger, put, queue):
            async with driven(trigger()) as driver:
                keys = [f"{number:02}" for number in range(20)]
                await put(*keys)
                assert names(await all_of(driver, 20)) == keys
                await driver.quiet()
            await put("missed", "and this")
            await lost(queue, 2)
            async with driven(trigger()) as driver:
                await put("new")
                assert names(await all_of(driver, 3)) == ["and+this", "missed", "new"]
                await driver.quiet()
                await asyncio.sleep(1.5)  # for some listings more
                await driver.quiet()

    asyncio.run(main())


async def lost(queue, count):
    """Somebody else takes them out of the queue."""
    await queue.open()
    try:
        while count > 0:
            messages = await queue.receive(10, wait_seconds=1)
            await queue.delete_batch([each["ReceiptHandle"] for each in messages])
            count -= len(messages)
    finally:
        await queue.close()
