"""Buckets of real servers, and triggers on them that are driven as the engine would."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import orjson

from source_subjects import loop_clock
from streamfaas.daemon.listening import Listener
from streamfaas.sources.objects import Objects, ObjectsOptions
from streamfaas.sources.objects.polling import Polling, PollingOptions
from streamfaas.store import Store
from streamfaas.telemetry.signals import SourceChanged
from streamfaas.testing.conformance import Driver, driven
from streamfaas.wire.inbound import Desks

_NAMES = itertools.count()
ALL = ("s3:ObjectCreated:*", "s3:ObjectRemoved:*")


class World:
    """A bucket, the store of a trigger on it, and what the trigger says."""

    def __init__(self, server: Any, client: Any, bucket: str, store: Store) -> None:
        self.client = client
        self.bucket = bucket
        self.store = store
        self.told: list[object] = []
        self.polling = PollingOptions(server.access, bucket, interval_seconds=0.2)
        self.options = ObjectsOptions((bucket,), (), events=ALL, listed=True, parallel=20)

    def source(
        self,
        *feeds: Any,
        options: dict[str, Any] | None = None,
        desks: Desks | None = None,
        **polling: Any,
    ) -> Objects:
        """With these feeds, or one that lists."""
        chosen = replace(self.polling, **polling)
        ways = feeds or (partial(Polling, chosen),)
        return Objects(
            "photos/inbox",
            replace(self.options, feeds=ways, **(options or {})),
            store=self.store,
            clock=loop_clock,
            emit=self.told.append,
            desks=desks,
        )

    @asynccontextmanager
    async def served(self, listener: Listener) -> AsyncIterator[None]:
        """While it is, what is posted is taken."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve)
            yield
            tasks.cancel_scope.cancel()

    def behind(self, interval_seconds: float = 0.2) -> PollingOptions:
        """A listing behind a feed of notifications."""
        return replace(self.polling, existing=False, alone=False, interval_seconds=interval_seconds)

    def remarks(self) -> list[str]:
        return [each.reason for each in self.told if isinstance(each, SourceChanged)]

    async def put(self, *keys: str, content: bytes = b"") -> None:
        room = anyio.Semaphore(20)

        async def one(key: str) -> None:
            async with room:
                body = content or key.encode()
                await self.client.put_object(Bucket=self.bucket, Key=key, Body=body)

        async with anyio.create_task_group() as tasks:
            for key in keys:
                tasks.start_soon(one, key)

    async def delete(self, *keys: str) -> None:
        for key in keys:
            await self.client.delete_object(Bucket=self.bucket, Key=key)


@asynccontextmanager
async def world(server: Any, folder: Path) -> AsyncIterator[World]:
    name = f"objects-{next(_NAMES)}"
    store = await Store.open(folder / "state" / "streamfaas.db")
    try:
        async with server.client("s3") as client:
            await client.create_bucket(Bucket=name)
            yield World(server, client, name, store)
    finally:
        await store.close()


async def taken(driver: Driver, count: int, seconds: float = 30) -> list[tuple[str, str]]:
    """So many more events, finished with: name and key of each."""
    before = len(driver.seen)
    with anyio.fail_after(seconds):
        while len(driver.seen) < before + count:
            await driver.step()
            await driver.finish_all()
    return [named(record.value) for record in driver.seen[before:]]


def named(record: bytes | None) -> tuple[str, str]:
    told = orjson.loads(record or b"")
    return told["eventName"], told["s3"]["object"]["key"]


async def degraded(driver: Driver, seconds: float = 30) -> str:
    """Why it is, once it is."""
    with anyio.fail_after(seconds):
        while (view := driver.source.view()).state != "degraded":  # noqa: ASYNC110 - it tells nobody
            await anyio.sleep(0.02)
    return view.reason


async def running(driver: Driver, seconds: float = 30) -> None:
    """Once it is, what lists has listed."""
    with anyio.fail_after(seconds):
        while driver.source.view().state != "running":  # noqa: ASYNC110 - it tells nobody
            await anyio.sleep(0.02)


async def nothing_more(driver: Driver, seconds: float = 0.7) -> None:
    """For several listings."""
    before = len(driver.seen)
    with anyio.move_on_after(seconds):
        while True:
            await driver.step()
            await driver.finish_all()
    assert [named(record.value) for record in driver.seen[before:]] == []


__all__ = [
    "ALL",
    "World",
    "degraded",
    "driven",
    "named",
    "nothing_more",
    "running",
    "taken",
    "world",
]
