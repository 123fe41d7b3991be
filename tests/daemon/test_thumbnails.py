"""configs/thumbnails.yaml as it stands: a handler that was written for Lambda, with ministack and
with a real Ceph."""

from __future__ import annotations

import asyncio
import io
import shutil
import sys

import orjson
import pytest
from PIL import Image

from daemon_process import DaemonProcess
from parts import CHECKOUT
from streamfaas.flow.letters import Letter
from streamfaas.wire.object_keys import object_key

BUCKETS = ("photos", "thumbnails", "photos-dead")


@pytest.fixture(scope="session", params=["ministack", "ceph"])
def store(request):
    return request.getfixturevalue(request.param)


def photo(colour):
    made = io.BytesIO()
    Image.new("RGB", (640, 320), colour).save(made, "PNG")
    return made.getvalue()


def asked(store, *steps):
    """What each step, a coroutine function of a client, gives."""

    async def main():
        async with store.client("s3") as client:
            return [await step(client) for step in steps]

    return asyncio.run(main())


def put(key, body):
    return lambda client: client.put_object(Bucket="photos", Key=key, Body=body)


async def thumbnails(client):
    found = {}
    for each in (await client.list_objects(Bucket="thumbnails")).get("Contents", ()):
        answer = await client.get_object(Bucket="thumbnails", Key=each["Key"])
        found[each["Key"]] = Image.open(io.BytesIO(await answer["Body"].read())).size
    return found


async def dead(client):
    found = {}
    for each in (await client.list_objects(Bucket="photos-dead")).get("Contents", ()):
        answer = await client.get_object(Bucket="photos-dead", Key=each["Key"])
        found[each["Key"]] = await answer["Body"].read()
    return found


async def made(client):
    for name in BUCKETS:
        await client.create_bucket(Bucket=name)


@pytest.mark.slow
def test_a_photo_is_put_and_its_thumbnail_appears_in_the_other_bucket(tmp_path, store):
    text = (CHECKOUT / "configs" / "thumbnails.yaml").read_text()
    config = tmp_path / "thumbnails.yaml"
    config.write_text(text.replace("retries: {max: 5}", "retries: {max: 1, backoff: 10ms..20ms}"))
    shutil.copytree(CHECKOUT / "configs" / "functions" / "photos", tmp_path / "functions/photos")
    env = {"AWS_ENDPOINT_URL": store.url, "AWS_REGION": store.region, "VENV": sys.prefix,
           "S3_KEY": "test", "S3_SECRET": "a-secret"}  # fmt: skip
    photos = {"in/été 1+1.png": photo("red"), "b.png": photo("blue")}
    asked(store, made, *(put(key, body) for key, body in photos.items()))
    with DaemonProcess(config, env=env) as daemon:
        daemon.wait_for(lambda _: asked(store, thumbnails)[0].keys() == photos.keys(), 60)
        daemon.process.kill()
        daemon.wait()
        asked(store, put("none.png", b"no photo"), put("later.png", photo("green")))
        with DaemonProcess(config, env=env) as again:
            again.wait_for(lambda _: "later.png" in asked(store, thumbnails)[0], 60)
            again.wait_for(lambda _: asked(store, dead)[0], 60)
            assert "a-secret" not in again.text
            again.signal()
            assert again.wait() == 0
    found, letters = asked(store, thumbnails, dead)
    assert found == dict.fromkeys([*photos, "later.png"], (160, 80))
    ((key, document),) = letters.items()
    told = orjson.loads(document)
    assert key == object_key(Letter(told["streamfaas"]["id"], document))
    assert key.startswith("aws/lambda/thumbnails.photos/")
    (record,) = orjson.loads(told["payload"])["Records"]
    assert record["s3"]["object"]["key"] == "none.png"
    assert told["responsePayload"]["errorType"] == "UnidentifiedImageError"
