"""Real servers that speak AWS' protocols, on loopback, in memory: ministack and moto.

They differ from AWS, and from each other; so what a test says of one it should say of both. They
live in a virtual environment of their own, since each wants its own versions of the SDK.
`python tests/aws_servers.py --resolve` makes it ahead of the tests, in the cache folder that
`STREAMFAAS_TEST_CACHE` names.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import parts
from streamfaas.wire import aws
from streamfaas.wire.aws import AwsAccess

KINDS = ("ministack", "moto")
ACCOUNT = {"ministack": "000000000000", "moto": "123456789012"}
_HERE = Path(__file__).resolve().parent
_RESOLVE_SECONDS = 300
_START_SECONDS = 60
_STOP_SECONDS = 10


class Unavailable(Exception):
    """There is none to be had on this machine; the text says why and what would help."""


def environment() -> Path:
    """The virtual environment of the servers, made where it is not there yet."""
    wanted = _HERE / "aws" / "requirements.txt"
    known = wanted.read_bytes() + sys.version.encode()
    cache = Path(os.environ.get("STREAMFAAS_TEST_CACHE") or _HERE.parent / ".cache")
    folder = cache / f"aws-{hashlib.sha256(known).hexdigest()[:12]}"
    if (folder / "complete").exists():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "aws.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            _run([sys.executable, "-m", "venv", str(folder)])
            install = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
            _run([*install, "--disable-pip-version-check", "-r", str(wanted)])
            (folder / "complete").touch()
    return folder


def _run(command: list[str]) -> None:
    done = subprocess.run(command, timeout=_RESOLVE_SECONDS, capture_output=True, check=False)
    if done.returncode:
        told = done.stderr.decode(errors="replace").strip().splitlines()[-3:]
        raise Unavailable(f"could not make the AWS servers of the tests: {' '.join(told)}")


@dataclass(frozen=True, slots=True)
class Aws:
    """A server that runs. All services are at one address."""

    kind: str
    url: str
    region: str = "us-east-1"

    @property
    def account(self) -> str:
        return ACCOUNT[self.kind]

    @property
    def access(self) -> AwsAccess:
        return AwsAccess(self.region, self.url, "test", "a-secret")

    @asynccontextmanager
    async def client(self, service: str) -> AsyncIterator[Any]:
        """The SDK's own client of a service."""
        async with AsyncExitStack() as life:
            yield await aws.client(service, self.access, life)


@contextmanager
def running(kind: str) -> Iterator[Aws]:
    """A server of its own, ended by the end of its input."""
    with serving(kind) as url:
        yield Aws(kind, url)


@contextmanager
def serving(kind: str, *arguments: str) -> Iterator[str]:
    """Where it answers."""
    python = environment() / "bin" / "python"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [str(python), str(_HERE / "aws" / "serve.py"), kind, str(port), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "AWS_DEFAULT_REGION": "us-east-1"},
    )
    assert process.stdin is not None
    try:
        _wait_answering(process, f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.stdin.close()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_answering(process: subprocess.Popen[bytes], url: str) -> None:
    until = time.monotonic() + _START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except urllib.error.HTTPError as answered:
            answered.close()
            return
        except OSError:
            assert process.poll() is None, f"it ended at once: {process.returncode}"
            assert time.monotonic() < until, f"{url} does not answer"
            time.sleep(0.05)


@pytest.fixture(scope="session", params=KINDS)
def aws_server(request: pytest.FixtureRequest) -> Aws:
    """Each of the two in turn."""
    server: Aws = request.getfixturevalue(request.param)
    return server


@pytest.fixture(scope="session")
def ministack() -> Iterator[Aws]:
    yield from _served("ministack")


@pytest.fixture(scope="session")
def moto() -> Iterator[Aws]:
    yield from _served("moto")


def _served(kind: str) -> Iterator[Aws]:
    try:
        environment()
    except Unavailable as error:
        parts.missing(str(error))
    with running(kind) as server:
        yield server


if __name__ == "__main__":
    if sys.argv[1:] != ["--resolve"]:
        sys.exit("usage: aws_servers.py --resolve")
    try:
        print(environment())
    except Unavailable as error:
        sys.exit(f"tests/aws_servers.py: {error}")
