"""doctor asks a bucket for itself."""

import json
import socket

import anyio
import pytest
import uvloop

from daemon_process import free_address
from minio_stream import minio_stream
from streamfaas.config.check import check
from streamfaas.daemon.desks import DeskRoom
from streamfaas.daemon.doctor import buckets, places
from streamfaas.wire.inbound import HERE, Answer


def config(folder, url, **triggers):
    (folder / "code").mkdir(exist_ok=True)
    (folder / "code" / "app.py").write_text("def main(event, context): pass\n")
    store = {"type": "aws", "region": "us-east-1", "endpoint_url": url, "access_key_id": "a",
             "secret_access_key": "${SECRET}"}  # fmt: skip
    function = {"code": "code", "handler": "app.main", "triggers": triggers}
    text = json.dumps({"version": 1, "connections": {"store": store}, "functions": {"f": function}})
    made, problems = check(text, name="c", base_dir=folder, environ={"SECRET": "x"})
    assert made is not None, problems
    return made


def findings(folder, url, bucket):
    listed = {"type": "object-store", "via": "poll", "connection": "store", "bucket": bucket}
    behind = {"type": "object-store", "via": "webhook", "bucket": bucket, "prefix": "in/",
              "reconcile": "10m", "store": "store"}  # fmt: skip
    alone = {"type": "object-store", "via": "webhook", "bucket": bucket}
    return uvloop.run(found(config(folder, url, listed=listed, behind=behind, alone=alone)))


async def found(asked):
    return [each for one in buckets.checks(asked) for each in await one.perform()]


@pytest.mark.slow
def test_a_bucket_that_is_there_is_told_of_and_one_that_is_not_has_a_remedy(tmp_path, moto):
    async def make():
        async with moto.client("s3") as client:
            await client.create_bucket(Bucket="asked-for")
            await client.put_object(Bucket="asked-for", Key="a", Body=b"")

    uvloop.run(make())
    listed, behind = findings(tmp_path, moto.url, "asked-for")
    assert listed.told == "f/listed bucket asked-for: is listed, and has objects"
    assert behind.told == "f/behind bucket asked-for: is listed, and has no objects below in/"
    for found in findings(tmp_path, moto.url, "forgotten"):
        assert "NoSuchBucket" in found.told
        assert "`bucket`" in found.remedy
    for found in findings(tmp_path, "http://127.0.0.1:1", "asked-for"):
        assert "`endpoint_url`" in found.remedy


@pytest.mark.slow
def test_a_store_that_tells_what_happens_is_told_of_and_one_that_does_not_has_a_remedy(
    tmp_path, moto
):
    heard = {"type": "object-store", "via": "listen", "connection": "store", "bucket": "heard"}

    async def main():
        async with moto.client("s3") as client:
            await client.create_bucket(Bucket="heard")
        async with minio_stream(moto.url) as stream:
            listed, told = await found(config(tmp_path, stream.url, heard=heard))
            assert "is listed" in listed.told
            assert (told.mark, told.told) == ("ok", "f/heard bucket heard: tells what happens")
        listed, told = await found(config(tmp_path, moto.url, heard=heard))
        assert listed.mark == "ok"
        assert (told.mark, told.code) == ("bad", "SF3053")
        assert "does not know MinIO's ListenNotification" in told.told
        assert "`via: poll`" in told.remedy

    uvloop.run(main())


def test_an_address_where_stores_post_is_free_ours_or_anothers(tmp_path):
    address = free_address()
    hook = {"type": "object-store", "via": "webhook", "bucket": "one-bucket", "listen": address,
            "secret": "${SECRET}"}  # fmt: skip
    asked = config(tmp_path, "http://127.0.0.1:1", hook=hook)

    async def look():
        (one,) = await places.desks(asked)
        return one.mark, one.told, one.code

    async def main():
        assert await look() == ("ok", f"webhook {address} is free for the daemon", "")
        room = DeskRoom({address: frozenset({"/f/hook"})})
        leave = room.place(address, "/f/hook", Desk())
        async with anyio.create_task_group() as tasks:
            ours = room.listener(address)
            ours.open()
            tasks.start_soon(ours.serve)
            assert await look() == ("ok", f"webhook {address}/f/hook answers", "")
            tasks.cancel_scope.cancel()
        ours.close()
        leave()
        host, port = address.split(":")
        with socket.create_server((host, int(port))) as another:
            another.settimeout(0)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(hang_up, another)
                mark, told, code = await look()
                tasks.cancel_scope.cancel()
            assert (mark, code) == ("bad", "SF3054")
            assert "address already in use" in told

    uvloop.run(main())


async def hang_up(listener):
    while True:
        await anyio.wait_readable(listener)
        listener.accept()[0].close()


class Desk:
    """Tells that it is here."""

    def admit(self, head):
        return Answer(200, HERE)
