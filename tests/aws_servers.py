"""Real servers that speak AWS' protocols, on loopback, in memory: ministack and moto.

They differ from AWS, and from each other; so what a test says of one it should say of both. They
live in a virtual environment of their own, since each wants its own versions of the SDK.
`python tests/aws_servers.py --resolve` makes it ahead of the tests.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from parts import carry_out, fetched, promised, resolve
from server_process import free_port, started, wait_answering
from streamfaas.wire import aws
from streamfaas.wire.aws import AwsAccess

KINDS = ("ministack", "moto")
ACCOUNT = {"ministack": "000000000000", "moto": "123456789012"}
_HERE = Path(__file__).resolve().parent


def environment() -> Path:
    """The virtual environment of the servers, made where it is not there yet."""
    wanted = _HERE / "aws" / "requirements.txt"

    def make(folder: Path) -> None:
        carry_out(sys.executable, "-m", "venv", str(folder))
        install = (str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet")
        carry_out(*install, "--disable-pip-version-check", "-r", str(wanted))

    known = wanted.read_bytes() + sys.version.encode()
    return fetched(f"aws-{hashlib.sha256(known).hexdigest()[:12]}", make)


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

    def client(self, service: str) -> AbstractAsyncContextManager[Any]:
        """The SDK's own client of a service."""
        return client_of(service, self.access)


@asynccontextmanager
async def client_of(service: str, access: AwsAccess) -> AsyncIterator[Any]:
    """The SDK's own, of whatever speaks as AWS does."""
    async with AsyncExitStack() as life:
        yield await aws.client(service, access, life)


@contextmanager
def running(kind: str) -> Iterator[Aws]:
    """A server of its own, ended by the end of its input."""
    with serving(kind) as url:
        yield Aws(kind, url)


@contextmanager
def serving(kind: str, *arguments: str) -> Iterator[str]:
    """Where it answers."""
    python, port = environment() / "bin" / "python", str(free_port())
    command = (str(python), str(_HERE / "aws" / "serve.py"), kind, port, *arguments)
    known = {**os.environ, "AWS_DEFAULT_REGION": "us-east-1"}
    with started(*command, stdout=subprocess.DEVNULL, env=known) as process:
        wait_answering(f"http://127.0.0.1:{port}", process)
        yield f"http://127.0.0.1:{port}"


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
    promised(environment)
    with running(kind) as server:
        yield server


if __name__ == "__main__":
    resolve(environment)
