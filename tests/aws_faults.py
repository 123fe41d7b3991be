"""A door before ministack or moto that fails on command as AWS does: microburst.

`access` leads through the door, the server's own `access` past it. The rules are microburst's:

    async with faults.of({"service": "sqs", "error": {"code": "ThrottlingException"}}): ...
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from aws_servers import Aws, serving
from streamfaas.wire.aws import AwsAccess


@dataclass(frozen=True, slots=True)
class Faults:
    """A door that lets everything through until it is told otherwise."""

    server: Aws
    url: str

    @property
    def access(self) -> AwsAccess:
        return AwsAccess(self.server.region, self.url, "test", "a-secret")

    @asynccontextmanager
    async def of(self, *rules: dict[str, Any]) -> AsyncIterator[None]:
        """What fails inside of the block: of what a request fits, the first rule."""
        await self._ask("POST", "rules", list(rules))
        try:
            yield
        finally:
            await self._ask("POST", "rules", [])

    async def fired(self) -> list[dict[str, Any]]:
        """What has failed since this was asked the last time."""
        found: list[dict[str, Any]] = await self._ask("GET", "fired?limit=100000", None)
        await self._ask("DELETE", "fired", None)
        return found

    async def _ask(self, method: str, what: str, body: object) -> Any:
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, f"{self.url}/_microburst/{what}", json=body) as answer,
        ):
            assert answer.status == 200, await answer.text()
            return await answer.json()


@pytest.fixture(scope="session")
def ministack_faults(ministack: Aws) -> Iterator[Faults]:
    with serving("microburst", ministack.url) as url:
        yield Faults(ministack, url)


@pytest.fixture(scope="session")
def moto_faults(moto: Aws) -> Iterator[Faults]:
    with serving("microburst", moto.url) as url:
        yield Faults(moto, url)


@pytest.fixture(scope="session", params=["ministack_faults", "moto_faults"])
def aws_faults(request: pytest.FixtureRequest) -> Faults:
    """Each of the two in turn."""
    door: Faults = request.getfixturevalue(request.param)
    return door
