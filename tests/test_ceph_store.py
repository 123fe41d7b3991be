"""A real Ceph tells of what it holds, and what it tells is read as S3's own words."""

from __future__ import annotations

from contextlib import asynccontextmanager

import anyio
import orjson
import pytest
import uvloop
from aiohttp import web

from streamfaas.wire.s3 import Bucket
from streamfaas.wire.s3_notifications import notifications

KEYS = ["plain.jpg", "a b+c.jpg", "é/ü%2F.jpg", "x" * 200 + "/./y&z=1"]


@asynccontextmanager
async def posted():
    """Where somebody listens, and what has been posted there."""
    bodies = []

    async def take(request):
        bodies.append(await request.read())
        return web.Response()

    app = web.Application()
    app.router.add_post("/", take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/", bodies
    finally:
        await runner.cleanup()


@pytest.mark.slow
def test_what_ceph_posts_has_the_shape_of_what_s3_sends(ceph):
    async def main():
        async with ceph.client("s3") as store, posted() as (url, bodies):
            await store.create_bucket(Bucket="told")
            await ceph.notify("told", url, "s3:ObjectCreated:*", "s3:ObjectRemoved:*")
            for key in KEYS:
                await store.put_object(Bucket="told", Key=key, Body=b"four")
            await store.delete_object(Bucket="told", Key=KEYS[0])
            with anyio.fail_after(30):
                while len(bodies) <= len(KEYS):  # noqa: ASYNC110 - the store tells it by posting
                    await anyio.sleep(0.05)
            return bodies

    found = [each for body in uvloop.run(main()) for each in notifications(body)]
    *created, removed = found
    assert [each.key.decode() for each in created] == KEYS
    assert {each.name.partition(":")[0] for each in created} == {"ObjectCreated"}
    assert removed.name.startswith("ObjectRemoved:")
    assert removed.key.decode() == KEYS[0]
    first = orjson.loads(created[0].record)
    assert first["eventVersion"] == "2.1"
    assert first["eventSource"] == "aws:s3"
    assert first["eventTime"].endswith("Z")
    assert "T" in first["eventTime"]
    assert first["s3"]["bucket"]["name"] == "told"
    assert first["s3"]["object"]["size"] == 4
    assert first["s3"]["object"]["eTag"] == "8cbad96aced40b3838dd9f07f6ef5772"
    encoded = [orjson.loads(each.record)["s3"]["object"]["key"] for each in created]
    assert encoded[1] == "a+b%2Bc.jpg"
    assert all(created[at].sequencer < created[at + 1].sequencer for at in range(len(KEYS) - 1))


@pytest.mark.slow
def test_a_bucket_of_ceph_is_written_to_and_listed_in_the_order_of_its_keys(ceph):
    async def main():
        async with ceph.client("s3") as store:
            await store.create_bucket(Bucket="listed")
        bucket = Bucket(ceph.access, "listed")
        try:
            await bucket.open()
            await bucket.look()
            for key in KEYS:
                await bucket.put(key, b"four", metadata={"streamfaas-hops": "1"})
            return [each.key.decode() async for page in bucket.pages() for each in page.objects]
        finally:
            await bucket.close()

    assert uvloop.run(main()) == sorted(KEYS, key=str.encode)
