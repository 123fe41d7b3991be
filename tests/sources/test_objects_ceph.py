"""A real Ceph that posts, and is listed: its writes wait for our answers."""

from contextlib import asynccontextmanager
from functools import partial

import pytest
import uvloop

from daemon_process import free_address
from object_worlds import driven, nothing_more, running, taken, world
from streamfaas.daemon.desks import DeskRoom
from streamfaas.sources.objects.polling import Polling
from streamfaas.sources.objects.webhook import Webhook, WebhookOptions

KEYS = ["plain.jpg", "in/a b+c.jpg", "é/ü%2F.jpg", "x" * 200 + "/./y&z=1"]


@pytest.mark.slow
def test_what_ceph_posts_runs_once_and_what_it_could_not_post_is_found(ceph, tmp_path):
    async def main():
        address = free_address()
        desks = DeskRoom({address: frozenset({"/in"})})
        listener = desks.listener(address)
        listener.open()
        try:
            async with world(ceph, tmp_path) as made, made.served(listener):
                options = WebhookOptions(address, "/in", "wer da")
                feeds = (partial(Webhook, options), partial(Polling, made.behind()))
                where = f"http://{address}/in?token=wer%20da"
                await ceph.notify(made.bucket, where, "s3:ObjectCreated:*", "s3:ObjectRemoved:*")
                async with driven(made.source(*feeds, desks=desks)) as driver:
                    await nothing_more(driver)
                    for key in KEYS:
                        await made.put(key)
                    found = await taken(driver, len(KEYS))
                    assert len(set(found)) == len(KEYS)
                    await made.delete(KEYS[0])
                    assert (await taken(driver, 1))[0][0].startswith("ObjectRemoved:")
                    await nothing_more(driver, 3)  # for some listings more
                await made.put("missed")  # it was answered 503, and Ceph does not ask again
                async with driven(made.source(*feeds, desks=desks)) as driver:
                    assert await taken(driver, 1) == [("ObjectCreated:Put", "missed")]
                    await nothing_more(driver)
        finally:
            listener.close()

    uvloop.run(main())


@pytest.mark.slow
def test_a_bucket_of_ceph_is_polled(ceph, tmp_path):
    async def main():
        async with world(ceph, tmp_path) as made:
            await made.put(*KEYS)
            async with driven(made.source(page=3)) as driver:
                assert len(set(await taken(driver, len(KEYS)))) == len(KEYS)
                await made.delete(KEYS[1])
                await made.put(KEYS[0], content=b"other")
                assert sorted(await taken(driver, 2)) == [
                    ("ObjectCreated:Put", "plain.jpg"),
                    ("ObjectRemoved:Delete", "in/a+b%2Bc.jpg"),
                ]
                await nothing_more(driver)

    uvloop.run(main())


@asynccontextmanager
async def behind_a_webhook(ceph, tmp_path):
    """A bucket that is posted of, and listed, with who takes what comes."""
    address = free_address()
    desks = DeskRoom({address: frozenset({"/in"})})
    listener = desks.listener(address)
    listener.open()
    try:
        async with world(ceph, tmp_path) as made, made.served(listener):
            feeds = (
                partial(Webhook, WebhookOptions(address, "/in")),
                partial(Polling, made.behind()),
            )
            await ceph.notify(
                made.bucket, f"http://{address}/in", "s3:ObjectCreated:*", "s3:ObjectRemoved:*"
            )
            async with driven(made.source(*feeds, desks=desks)) as driver:
                await running(driver)
                yield made, driver
    finally:
        listener.close()


@pytest.mark.slow
def test_versions_come_and_go_and_the_object_stays(ceph, tmp_path):
    async def main():
        async with behind_a_webhook(ceph, tmp_path) as (made, driver):
            await made.client.put_bucket_versioning(
                Bucket=made.bucket, VersioningConfiguration={"Status": "Enabled"}
            )
            versions = []
            for content in (b"first", b"second", b"third"):
                answer = await made.client.put_object(Bucket=made.bucket, Key="a", Body=content)
                versions.append(answer["VersionId"])
            assert [key for _, key in await taken(driver, 3)] == ["a"] * 3
            for version in versions[:2]:
                await made.client.delete_object(Bucket=made.bucket, Key="a", VersionId=version)
                assert (await taken(driver, 1))[0] == ("ObjectRemoved:Delete", "a")
            await nothing_more(driver, 3)  # it is there, as it was
            marker = await made.client.delete_object(Bucket=made.bucket, Key="a")
            assert (await taken(driver, 1))[0] == ("ObjectRemoved:DeleteMarkerCreated", "a")
            await made.client.delete_object(
                Bucket=made.bucket, Key="a", VersionId=marker["VersionId"]
            )
            # it is back: the store tells of the marker alone
            assert sorted(await taken(driver, 2)) == [
                ("ObjectCreated:Put", "a"), ("ObjectRemoved:Delete", "a"),
            ]  # fmt: skip

    uvloop.run(main())


@pytest.mark.slow
def test_what_is_uploaded_in_parts_or_copied_runs_once(ceph, tmp_path):
    async def main():
        async with behind_a_webhook(ceph, tmp_path) as (made, driver):
            where = {"Bucket": made.bucket, "Key": "parts"}
            upload = (await made.client.create_multipart_upload(**where))["UploadId"]
            tags = []
            for number, content in ((1, b"x" * (5 << 20)), (2, b"y")):
                part = await made.client.upload_part(
                    **where, UploadId=upload, PartNumber=number, Body=content
                )
                tags.append({"PartNumber": number, "ETag": part["ETag"]})
            await made.client.complete_multipart_upload(
                **where, UploadId=upload, MultipartUpload={"Parts": tags}
            )
            await made.client.copy_object(
                Bucket=made.bucket, Key="copy", CopySource=f"{made.bucket}/parts"
            )
            found = await taken(driver, 2)
            assert sorted(key for _, key in found) == ["copy", "parts"]
            await nothing_more(driver, 3)  # for some listings more

    uvloop.run(main())
