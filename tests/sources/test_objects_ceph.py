"""A real Ceph that posts, and is listed: its writes wait for our answers."""

from functools import partial

import pytest
import uvloop

from daemon_process import free_address
from object_worlds import driven, nothing_more, taken, world
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
