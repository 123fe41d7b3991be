"""Real stand-ins for Kinesis: two servers of npm, on loopback, in memory.

They differ from the service, and from each other: kinesalite is quick, and never names the children
of a shard; kinesis-local does, and takes longer. `python tests/kinesis_servers.py --resolve`
fetches them ahead of the tests.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

from aws_servers import client_of
from parts import Unavailable, carry_out, fetched, promised, resolve
from server_process import started
from streamfaas.wire.aws import AwsAccess

KINDS = ("kinesalite", "kinesis-local")
_HERE = Path(__file__).resolve().parent


def modules() -> Path:
    """The folder with the packages of npm, fetched where they are not there yet."""
    lock = _HERE / "kinesis" / "package-lock.json"

    def fetch(folder: Path) -> None:
        npm = shutil.which("npm")
        if npm is None or shutil.which("node") is None:
            raise Unavailable("the Kinesis servers of the tests need node and npm: not found")
        for name in ("package.json", "package-lock.json"):
            shutil.copy(_HERE / "kinesis" / name, folder)
        quiet = ("--no-audit", "--no-fund", "--ignore-scripts")
        carry_out(npm, "ci", *quiet, folder=folder)

    return fetched(f"kinesis-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}", fetch)


@dataclass(frozen=True, slots=True)
class Kinesis:
    """A server that runs."""

    kind: str
    url: str

    @property
    def access(self) -> AwsAccess:
        return AwsAccess("us-east-1", self.url, "a-key", "a-secret")

    def client(self) -> AbstractAsyncContextManager[Any]:
        """The SDK's own client."""
        return client_of("kinesis", self.access)

    async def create(self, name: str, shards: int) -> None:
        """Returns once the stream can be used."""
        async with self.client() as client:
            # the SDK asks again where an answer was lost on its way, and the stream is there then
            with suppress(client.exceptions.ResourceInUseException):
                await client.create_stream(StreamName=name, ShardCount=shards)
            await active(client, name)

    async def put(self, name: str, records: list[tuple[str, bytes]]) -> None:
        async with self.client() as client:
            for start in range(0, len(records), 500):
                some = [{"PartitionKey": k, "Data": v} for k, v in records[start : start + 500]]
                answer = await client.put_records(StreamName=name, Records=some)
                assert answer["FailedRecordCount"] == 0


async def active(client: Any, name: str) -> None:
    with anyio.fail_after(20):
        while True:
            told = await client.describe_stream_summary(StreamName=name)
            if told["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE":
                return
            await asyncio.sleep(0.02)


async def split(client: Any, name: str, shard: str) -> None:
    """In its middle; returns once its children are there."""
    told = (await client.list_shards(StreamName=name))["Shards"]
    (places,) = [each["HashKeyRange"] for each in told if each["ShardId"] == shard]
    middle = (int(places["StartingHashKey"]) + int(places["EndingHashKey"])) // 2
    await client.split_shard(StreamName=name, ShardToSplit=shard, NewStartingHashKey=str(middle))
    await active(client, name)


@contextmanager
def running(kind: str) -> Iterator[Kinesis]:
    """A server of its own, ended by the end of its input."""
    node = shutil.which("node") or "node"
    known = {
        **os.environ,
        "KINESIS_MOCK_PLAIN_PORT": "4568",
        "KINESIS_MOCK_TLS_PORT": "4567",
        **{f"{what}_STREAM_DURATION": "5ms" for what in ("CREATE", "UPDATE", "DELETE")},
        **{f"{what}_DURATION": "5ms" for what in ("SPLIT_SHARD", "MERGE_SHARDS")},
        "UPDATE_SHARD_COUNT_DURATION": "5ms",
        "SHARD_LIMIT": "100",
        "LOG_LEVEL": "ERROR",
    }
    program = str(_HERE / "kinesis" / f"{kind}.cjs")
    with started(node, program, cwd=modules(), stdout=subprocess.PIPE, env=known) as process:
        assert process.stdout is not None
        line = process.stdout.readline().split()
        assert line[:1] == [b"port"], f"{kind} did not start: {process.poll()}"
        yield Kinesis(kind, f"http://127.0.0.1:{int(line[1])}")


@pytest.fixture(scope="session", params=KINDS)
def kinesis(request: pytest.FixtureRequest) -> Iterator[Kinesis]:
    """Each of the two in turn."""
    yield from _served(request.param)


@pytest.fixture(scope="session")
def kinesalite() -> Iterator[Kinesis]:
    yield from _served("kinesalite")


@pytest.fixture(scope="session")
def kinesis_local() -> Iterator[Kinesis]:
    yield from _served("kinesis-local")


def _served(kind: str) -> Iterator[Kinesis]:
    promised(modules)
    with running(kind) as server:
        yield server


if __name__ == "__main__":
    resolve(modules)
