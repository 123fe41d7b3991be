"""Destinations of every kind over a backing of their own, for the suite that they all must keep."""

from __future__ import annotations

import asyncio
import gc
from contextlib import asynccontextmanager
from uuid import UUID

import anyio
import anyio.lowlevel
import pytest
import uvloop
from aiohttp import web
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import MessageSizeTooLargeError

from streamfaas.destinations.file import File
from streamfaas.destinations.function import Function
from streamfaas.destinations.http import Http, HttpOptions
from streamfaas.destinations.kafka import Kafka, KafkaTopicOptions
from streamfaas.flow.errors import Busy, Refused, StoreError, Unreachable
from streamfaas.flow.letters import Letter
from streamfaas.testing.deliveries import CHECKS, FAULT_CHECKS, Fault, Subject

SECONDS = 30.0
"""How long a destination waits for the other side. A machine of tests may be slow."""

SECONDS_IN_VAIN = 1.0
"""The same where it is known not to come."""


def named(check):
    return check.__name__.removeprefix("check_")


each_check = pytest.mark.parametrize("check", CHECKS, ids=named)
each_check_of_faults = pytest.mark.parametrize("check", FAULT_CHECKS, ids=named)


def judge(check, backing, fault="", *, of=(), loop=None):
    """Runs one check over a backing that holds nothing yet, which breaks in this way, if it is to;
    `of` are all the ways that there are."""

    async def main():
        async with backing as (subject, faults):
            assert not of or faults.keys() == set(of)
            await check(subject, *([faults[fault]] if fault else []))

    (loop or run)(main)


def run(main):
    """Runs it in a loop to which nothing else is told: no callback fails, and no error is lost."""
    told = []

    async def watched():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        await main()
        gc.collect()
        await anyio.lowlevel.checkpoint()

    uvloop.run(watched())
    assert told == []


# -- a file


@asynccontextmanager
async def file(folder, kind=File):
    path = folder / "aside" / "dead.jsonl"

    async def received():
        lines = path.read_bytes().splitlines() if path.exists() else []
        return [Letter("-", line) for line in lines]

    @asynccontextmanager
    async def in_the_way():
        if path.exists():
            path.rename(folder / "kept")
        if path.parent.exists():
            path.parent.rmdir()
        path.parent.write_text("a file where a directory should be")
        try:
            yield
        finally:
            path.parent.unlink()
            if (folder / "kept").exists():
                path.parent.mkdir()
                (folder / "kept").rename(path)

    yield (
        Subject(lambda: kind(path), received, frozenset()),
        {"gone": Fault("gone", Unreachable, in_the_way)},
    )


# -- a function


class Accepting:
    """A backlog that keeps what it is given, unless it is broken."""

    def __init__(self):
        self.kept, self.broken = [], None

    async def __call__(self, function, event, request_id, *, hops, trace):
        await anyio.lowlevel.checkpoint()
        if self.broken is not None:
            await self.broken()
        self.kept.append(Letter(UUID(request_id).hex, event, None, hops))


@asynccontextmanager
async def function(kind=Function, seconds=SECONDS):
    backlog = Accepting()

    async def received():
        return list(backlog.kept)

    def raising(error):
        async def broken():
            raise error

        return broken

    def fault(name, error, broken):
        @asynccontextmanager
        async def inflict():
            backlog.broken = broken
            try:
                yield
            finally:
                backlog.broken = None

        return Fault(name, error, inflict)

    def make():
        return kind("next", backlog, send_seconds=seconds)

    yield (
        Subject(make, received, frozenset({"id", "hops"})),
        {
            "full": fault("full", Busy, raising(Busy("the backlog is full"))),
            "lost": fault("lost", Unreachable, raising(StoreError("no space left on device"))),
            "slow": fault("slow", Unreachable, anyio.sleep_forever),
        },
    )


# -- an address


class Address:
    """A server on loopback that keeps what is posted to it. `answer` may give another one, or
    break the connection."""

    def __init__(self):
        self.kept, self.requests, self.answer = [], [], None
        self.port = 0
        self._runner = None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/hook"

    async def start(self):
        app = web.Application(client_max_size=1 << 24)
        app.router.add_post("/hook", self._handle)
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self):
        await self._runner.cleanup()

    async def _handle(self, request):
        if self.answer is not None and (other := await self.answer(request)) is not None:
            return other
        body = await request.read()
        headers = request.headers
        self.requests.append(request)
        self.kept.append(
            Letter(headers["streamfaas-id"], body, None, int(headers["streamfaas-hops"]))
        )
        return web.Response(status=204)


