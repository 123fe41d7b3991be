"""Backings of the sources, for the conformance suite: each holds nothing yet."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvloop

import dynamodb_tables
import kafka_broker
from aws_servers import Aws
from kinesis_servers import Kinesis as Server
from streamfaas.flow.batch import BatchPolicy
from streamfaas.flow.record import Instant, Lane, Record
from streamfaas.sources import Source
from streamfaas.sources.backlog import AsyncInvocations, BacklogOptions
from streamfaas.sources.directory import Directory, DirectoryOptions
from streamfaas.sources.kafka import Kafka, KafkaOptions
from streamfaas.sources.memory import Memory, MemoryOptions, Stream
from streamfaas.sources.objects import Inbox, Objects, ObjectsOptions
from streamfaas.sources.sharded import dynamodb as sharded_dynamodb
from streamfaas.sources.sharded import kinesis as sharded_kinesis
from streamfaas.sources.sharded.dynamodb import DynamoDb, DynamoDbOptions
from streamfaas.sources.sharded.kinesis import Kinesis, KinesisOptions
from streamfaas.sources.sharded.machine import ShardedLog
from streamfaas.sources.sharded.options import LogOptions
from streamfaas.sources.sqs import Sqs, SqsOptions
from streamfaas.store import Store
from streamfaas.store.backlog import Backlog
from streamfaas.testing.conformance import Check, Subject, checks
from streamfaas.wire.s3_event import Notification, S3Change, notification

NOWHERE = "http://127.0.0.1:1"
_STREAMS = itertools.count()

Put = Callable[[Sequence[int]], Awaitable[None]]
"""Puts records of these numbers in."""


def each_check(**has: bool) -> pytest.MarkDecorator:
    """One test for each check that applies to a subject which has these."""
    chosen = checks(**has)
    ids = [check.__name__.removeprefix("check_") for check in chosen]
    return pytest.mark.parametrize("check", chosen, ids=ids)


def judge(check: Check, backing: AbstractAsyncContextManager[Subject]) -> None:
    """Runs one check over a backing that holds nothing yet."""

    async def main() -> None:
        async with backing as subject:
            await check(subject)

    uvloop.run(main())


def numbered(put: Put) -> Callable[[int], Awaitable[None]]:
    """Produces by it: each number once."""
    numbers = itertools.count()

    async def produce(count: int) -> None:
        await put(list(itertools.islice(numbers, count)))

    return produce


@asynccontextmanager
async def kafka(broker: kafka_broker.Kafka) -> AsyncIterator[Subject]:
    """A topic of three partitions of a real broker. Each life is the same static member, so that
    the group need not wait for the death of the one before."""
    topic = await broker.create_topic("conformance", partitions=3)
    made: list[Kafka] = []

    def make(address: str = broker.bootstrap) -> Kafka:
        while made:
            _cut_off(made.pop())
        options = KafkaOptions(
            brokers=(address,),
            topics=(topic,),
            group=topic,
            start="earliest",
            instance_id="one",
            commit_seconds=0.05,
        )
        clock = asyncio.get_running_loop().time
        made.append(Kafka("shop/orders", options, clock=clock, emit=silent))
        return made[-1]

    async def put(numbers: Sequence[int]) -> None:
        keys = [b"key %d" % (number % 7) for number in numbers]
        await broker.produce(topic, [b"value %d" % number for number in numbers], keys=keys)

    async def revoke(source: Source) -> None:
        assert isinstance(source, Kafka)
        source._member._coordinator.request_rejoin()

    nowhere = NOWHERE.removeprefix("http://")
    yield Subject(make, numbered(put), unreachable=lambda: make(nowhere), revoke=revoke)


def _cut_off(source: Kafka) -> None:
    """What the end of its process does to a source that was not closed."""
    member = source._member
    if member is None or source._closing:
        return
    for task in filter(None, member._tasks()):
        task.cancel()
    for connection in list(member._client._conns.values()):
        if connection._writer is not None:
            connection._writer.transport.abort()
            connection.close()  # what it has not read yet would keep it open in its own eyes


@asynccontextmanager
async def kinesis(server: Server, folder: Path) -> AsyncIterator[Subject]:
    """A stream of three shards."""
    name = f"conformance-{next(_STREAMS)}"
    await server.create(name, 3)
    log = LogOptions("trim_horizon", poll_seconds=0.2, records_max=7, commit_seconds=0.05)
    options = KinesisOptions(server.access, name, log)

    async def put(numbers: Sequence[int]) -> None:
        await server.put(name, [(f"key {n % 7}", b"value %d" % n) for n in numbers])

    async with _shards(folder, sharded_kinesis.kinesis, options, put) as subject:
        yield subject


@asynccontextmanager
async def dynamodb(server: Aws, folder: Path) -> AsyncIterator[Subject]:
    """The stream of a table: each item is put once."""
    name = f"conformance-{next(_STREAMS)}"
    await dynamodb_tables.create(server, name)
    log = LogOptions("trim_horizon", poll_seconds=0.25, records_max=25, commit_seconds=0.05)
    options = DynamoDbOptions(server.access, log, table=name)

    async def put(numbers: Sequence[int]) -> None:
        await dynamodb_tables.put(server, name, [(f"key {n}", f"value {n}") for n in numbers])

    async with _shards(folder, sharded_dynamodb.dynamodb, options, put) as subject:
        yield subject


@asynccontextmanager
async def _shards(
    folder: Path, make: Callable[..., ShardedLog], options: Any, put: Put
) -> AsyncIterator[Subject]:
    made: list[ShardedLog] = []
    async with _store(folder / "state") as store:

        def maker(chosen: Any) -> Callable[[], ShardedLog]:
            def remembered() -> ShardedLog:
                made.append(make("shop/orders", chosen, store=store, emit=silent))
                return made[-1]

            return remembered

        try:
            unreachable = maker(elsewhere(options))
            yield Subject(maker(options), numbered(put), unreachable=unreachable, spot=_sequence)
        finally:
            for source in made:  # those that nobody closed, too: there is no process that ends
                await source._stream.close()


def _sequence(record: Record) -> str:
    """Where a shard is read on from a record on."""
    if (known := Kinesis().known_by(record)) is None:
        known = DynamoDb().known_by(record)
    return known.decode()


@asynccontextmanager
async def sqs(server: Aws, *, fifo: bool = False) -> AsyncIterator[Subject]:
    """A queue, of many message groups if it is a FIFO one. What a life that crashes had in hand
    is to be had again after two seconds."""
    name = f"conformance-{next(_STREAMS)}" + (".fifo" if fifo else "")
    made: list[Sqs] = []
    options = SqsOptions(
        server.access, name, BatchPolicy(records_max=3), 8, visibility_seconds=2, wait_seconds=1
    )

    def maker(chosen: SqsOptions) -> Callable[[], Sqs]:
        def make() -> Sqs:
            room = lambda: 100  # noqa: E731
            made.append(Sqs("shop/orders", chosen, room=room, clock=loop_clock, emit=silent))
            return made[-1]

        return make

    async with server.client("sqs") as client:
        attributes = {"FifoQueue": "true"} if fifo else {}
        url = (await client.create_queue(QueueName=name, Attributes=attributes))["QueueUrl"]

        async def put(numbers: Sequence[int]) -> None:
            for start in range(0, len(numbers), 10):
                entries = [
                    {"Id": str(each), "MessageBody": f"value {each}"}
                    | ({"MessageGroupId": f"key {each % 53}", "MessageDeduplicationId": str(each)}
                       if fifo else {})
                    for each in numbers[start : start + 10]
                ]  # fmt: skip
                await client.send_message_batch(QueueUrl=url, Entries=entries)

        try:
            yield Subject(
                maker(options),
                numbered(put),
                unreachable=maker(elsewhere(options)),
                queue=True,
                unordered=not fifo,
                counts_itself=True,
            )
        finally:
            for source in made:
                await source._queue.close()


def elsewhere(options: Any) -> Any:
    """The same, and nobody is there."""
    return replace(options, access=replace(options.access, endpoint_url=NOWHERE))


def loop_clock() -> Instant:
    return Instant(asyncio.get_running_loop().time())


def silent(signal: object) -> None:
    """Nobody listens."""


@asynccontextmanager
async def memory(kind: type[Memory] = Memory) -> AsyncIterator[Subject]:
    stream = Stream()
    options = MemoryOptions("orders", partitions=3, records=0)
    made: list[Memory] = []

    def make() -> Memory:
        made.append(kind("shop/orders", options, clock=loop_clock, emit=silent, stream=stream))
        return made[-1]

    writer = make()

    async def put(numbers: Sequence[int]) -> None:
        for number in numbers:
            lane = Lane("shop/orders", f"orders-{number % 3}")
            writer.put(lane, b"value %d" % number, b"key %d" % (number % 7))
        for source in made:
            source.wake()

    async def revoke(source: Source) -> None:
        assert isinstance(source, Memory)
        source.revoke(source.lanes[1])

    yield Subject(make, numbered(put), revoke=revoke)


@asynccontextmanager
async def directory(folder: Path, kind: type[Directory] = Directory) -> AsyncIterator[Subject]:
    """Files that are moved in, and so are whole at once. Some have the same name in turn."""
    inbox = folder / "inbox"
    inbox.mkdir()
    options = DirectoryOptions(
        inbox, "inbox", interval_seconds=0.05, settle_seconds=0.0, parallel=8
    )

    async def put(numbers: Sequence[int]) -> None:
        for number in numbers:
            part = folder / "part"
            part.write_bytes(b"%d" % number)
            place = inbox / f"sub-{number % 3}" / f"file {number}"
            place.parent.mkdir(exist_ok=True)
            part.rename(place)

    async with _store(folder / "state") as store:

        def maker(path: Path) -> Callable[[], Directory]:
            chosen = replace(options, path=path)
            return lambda: kind("thumbs/inbox", chosen, store=store, clock=loop_clock, emit=silent)

        unreachable = maker(folder / "nowhere")
        yield Subject(maker(inbox), numbered(put), unreachable=unreachable, queue=True)


@asynccontextmanager
async def backlog(
    folder: Path, kind: type[AsyncInvocations] = AsyncInvocations
) -> AsyncIterator[Subject]:
    """Events that are accepted one by one, each with a request id of its own."""
    options = BacklogOptions("mail", parallel=8)

    def maker(chosen: Store) -> Callable[[], AsyncInvocations]:
        accepted = Backlog(chosen)
        return lambda: kind("mail/async", options, backlog=accepted, clock=loop_clock, emit=silent)

    async with _store(folder / "state") as store, _store(folder / "closed") as closed:
        await closed.close()
        accepted = Backlog(store)

        async def put(numbers: Sequence[int]) -> None:
            for number in numbers:
                await accepted.accept("mail", b'{"number":%d}' % number, f"request-{number}")

        yield Subject(maker(store), numbered(put), unreachable=maker(closed), queue=True)


@asynccontextmanager
async def objects(folder: Path, kind: type[Objects] = Objects) -> AsyncIterator[Subject]:
    """Notifications that a feed is handed, some of the same key, and then in order."""
    carrier = Carrier()
    options = ObjectsOptions(("inbox",), (lambda means: carrier,), parallel=8)

    async def put(numbers: Sequence[int]) -> None:
        carrier.put([created(number) for number in numbers])

    def maker(chosen: Store) -> Callable[[], Objects]:
        return lambda: kind("thumbs/inbox", options, store=chosen, clock=loop_clock, emit=silent)

    async with _store(folder / "state") as store, _store(folder / "closed") as closed:
        await closed.close()
        yield Subject(maker(store), numbered(put), unreachable=maker(closed), queue=True)


@asynccontextmanager
async def _store(folder: Path) -> AsyncIterator[Store]:
    store = await Store.open(folder / "streamfaas.db")
    try:
        yield store
    finally:
        await store.close()


def created(number: int) -> Notification:
    """Each is the first of its key."""
    return notification(
        S3Change("inbox", b"file %d" % number, "ObjectCreated:Put", number, f"{number:018X}")
    )


class Carrier:
    """A feed that hands on what it was given, and forgets it once the inbox has it."""

    name = "the carrier"
    trouble: str | None = ""

    def __init__(self) -> None:
        self.carried: list[Notification] = []
        self._came = asyncio.Event()

    def put(self, notifications: Iterable[Notification]) -> None:
        self.carried += notifications
        self._came.set()

    async def open(self) -> None:
        self._came.set()

    async def run(self, inbox: Inbox) -> None:
        while True:
            await self._came.wait()
            self._came.clear()
            await inbox.wait_for_room()
            await inbox.take(given := self.carried[:])
            del self.carried[: len(given)]

    async def close(self) -> None:
        """Nothing is open."""
