"""Real stand-ins for Kinesis: two servers of npm, on loopback, in memory.

They differ from the service, and from each other: kinesalite is quick, and never names the children
of a shard; kinesis-local does, and takes longer. `python tests/kinesis_servers.py --resolve`
fetches them ahead of the tests, into the cache folder that `STREAMFAAS_TEST_CACHE` names.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

import parts
from streamfaas.wire import aws
from streamfaas.wire.aws import AwsAccess

KINDS = ("kinesalite", "kinesis-local")
_HERE = Path(__file__).resolve().parent
_RESOLVE_SECONDS = 180
_STOP_SECONDS = 10


class Unavailable(Exception):
    """There is none to be had on this machine; the text says why and what would help."""


def modules() -> Path:
    """The folder with the packages of npm, fetched where they are not there yet."""
    lock = _HERE / "kinesis" / "package-lock.json"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:12]
    cache = Path(os.environ.get("STREAMFAAS_TEST_CACHE") or _HERE.parent / ".cache")
    folder = cache / f"kinesis-{digest}"
    if (folder / "complete").exists():
        return folder
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise Unavailable("the Kinesis servers of the tests need node and npm: not found")
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "kinesis.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            for name in ("package.json", "package-lock.json"):
                shutil.copy(_HERE / "kinesis" / name, folder)
            command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
            done = subprocess.run(
                command, cwd=folder, timeout=_RESOLVE_SECONDS, capture_output=True, check=False
            )
            if done.returncode:
                told = done.stderr.decode(errors="replace").strip().splitlines()[-3:]
                raise Unavailable(f"npm could not fetch the Kinesis servers: {' '.join(told)}")
            (folder / "complete").touch()
    return folder


@dataclass(frozen=True, slots=True)
class Kinesis:
    """A server that runs."""

    kind: str
    url: str

    @property
    def access(self) -> AwsAccess:
        return AwsAccess("us-east-1", self.url, "a-key", "a-secret")

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Any]:
        """The SDK's own client."""
        async with AsyncExitStack() as life:
            yield await aws.client("kinesis", self.access, life)

    async def create(self, name: str, shards: int) -> None:
        """Returns once the stream can be used."""
        async with self.client() as client:
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


@contextmanager
def running(kind: str) -> Iterator[Kinesis]:
    """A server of its own, ended by the end of its input."""
    node = shutil.which("node") or "node"
    process = subprocess.Popen(
        [node, str(_HERE / "kinesis" / f"{kind}.cjs")],
        cwd=modules(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={
            **os.environ,
            "KINESIS_MOCK_PLAIN_PORT": "4568",
            "KINESIS_MOCK_TLS_PORT": "4567",
            **{f"{what}_STREAM_DURATION": "5ms" for what in ("CREATE", "UPDATE", "DELETE")},
            **{f"{what}_DURATION": "5ms" for what in ("SPLIT_SHARD", "MERGE_SHARDS")},
            "UPDATE_SHARD_COUNT_DURATION": "5ms",
            "SHARD_LIMIT": "100",
            "LOG_LEVEL": "ERROR",
        },
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = process.stdout.readline().split()
        assert line[:1] == [b"port"], f"{kind} did not start: {process.poll()}"
        yield Kinesis(kind, f"http://127.0.0.1:{int(line[1])}")
    finally:
        process.stdin.close()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


@pytest.fixture(scope="session", params=KINDS)
def kinesis(request: pytest.FixtureRequest) -> Iterator[Kinesis]:
    """Each of the two in turn."""
    yield from _served(request.param)


@pytest.fixture(scope="session")
def kinesalite() -> Iterator[Kinesis]:
    yield from _served("kinesalite")


def _served(kind: str) -> Iterator[Kinesis]:
    try:
        modules()
    except Unavailable as error:
        if parts.UNDER_CI:
            pytest.fail(str(error))
        pytest.skip(str(error))
    with running(kind) as server:
        yield server


if __name__ == "__main__":
    if sys.argv[1:] != ["--resolve"]:
        sys.exit("usage: kinesis_servers.py --resolve")
    try:
        print(modules())
    except Unavailable as error:
        sys.exit(f"tests/kinesis_servers.py: {error}")
