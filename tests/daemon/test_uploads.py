"""Notifications of a bucket through the whole daemon, killed in the middle."""

from __future__ import annotations

import asyncio
import json
import textwrap
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote_plus

import pytest

from aws_servers import Aws
from daemon_process import DaemonProcess
from object_scene import bucket
from uploads_project import LEDGER, have_run, keys, project

T = TypeVar("T")


def begun(folder: Path, bucket: str, via: str = "sqs") -> Path:
    """configs/uploads.yaml on a queue that is named as the bucket is."""
    changes = (("queue: uploads", f"queue: {bucket}"), ("via: sqs", f"via: {via}"))
    return project(folder, "uploads.yaml", bucket, *changes)


def record(bucket: str, number: int) -> dict[str, object]:
    described = {
        "key": quote_plus(key(number), safe="/"),
        "size": number,
        "eTag": f"{number:032x}",
        "sequencer": f"{number + 1:018X}",
    }
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": "us-east-1",
        "eventTime": "2026-01-02T03:04:05.678Z",
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": bucket}, "object": described},
    }


def key(number: int) -> str:
    return f"in/ä photo {number}.jpg"


def batched(some: Iterable[T], count: int) -> Iterator[tuple[T, ...]]:
    left = iter(some)
    while batch := tuple(islice(left, count)):
        yield batch


def messages(bucket: str, numbers: Iterable[int]) -> Iterator[str]:
    """Five events each."""
    for some in batched(numbers, 5):
        yield json.dumps({"Records": [record(bucket, number) for number in some]})


async def send(aws: Aws, queue: str, bodies: Iterable[str]) -> None:
    async with aws.client("sqs") as sqs:
        for some in batched(bodies, 10):
            entries = [{"Id": str(n), "MessageBody": body} for n, body in enumerate(some)]
            answer = await sqs.send_message_batch(QueueUrl=queue, Entries=entries)
            assert not answer.get("Failed")


def environ(aws: Aws) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": aws.url,
        "AWS_REGION": aws.region,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "a-secret",
    }


@pytest.mark.slow
def test_ten_thousand_events_reach_the_function_over_a_kill(tmp_path, ministack):
    """Some come twice, as S3 may have it, and two objects are really put."""
    aws: Aws = ministack

    async def begin() -> tuple[str, str]:
        async with bucket(aws, "sqs") as (name, queue, s3):
            await s3.put_object(Bucket=name, Key="in/really put.jpg", Body=b"a")
            await s3.put_object(Bucket=name, Key="out/really put.jpg", Body=b"a")
            await send(aws, queue, messages(name, range(5_000)))
            await send(aws, queue, [*messages(name, range(500)), "no notification at all"])
            return name, queue

    name, queue = asyncio.run(begin())
    config = begun(tmp_path, name)
    env = environ(aws)
    with DaemonProcess(config, env=env) as daemon:
        daemon.wait_for(lambda _: have_run(tmp_path, 1_000), 90)
        daemon.process.kill()
        daemon.wait()
    assert len(keys(tmp_path)) < 10_000
    asyncio.run(send(aws, queue, messages(name, range(5_000, 10_000))))
    with DaemonProcess(config, env=env) as daemon:
        daemon.wait_for(lambda _: have_run(tmp_path, 10_001), 180)
        daemon.wait_for(lambda status: status["triggers"]["uploads/uploads"]["set_aside"] == 1)
        daemon.signal()
        assert daemon.wait() == 0
    found = keys(tmp_path)
    assert set(found) == {key(number) for number in range(10_000)} | {"in/really put.jpg"}
    assert len(found) - 10_001 <= 20  # what was in hand when it was killed
    (letter,) = map(json.loads, (tmp_path / "dead-uploads.jsonl").read_text().splitlines())
    assert letter["requestContext"]["condition"] == "MalformedNotification"
    assert letter["payload"] == "no notification at all"


@pytest.mark.slow
@pytest.mark.parametrize("via", ["sns-sqs", "eventbridge-sqs"])
def test_what_is_put_is_told_through_others_over_a_kill(tmp_path, ministack, via):
    """A real bucket tells a topic or EventBridge, and that the queue."""
    aws: Aws = ministack

    async def put(s3: Any, name: str, numbers: Iterable[int]) -> None:
        for number in numbers:
            await s3.put_object(Bucket=name, Key=key(number), Body=b"a")

    async def begin() -> str:
        async with bucket(aws, via) as (name, queue, s3), aws.client("sqs") as sqs:
            # what the daemon has not deleted when it is killed is hidden for so long
            asked = {"VisibilityTimeout": "2"}
            await sqs.set_queue_attributes(QueueUrl=queue, Attributes=asked)
            await put(s3, name, range(100))
            return name

    async def go_on(name: str) -> None:
        async with aws.client("s3") as s3:
            await put(s3, name, range(100, 150))

    name = asyncio.run(begin())
    config = begun(tmp_path, name, via)
    with DaemonProcess(config, env=environ(aws)) as daemon:
        daemon.wait_for(lambda _: have_run(tmp_path, 20))
        daemon.process.kill()
        daemon.wait()
    asyncio.run(go_on(name))
    with DaemonProcess(config, env=environ(aws)) as daemon:
        daemon.wait_for(lambda _: have_run(tmp_path, 150), 60)
        assert "messages come as by" not in daemon.text
        assert daemon.stop() == 0
    found = keys(tmp_path)
    assert set(found) == {key(number) for number in range(150)}
    assert len(found) - 150 <= 20  # what was in hand when it was killed


@pytest.mark.slow
def test_what_was_accepted_for_a_trigger_that_is_renamed_is_told_of_until_it_is_back(
    tmp_path, ministack
):
    aws: Aws = ministack

    async def begin() -> str:
        async with bucket(aws, "sqs") as (name, queue, _):
            await send(aws, queue, messages(name, range(20)))
            return name

    config = begun(tmp_path, asyncio.run(begin()))
    (tmp_path / "functions" / "uploads" / "ledger.py").write_text("def handler(*_): 1 / 0")
    with DaemonProcess(config, env=environ(aws)) as daemon:
        daemon.wait_for(lambda status: "uploads/uploads" in status["triggers"])
        daemon.wait_for(lambda _: waiting(daemon) == 20)
        text = config.read_text()
        config.write_text(text.replace("      uploads:\n", "      renamed:\n"))
        reload = json.loads(daemon.request("POST", "/reload")[2])
        assert reload["changes"]["unclaimed"] == {"uploads/uploads": 20}
        assert daemon.status()["unclaimed"] == {"uploads/uploads": 20}
        daemon.wait_told("20 events wait for uploads/uploads, which is not configured")
        (tmp_path / "functions" / "uploads" / "ledger.py").write_text(textwrap.dedent(LEDGER))
        config.write_text(text)
        daemon.request("POST", "/reload")
        daemon.wait_for(lambda _: have_run(tmp_path, 20))
        assert daemon.status()["unclaimed"] == {}
        daemon.signal()
        assert daemon.wait() == 0


def waiting(daemon: DaemonProcess) -> int:
    shown = json.loads(daemon.request("GET", "/triggers/uploads/uploads")[2])
    return int(shown["details"]["source"].get("pending", 0))
