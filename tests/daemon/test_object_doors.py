"""Buckets that are polled, and stores that post, through the whole daemon, killed in the middle."""

import http.client
import itertools
import json
import shutil
import socket
import textwrap
import threading
import time
from contextlib import contextmanager

import anyio
import pytest

from daemon_process import DaemonProcess, free_address
from parts import CHECKOUT

HANDLER = """
    import os

    def main(event, context):
        (record,) = event["Records"]
        with open(os.environ["LEDGER"], "a") as ledger:
            ledger.write(record["eventName"] + " " + record["s3"]["object"]["key"] + "\\n")
"""
NAMES = itertools.count()


def project(folder, trigger, connections=None):
    """A function that writes down what came."""
    (folder / "code").mkdir()
    (folder / "out").mkdir()
    (folder / "code" / "app.py").write_text(textwrap.dedent(HANDLER))
    out = {"type": "object-store", "via": "directory", "path": "out", "bucket": "out",
           "prefix": "none/", "write": True}  # fmt: skip
    config = {
        "version": 1,
        "connections": connections or {},
        "functions": {
            "uploads": {
                "code": "code",
                "handler": "app.main",
                "env": {"LEDGER": "/mnt/out/ledger"},
                "isolation": "best-effort",
                "triggers": {"uploads": {"type": "object-store", **trigger}, "out": out},
            }
        },
    }
    path = folder / "streamfaas.yaml"
    path.write_text(json.dumps(config))
    return path


def ran(folder):
    ledger = folder / "out" / "ledger"
    return ledger.read_text().splitlines() if ledger.exists() else []


# -- webhook


def document(key, number):
    described = {"key": key, "size": 1, "eTag": "e", "sequencer": f"{number:016X}"}
    record = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "eventName": "ObjectCreated:Put",
        "eventTime": "2026-01-02T03:04:05.678Z",
        "s3": {"bucket": {"name": "uploads"}, "object": described},
    }
    return json.dumps({"Records": [record]})


class Poster(threading.Thread):
    """Posts as a store with a queue does: each until it is answered by a 2xx. What was, is in
    `taken`."""

    def __init__(self, address, path, numbers, headers):
        super().__init__()
        self.address = address
        self.path = path
        self.numbers = numbers
        self.headers = {"content-type": "application/json", **headers}
        self.taken = []
        self.failed = 0
        self.seconds = []

    def run(self):
        connection = None
        for number in self.numbers:
            while number not in self.taken[-1:]:
                try:
                    connection = connection or http.client.HTTPConnection(self.address, timeout=30)
                    began = time.monotonic()
                    connection.request(
                        "POST", self.path, document(f"{number:05}", number), self.headers
                    )
                    answer = connection.getresponse()
                    answer.read()
                    self.seconds.append(time.monotonic() - began)
                    if 200 <= answer.status < 300:
                        self.taken.append(number)
                        continue
                except (OSError, http.client.HTTPException):
                    connection = None
                self.failed += 1
                time.sleep(0.02)
        if connection is not None:
            connection.close()


@contextmanager
def posting(address, count, threads=8, path="/uploads", headers=None):
    posters = [
        Poster(address, path, range(first, count, threads), headers or {})
        for first in range(threads)
    ]
    for each in posters:
        each.start()
    try:
        yield posters
    finally:
        for each in posters:
            each.join()


@pytest.mark.slow
def test_ten_thousand_that_were_answered_run_over_a_kill(tmp_path):
    address = free_address()
    trigger = {"via": "webhook", "listen": address, "path": "/uploads", "bucket": "uploads",
               "secret": "${SECRET}", "parallel": 30}  # fmt: skip
    config = project(tmp_path, trigger)
    env = {"SECRET": "not-for-the-log"}
    headers = {"authorization": "Bearer not-for-the-log"}
    with posting(address, 10_000, headers=headers) as posters:
        with DaemonProcess(config, env=env) as daemon:
            daemon.wait_for(lambda _: sum(len(each.taken) for each in posters) > 3_000, 60)
            daemon.process.kill()
            daemon.wait()
            assert "not-for-the-log" not in daemon.text
        with DaemonProcess(config, env=env) as daemon:
            daemon.wait_for(lambda _: len(set(ran(tmp_path))) == 10_000, 120)
            daemon.signal()
            assert daemon.wait() == 0
    taken = {f"ObjectCreated:Put {number:05}" for each in posters for number in each.taken}
    assert taken == set(ran(tmp_path))
    assert sum(each.failed for each in posters) > 0  # they met a daemon that was not there
    assert len(ran(tmp_path)) - 10_000 <= 30  # what was in hand when it was killed


