"""MinIO's stream, and the listing behind it. The stream is our own (there is no MinIO to be had),
as its documentation and its source describe it; the bucket is a real server's."""

import asyncio
from contextlib import asynccontextmanager
from functools import partial

import orjson
import pytest
import uvloop

from minio_stream import minio_stream
from object_worlds import ALL, degraded, driven, nothing_more, taken, world
from streamfaas.sources.objects.listening import Listening, ListeningOptions
from streamfaas.sources.objects.polling import Polling
from streamfaas.wire.aws import AwsAccess

PUT, GONE = "ObjectCreated:Put", "ObjectRemoved:Delete"


def line(bucket, key, name="s3:ObjectCreated:Put", sequencer="18A5B2C3D4E5F607", etag="e"):
    """As MinIO writes it."""
    described = {"key": key, "sequencer": sequencer}
    if "Created" in name:
        described |= {"size": 1, "eTag": etag, "contentType": "x", "userMetadata": {}}
    record = {
        "eventVersion": "2.0",
        "eventSource": "minio:s3",
        "awsRegion": "",
        "eventTime": "2026-11-01T00:00:00.000Z",
        "eventName": name,
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "Config",
            "bucket": {"name": bucket, "arn": f"arn:aws:s3:::{bucket}"},
            "object": described,
        },
        "source": {"host": "127.0.0.1", "port": "", "userAgent": "MinIO"},
    }
    return orjson.dumps({"Records": [record]}) + b"\n"


@asynccontextmanager
async def listening(moto, tmp_path, interval_seconds=600.0, refuse=b""):
    """A trigger that hears a stream, and lists the bucket."""
    async with world(moto, tmp_path) as made, minio_stream() as stream:
        stream.refuse = refuse
        async with driven(listener(made, stream, interval_seconds)) as driver:
            yield made, stream, driver


def listener(made, stream, interval_seconds):
    nudge = asyncio.Event()
    access = AwsAccess("us-east-1", stream.url, "an-id", "a-secret")
    options = ListeningOptions(access, made.bucket, events=ALL)
    listed = made.behind(interval_seconds)
    return made.source(
        partial(Listening, options, nudge=nudge), partial(Polling, listed, nudge=nudge)
    )


async def heard(stream, count):
    """So many have begun to listen."""
    while len(stream.asked) < count or not stream.listeners:  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0.02)


@pytest.mark.slow
def test_what_is_told_comes_at_once_and_what_was_not_heard_is_found(moto, tmp_path):
    async def main():
        async with listening(moto, tmp_path) as (made, stream, driver):
            await heard(stream, 1)
            stream.tell(line(made.bucket, "in%2Fa+b"))
            assert await taken(driver, 1) == [(PUT, "in/a+b")]
            stream.tell(line(made.bucket, "in%2Fa+b", "s3:ObjectRemoved:Delete", "19"))
            assert await taken(driver, 1) == [(GONE, "in/a+b")]
            stream.cut()
            await made.put("unheard")
            assert await taken(driver, 1) == [(PUT, "unheard")]
            await heard(stream, 2)
            stream.tell(line(made.bucket, "again", sequencer="20"))
            assert await taken(driver, 1) == [(PUT, "again")]
            await nothing_more(driver)

    uvloop.run(main())


@pytest.mark.slow
def test_a_line_that_is_none_has_the_bucket_listed(moto, tmp_path):
    async def main():
        async with listening(moto, tmp_path) as (made, stream, driver):
            await heard(stream, 1)
            await nothing_more(driver)
            await made.put("missed")
            stream.tell(b'{"Records": [{"half":1}]}\n', b'{"Records": null}\n')
            assert await taken(driver, 1) == [(PUT, "missed")]
            assert any("is left out" in each for each in made.remarks())

    uvloop.run(main())


@pytest.mark.slow
def test_a_store_that_has_no_such_stream_is_degraded_and_its_listing_goes_on(moto, tmp_path):
    async def main():
        refuse = b"HTTP/1.1 501 No\r\nContent-Length: 0\r\n\r\n"
        async with listening(moto, tmp_path, 0.2, refuse) as (made, _, driver):
            assert "HTTP 501" in await degraded(driver)
            await made.put("a")
            assert await taken(driver, 1) == [(PUT, "a")]

    uvloop.run(main())