@asynccontextmanager
async def listening():
    address = Address()
    await address.start()
    try:
        yield address
    finally:
        await address.stop()


@asynccontextmanager
async def http(seconds=SECONDS):
    async with listening() as address:

        async def received():
            return list(address.kept)

        @asynccontextmanager
        async def down():
            await address.stop()
            try:
                yield
            finally:
                await address.start()

        def fault(name, error, answer):
            @asynccontextmanager
            async def inflict():
                address.answer = answer
                try:
                    yield
                finally:
                    address.answer = None

            return Fault(name, error, inflict)

        def says(status, **headers):
            async def answer(request):
                return web.Response(status=status, headers=headers, text="because\nof that")

            return answer

        async def slow(request):
            await anyio.sleep_forever()

        async def hangs_up(request):
            request.transport.abort()
            await anyio.sleep_forever()

        def make():
            return Http(HttpOptions(address.url, timeout_seconds=seconds))

        yield (
            Subject(make, received, frozenset({"id", "hops"})),
            {
                "down": Fault("down", Unreachable, down),
                "slow": fault("slow", Unreachable, slow),
                "hanging up": fault("hanging up", Unreachable, hangs_up),
                "failing": fault("failing", Unreachable, says(500)),
                "refusing": fault("refusing", Refused, says(401)),
                "too small": fault("too small", Refused, says(413)),
                "busy": fault("busy", Busy, says(429, **{"retry-after": "0"})),
            },
        )


# -- a topic


@asynccontextmanager
async def topic(kafka, seconds=SECONDS):
    name = await kafka.create_topic("dead", 2, {"max.message.bytes": "8000000"})

    def make():
        return Kafka(KafkaTopicOptions((kafka.bootstrap,), name, send_seconds=seconds))

    async def received():
        return await everything(kafka.bootstrap, name)

    @asynccontextmanager
    async def down():
        kafka.broker.kill()
        try:
            yield
        finally:
            await kafka.broker.start()

    @asynccontextmanager
    async def frozen():
        kafka.broker.freeze()
        try:
            yield
        finally:
            kafka.broker.thaw()

    @asynccontextmanager
    async def too_small():
        await allow(kafka, name, 40)
        try:
            yield
        finally:
            await allow(kafka, name, 8_000_000)

    yield (
        Subject(make, received, frozenset({"id", "key", "hops"})),
        {
            "down": Fault("down", Unreachable, down),
            "frozen": Fault("frozen", Unreachable, frozen),
            "too small": Fault("too small", Refused, too_small),
        },
    )


async def everything(bootstrap, name):
    """All letters in a topic."""
    found = []
    async for record in records(bootstrap, name):
        headers = dict(record.headers)
        if not headers:  # somebody has tried how much the topic takes
            continue
        found.append(
            Letter(
                headers["streamfaas-id"].decode(),
                record.value,
                record.key,
                int(headers["streamfaas-hops"]),
            )
        )
    return found


async def records(bootstrap, name):
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, max_partition_fetch_bytes=1 << 24)
    await consumer.start()
    try:
        places = [TopicPartition(name, number) for number in (0, 1)]
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        ends = await consumer.end_offsets(places)
        while any([await consumer.position(place) < ends[place] for place in places]):
            for batch in (await consumer.getmany(timeout_ms=100)).values():
                for record in batch:
                    yield record
    finally:
        await consumer.stop()


async def allow(kafka, name, size):
    """A topic takes batches up to this size; the answer comes before every part of the broker
    knows of it."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    try:
        config = {"max.message.bytes": str(size)}
        resource = ConfigResource(ConfigResourceType.TOPIC, name, configs=config)
        for answer in await admin.alter_configs([resource]):
            assert all(code == 0 for code, *_ in answer.resources), answer
    finally:
        await admin.close()
    async with kafka.producer() as producer:
        for partition in (0, 1):
            while await takes(producer, name, partition) != (size > 1000):  # noqa: ASYNC110 - it tells nobody
                await anyio.sleep(0.02)


async def takes(producer, name, partition):
    try:
        await producer.send_and_wait(name, b"x" * 100, partition=partition)
    except MessageSizeTooLargeError:
        return False
    return True