@pytest.mark.slow
def test_the_example_is_posted_to_and_an_address_may_change_while_it_runs(tmp_path):
    """configs/webhook.yaml as it stands."""
    config = tmp_path / "webhook.yaml"
    config.write_text((CHECKOUT / "configs" / "webhook.yaml").read_text())
    shutil.copytree(CHECKOUT / "configs" / "functions", tmp_path / "functions")
    (tmp_path / "webhook").write_text("one secret\n")
    address, other = free_address(), free_address()
    env = {"CREDENTIALS_DIRECTORY": str(tmp_path), "WEBHOOK_ADDRESS": address}
    bearer = {"authorization": "Bearer one secret"}
    with DaemonProcess(config, env=env) as daemon:
        daemon.wait_ready()
        with posting(address, 20, headers=bearer):
            daemon.wait_told("ObjectCreated:Put uploads/00019 1")
        config.write_text(config.read_text().replace("${WEBHOOK_ADDRESS:-127.0.0.1:9001}", other))
        told = json.loads(daemon.request("POST", "/reload")[2])
        assert told["state"] == "reloaded", told
        with posting(other, 21, headers=bearer):
            daemon.wait_told("ObjectCreated:Put uploads/00020 1")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address.split(":"), 5)
        daemon.signal()
        assert daemon.wait() == 0


@pytest.mark.slow
def test_an_address_that_cannot_be_had_ends_the_start_and_not_a_reload(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        trigger = {"via": "webhook", "listen": address, "path": "/uploads", "bucket": "uploads"}
        config = project(tmp_path, trigger)
        with DaemonProcess(config) as daemon:
            assert daemon.wait() == 78
            assert f"cannot listen on {address}" in daemon.text
        config.write_text(config.read_text().replace(address, free_address()))
        with DaemonProcess(config) as daemon:
            daemon.wait_ready()
            free = json.loads(config.read_text())
            free["functions"]["uploads"]["triggers"]["uploads"]["listen"] = address
            config.write_text(json.dumps(free))
            told = json.loads(daemon.request("POST", "/reload")[2])
            assert told["state"] == "rolled back"
            assert f"cannot listen on {address}" in told["reason"]
            daemon.signal()
            assert daemon.wait() == 0


# -- poll


def bucket_of(server):
    async def make():
        async with server.client("s3") as client:
            await client.create_bucket(Bucket=name)

    name = f"doors-{next(NAMES)}"
    anyio.run(make)
    return name


def put(server, bucket, keys):
    async def main():
        room = anyio.Semaphore(16)

        async def one(key):
            async with room:
                await client.put_object(Bucket=bucket, Key=key, Body=b"x")

        async with server.client("s3") as client, anyio.create_task_group() as tasks:
            for key in keys:
                tasks.start_soon(one, key)

    anyio.run(main)


def access(server):
    return {"type": "aws", "region": "us-east-1", "endpoint_url": server.url,
            "access_key_id": "test", "secret_access_key": "${SECRET}"}  # fmt: skip


@pytest.mark.slow
def test_the_example_is_polled(tmp_path, ministack):
    """configs/poll.yaml as it stands."""
    config = tmp_path / "poll.yaml"
    config.write_text((CHECKOUT / "configs" / "poll.yaml").read_text())
    shutil.copytree(CHECKOUT / "configs" / "functions", tmp_path / "functions")

    async def make():
        async with ministack.client("s3") as client:
            await client.create_bucket(Bucket="uploads")

    anyio.run(make)
    put(ministack, "uploads", ["in/a b", "out/c"])
    env = {"STORE_URL": ministack.url, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    with DaemonProcess(config, env=env) as daemon:
        daemon.wait_told("ObjectCreated:Put uploads/in/a b 1")
        assert "out/c" not in daemon.text
        daemon.signal()
        assert daemon.wait() == 0


@pytest.mark.slow
def test_what_a_store_did_not_post_is_found_behind_a_webhook(tmp_path, moto):
    bucket = bucket_of(moto)
    put(moto, bucket, ["old"])
    time.sleep(2.5)  # a listing tells its time in whole seconds
    trigger = {"via": "webhook", "listen": free_address(), "bucket": bucket, "reconcile": "10s",
               "store": "store"}  # fmt: skip
    config = project(tmp_path, trigger, {"store": access(moto)})
    env = {"SECRET": "a-secret"}
    with DaemonProcess(config, env=env) as daemon:
        daemon.wait_ready()
        daemon.signal()
        assert daemon.wait() == 0
    put(moto, bucket, ["missed"])
    with DaemonProcess(config, env=env) as daemon:
        daemon.wait_for(lambda _: ran(tmp_path) == ["ObjectCreated:Put missed"])
        put(moto, bucket, ["and this"])  # the next listing finds it
        daemon.wait_for(lambda _: len(ran(tmp_path)) > 1)
        daemon.signal()
        assert daemon.wait() == 0
    # and not what was there when the trigger was born
    assert ran(tmp_path) == ["ObjectCreated:Put missed", "ObjectCreated:Put and+this"]
