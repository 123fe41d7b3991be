"""A daemon that is killed between the intent of a letter and its delivery."""

from __future__ import annotations

import asyncio
import json
import textwrap
import time

import pytest

import aws_subjects
from daemon_process import DaemonProcess

HANDLER = """
    import os

    def main(event, context):
        with open("/mnt/out/ledger", "a") as ledger:
            ledger.write(event["Records"][0]["s3"]["object"]["key"] + "\\n")
        raise KeyError("no")
"""
DESTINATIONS = {
    "sqs": {"type": "sqs", "connection": "aws", "queue": "killed"},
    "s3": {"type": "s3", "connection": "aws", "bucket": "killed"},
}


def project(folder, url, kind):
    for name in ("code", "in", "out"):
        (folder / name).mkdir()
    (folder / "code" / "app.py").write_text(textwrap.dedent(HANDLER))
    (folder / "in" / "a.txt").write_text("a")
    bucket = {"type": "object-store", "via": "directory", "settle": "0s"}
    config = {
        "version": 1,
        "connections": {
            "aws": {"type": "aws", "region": "us-east-1", "endpoint_url": url,
                    "access_key_id": "test", "secret_access_key": "${SECRET}"}
        },
        "functions": {
            "f": {
                "code": "code",
                "handler": "app.main",
                "isolation": "best-effort",
                "triggers": {
                    "t": {**bucket, "path": "in", "bucket": "inbox", "retries": {"max": 0},
                          "on_failure": DESTINATIONS[kind]},
                    "out": {**bucket, "path": "out", "bucket": "out", "prefix": "none/",
                            "write": True},
                },
            }
        },
    }  # fmt: skip
    path = folder / "streamfaas.yaml"
    path.write_text(json.dumps(config))
    return path


async def received(server, kind):
    if kind == "s3":
        async with server.client("s3") as client:
            return [letter for _, letter in await aws_subjects.objects(client, "killed")]
    async with server.client("sqs") as client:
        return await aws_subjects.drained(client, "killed")


async def made(server):
    async with server.client("s3") as client:
        await client.create_bucket(Bucket="killed")
    async with server.client("sqs") as client:
        await client.create_queue(QueueName="killed")


@pytest.mark.slow
@pytest.mark.parametrize("kind", DESTINATIONS)
def test_what_was_intended_is_delivered_by_the_next_daemon_and_nothing_runs_twice(
    tmp_path, kind, ministack_faults
):
    faults, env = ministack_faults, {"SECRET": "a-secret"}
    config = project(tmp_path, faults.url, kind)
    ledger = tmp_path / "out" / "ledger"

    async def hung_and_killed():
        operation = {"sqs": "SendMessage", "s3": "PutObject"}[kind]
        async with faults.of({"service": kind, "operation": operation, "timeout_ms": 600_000}):
            await asyncio.to_thread(run_and_kill)

    def run_and_kill():
        with DaemonProcess(config, env=env) as daemon:
            daemon.wait_for(lambda _: ledger.exists(), 60)
            daemon.wait_for(lambda _: daemon.request("GET", "/dlq")[2].count(b"intended"), 60)
            time.sleep(0.2)  # it is being sent
            daemon.process.kill()
            daemon.wait()

    asyncio.run(made(faults.server))
    asyncio.run(hung_and_killed())
    assert asyncio.run(received(faults.server, kind)) == []
    with DaemonProcess(config, env=env) as daemon:
        daemon.wait_for(lambda _: daemon.request("GET", "/dlq")[2].count(b"settled"), 60)
        assert daemon.stop() == 0
    (letter,) = asyncio.run(received(faults.server, kind))
    document = json.loads(letter.document)
    assert document["streamfaas"]["id"] == letter.id
    assert document["streamfaas"]["mapping"] == "f/t"
    assert ledger.read_text().splitlines() == ["a.txt"]
