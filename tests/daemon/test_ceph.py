"""A real Ceph that posts, is listed, and is listened to (by a stand-in before it that speaks as
MinIO does): the examples are run, also over a kill."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from hashlib import md5

import pytest

from daemon_process import DaemonProcess, free_address
from minio_stream import line, minio_stream
from parts import CHECKOUT
from uploads_project import had, have_run, project, put_quickly

COUNT = 60
MANY = 10_000


@pytest.mark.slow
def test_every_object_that_ceph_has_told_of_is_run_over_a_kill(tmp_path, ceph):
    address = free_address()
    shutil.copy(CHECKOUT / "configs" / "webhook.yaml", tmp_path)
    shutil.copytree(CHECKOUT / "configs" / "functions" / "uploads", tmp_path / "functions/uploads")
    (tmp_path / "webhook").write_text("a-secret\n")
    env = {"WEBHOOK_ADDRESS": address, "CREDENTIALS_DIRECTORY": str(tmp_path)}
    config = tmp_path / "webhook.yaml"

    async def put(client, number):
        """Answered once it was told of, and that was taken."""
        await client.put_object(Bucket="uploads", Key=f"a +{number}", Body=b"x")

    async def main():
        async with ceph.client("s3") as client:
            await client.create_bucket(Bucket="uploads")
            place = f"http://{address}/uploads?token=a-secret"
            with DaemonProcess(config, env=env) as daemon:
                await asyncio.to_thread(daemon.wait_ready)
                await ceph.notify("uploads", place, "s3:ObjectCreated:*")
                await asyncio.gather(*(put(client, number) for number in range(COUNT // 2)))
                daemon.process.kill()
                daemon.wait()
                first = daemon.text
            with DaemonProcess(config, env=env) as daemon:
                await asyncio.to_thread(daemon.wait_ready)
                await asyncio.gather(*(put(client, number) for number in range(COUNT // 2, COUNT)))
                wanted = {f"ObjectCreated:Put uploads/a +{number} 1" for number in range(COUNT)}
                await asyncio.to_thread(
                    daemon.wait_for, lambda _: all(each in first + daemon.text for each in wanted)
                )
                assert await asyncio.to_thread(daemon.stop) == 0

    asyncio.run(main())


def key(number):
    return f"in/ä photo+{number:05}.jpg"


@asynccontextmanager
async def bucket(ceph, name):
    """One that everybody may write to."""
    async with ceph.client("s3") as client:
        await client.create_bucket(Bucket=name, ACL="public-read-write")
        yield client


def environ(url):
    return {"STORE_URL": url, "AWS_REGION": "default", "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "a-secret"}  # fmt: skip


async def until(daemon, folder, count, seconds=120.0):
    """So many objects have run. The daemon is not asked meanwhile: it has enough to do."""
    async with asyncio.timeout(seconds):
        while not have_run(folder, count):
            assert daemon.process.poll() is None, daemon.text
            await asyncio.sleep(0.2)


async def killed(config, env, folder, count):
    """Once so many have run."""
    with DaemonProcess(config, "--quiet", env=env) as daemon:
        await until(daemon, folder, count)
        daemon.process.kill()
        daemon.wait()
    assert not have_run(folder, MANY)


def all_had(folder):
    found = had(folder)
    assert set(found) == {("ObjectCreated:Put", key(number)) for number in range(MANY)}
    assert len(found) - MANY <= 20  # what was in hand when it was killed


@pytest.mark.slow
def test_ten_thousand_objects_that_are_listed_run_over_a_kill(tmp_path, ceph):
    """configs/poll.yaml, but for its bucket: most are there at the first start."""
    config, env = project(tmp_path, "poll.yaml", "polled"), environ(ceph.url)

    async def main():
        async with bucket(ceph, "polled"):
            await put_quickly(ceph.url, "polled", map(key, range(MANY - 500)))
            await killed(config, env, tmp_path, 1_000)
            await put_quickly(ceph.url, "polled", map(key, range(MANY - 500, MANY)))
            with DaemonProcess(config, "--quiet", env=env) as daemon:
                await until(daemon, tmp_path, MANY)
                assert await asyncio.to_thread(daemon.stop) == 0

    asyncio.run(main())
    all_had(tmp_path)


@pytest.mark.slow
def test_ten_thousand_objects_that_are_listened_for_run_over_a_kill(tmp_path, ceph):
    """configs/listen.yaml, but for its bucket: of some that are put while nobody listens nothing is
    told, and the listing behind finds them."""
    config = project(tmp_path, "listen.yaml", "heard")

    def told(key):
        moment = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        etag = md5(b"x", usedforsecurity=False).hexdigest()
        stream.tell(line("heard", key, etag=etag, time=moment))

    async def main():
        nonlocal stream
        async with bucket(ceph, "heard"), minio_stream(ceph.url) as stream:
            env = environ(stream.url)

            async def put(first, last):
                await put_quickly(ceph.url, "heard", map(key, range(first, last)), told)

            with DaemonProcess(config, "--quiet", env=env) as daemon:
                await asyncio.to_thread(daemon.wait_ready)
                await put(0, 5_000)
                await until(daemon, tmp_path, 500)
                daemon.process.kill()
                daemon.wait()
            await put(5_000, 9_000)
            with DaemonProcess(config, "--quiet", env=env) as daemon:
                await asyncio.to_thread(daemon.wait_ready)
                await put(9_000, MANY)
                await until(daemon, tmp_path, MANY)
                assert await asyncio.to_thread(daemon.stop) == 0

    stream = None
    asyncio.run(main())
    all_had(tmp_path)
