"""MinIO's stream, and the listing behind it. The stream is our own (there is no MinIO to be had),
as its documentation and its source describe it, and judged by MinIO's own client; the bucket is a
real server's."""

import asyncio
import json
import subprocess
from contextlib import asynccontextmanager
from functools import partial
from urllib.parse import parse_qs, urlsplit

import pytest
import uvloop

from aws_servers import environment
from minio_stream import line, minio_stream
from object_worlds import ALL, degraded, driven, nothing_more, taken, world
from streamfaas.sources.objects.listening import Listening, ListeningOptions
from streamfaas.sources.objects.polling import Polling
from streamfaas.wire.aws import AwsAccess
from streamfaas.wire.s3 import Bucket

CLIENT = """
import json, sys
from minio import Minio

address, bucket = sys.argv[1:]
client = Minio(address, "an-id", "a-secret", region="us-east-1", secure=False)
asked = {"prefix": "in/ä &", "suffix": ".jpg", "events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]}
with client.listen_bucket_notification(bucket, **asked) as events:
    for event in events:
        print(json.dumps(event), flush=True)
"""

PUT, GONE = "ObjectCreated:Put", "ObjectRemoved:Delete"


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
            stream.tell(line(made.bucket, "in/a b"))
            assert await taken(driver, 1) == [(PUT, "in/a+b")]
            stream.tell(line(made.bucket, "in/a b", "s3:ObjectRemoved:Delete", "19"))
            assert await taken(driver, 1) == [(GONE, "in/a+b")]
            stream.cut()
            await made.put("unheard")
            assert await taken(driver, 1) == [(PUT, "unheard")]
            await heard(stream, 2)
            stream.tell(line(made.bucket, "again", sequencer="20"))
            assert await taken(driver, 1) == [(PUT, "again")]
            await nothing_more(driver)

    uvloop.run(main())


def query(head):
    return parse_qs(urlsplit(head.split()[1]).query, keep_blank_values=True)


@pytest.mark.slow
def test_the_client_of_minio_asks_as_we_do_and_hears_what_we_hear(moto, tmp_path):
    command = [str(environment() / "bin" / "python"), "-c", CLIENT]

    async def main():
        async with minio_stream() as stream:
            address = stream.url.removeprefix("http://")
            client = await asyncio.create_subprocess_exec(
                *command, address, "heard", stdout=subprocess.PIPE
            )
            ours = Bucket(AwsAccess("us-east-1", stream.url, "an-id", "a-secret"), "heard")
            try:
                await heard(stream, 1)
                await ours.open()
                async with ours.listen(ALL, "in/ä &", ".jpg") as lines:
                    await heard(stream, 2)
                    whole = line("heard", "in/ä &b.jpg")
                    stream.tell(whole[:20], whole[20:])
                    stream.tell(line("heard", "in/ä &b.jpg", "s3:ObjectRemoved:Delete"))
                    for _ in range(2):
                        theirs = json.loads(await client.stdout.readline())
                        assert theirs == json.loads(await anext(lines))
            finally:
                client.kill()
                await client.wait()
                await ours.close()
            assert query(stream.asked[0]) == query(stream.asked[1])

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
@pytest.mark.parametrize(
    ("refuse", "told"),
    [
        (b"HTTP/1.1 501 No\r\nContent-Length: 0\r\n\r\n", "HTTP 501"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n<a>", "does not know"),
    ],
    ids=["501", "listing"],
)
def test_a_store_that_has_no_such_stream_is_degraded_and_its_listing_goes_on(
    refuse, told, moto, tmp_path, monkeypatch
):
    monkeypatch.setattr("streamfaas.sources.objects.feed.AGAIN_SECONDS", (0.1,))
    monkeypatch.setattr("streamfaas.sources.objects.feed.REFUSED_SECONDS", 0.1)

    async def main():
        async with listening(moto, tmp_path, 0.2, refuse) as (made, stream, driver):
            assert told in await degraded(driver)
            await made.put("a")
            assert await taken(driver, 1) == [(PUT, "a")]
            while len(stream.asked) < 4:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.02)
            assert [each.state for each in made.told] == ["degraded"]  # however often it is asked

    uvloop.run(main())
