"""Backings of the sources, for the conformance suite: each holds nothing yet."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import dynamodb_tables
import kafka_broker
from aws_servers import Aws
from kinesis_servers import Kinesis as Server
from streamfaas.flow.batch import BatchPolicy
from streamfaas.flow.record import Instant, Lane
from streamfaas.sources import Source
from streamfaas.sources.backlog import AsyncInvocations, BacklogOptions
from streamfaas.sources.directory import Directory, DirectoryOptions
from streamfaas.sources.kafka import Kafka, KafkaOptions
from streamfaas.sources.memory import Memory, MemoryOptions, Stream
from streamfaas.sources.objects import Inbox, Objects, ObjectsOptions
from streamfaas.sources.sharded import dynamodb as sharded_dynamodb
from streamfaas.sources.sharded import kinesis as sharded_kinesis
from streamfaas.sources.sharded.dynamodb import DynamoDbOptions
from streamfaas.sources.sharded.kinesis import KinesisOptions
from streamfaas.sources.sharded.machine import ShardedLog
from streamfaas.sources.sharded.options import LogOptions
from streamfaas.sources.sqs import Sqs, SqsOptions
from streamfaas.store import Store
from streamfaas.store.backlog import Backlog
from streamfaas.testing.conformance import Subject
from streamfaas.wire.s3_notifications import Notification, Told, notification


@asynccontextmanager
async def kafka(broker: kafka_broker.Kafka) -> AsyncIterator[Subject]:
    """A topic of three partitions of a real broker. Each life is the same static member, so that
    the group need not wait for the death of the one before."""
    topic = await broker.create_topic("conformance", partitions=3)
    numbers = itertools.count()
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

    async def produce(count: int) -> None:
        some = list(itertools.islice(numbers, count))
        keys = [b"key %d" % (number % 7) for number in some]
        await broker.produce(topic, [b"value %d" % number for number in some], keys=keys)

    async def revoke(source: Source) -> None:
        assert isinstance(source, Kafka)
        source._member._coordinator.request_rejoin()

    yield Subject(make, produce, unreachable=lambda: make("127.0.0.1:1"), revoke=revoke)


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
    store = await Store.open(folder / "state" / "streamfaas.db")
    numbers = itertools.count()
    name = f"conformance-{next(_STREAMS)}"
    await server.create(name, 3)
    made: list[ShardedLog] = []
    log = LogOptions("trim_horizon", poll_seconds=0.2, records_max=7, commit_seconds=0.05)
    options = KinesisOptions(server.access, name, log)

    def maker(url: str) -> Callable[[], ShardedLog]:
        chosen = replace(options, access=replace(options.access, endpoint_url=url))

        def make() -> ShardedLog:
            made.append(sharded_kinesis.kinesis("shop/orders", chosen, store=store, emit=silent))
            return made[-1]

        return make

    async def produce(count: int) -> None:
        some = list(itertools.islice(numbers, count))
        await server.put(name, [(f"key {each % 7}", b"value %d" % each) for each in some])

    try:
        yield Subject(maker(server.url), produce, unreachable=maker("http://127.0.0.1:1"))
    finally:
        for source in made:  # those that nobody closed, too: there is no process that ends
            await source._stream.close()
        await store.close()


@asynccontextmanager
async def dynamodb(server: Aws, folder: Path) -> AsyncIterator[Subject]:
    """The stream of a table: each item is put once."""
    store = await Store.open(folder / "state" / "streamfaas.db")
    numbers = itertools.count()
    name = f"conformance-{next(_STREAMS)}"
    await dynamodb_tables.create(server, name)
    made: list[ShardedLog] = []
    log = LogOptions("trim_horizon", poll_seconds=0.25, records_max=25, commit_seconds=0.05)
    options = DynamoDbOptions(server.access, log, table=name)

    def maker(url: str) -> Callable[[], ShardedLog]:
        chosen = replace(options, access=replace(options.access, endpoint_url=url))

        def make() -> ShardedLog:
            made.append(sharded_dynamodb.dynamodb("shop/orders", chosen, store=store, emit=silent))
            return made[-1]

        return make

    async def produce(count: int) -> None:
        some = list(itertools.islice(numbers, count))
        await dynamodb_tables.put(server, name, [(f"key {n}", f"value {n}") for n in some])

    try:
        yield Subject(maker(server.url), produce, unreachable=maker("http://127.0.0.1:1"))
    finally:
        for source in made:
            await source._stream.close()
        await store.close()


_STREAMS = itertools.count()


@asynccontextmanager
async def sqs(server: Aws, *, fifo: bool = False) -> AsyncIterator[Subject]:
    """A queue, of many message groups if it is a FIFO one. What a life that crashes had in hand
    is to be had again after two seconds."""
    numbers = itertools.count()
    name = f"conformance-{next(_STREAMS)}" + (".fifo" if fifo else "")
    made: list[Sqs] = []
    options = SqsOptions(
        server.access, name, BatchPolicy(records_max=3), 8, visibility_seconds=2, wait_seconds=1
    )

    def maker(url: str) -> Callable[[], Sqs]:
        chosen = replace(options, access=replace(options.access, endpoint_url=url))

        def make() -> Sqs:
            room = lambda: 100  # noqa: E731
            made.append(Sqs("shop/orders", chosen, room=room, clock=loop_clock, emit=silent))
            return made[-1]

        return make

    async with server.client("sqs") as client:
        attributes = {"FifoQueue": "true"} if fifo else {}
        url = (await client.create_queue(QueueName=name, Attributes=attributes))["QueueUrl"]

        async def produce(count: int) -> None:
            some = list(itertools.islice(numbers, count))
            for start in range(0, count, 10):
                entries = [
                    {"Id": str(each), "MessageBody": f"value {each}"}
                    | ({"MessageGroupId": f"key {each % 53}", "MessageDeduplicationId": str(each)}
                       if fifo else {})
                    for each in some[start : start + 10]
                ]  # fmt: skip
                await client.send_message_batch(QueueUrl=url, Entries=entries)

        try:
            yield Subject(
                maker(server.url),
                produce,
                unreachable=maker("http://127.0.0.1:1"),
                queue=True,
                unordered=not fifo,
                counts_itself=True,
            )
        finally:
            for source in made:  # those that nobody closed, too: there is no process that ends
                await source._queue.close()


def loop_clock() -> Instant:
    return Instant(asyncio.get_running_loop().time())


def silent(signal: object) -> None:
    """Nobody listens."""


@asynccontextmanager
async def memory(kind: type[Memory] = Memory) -> AsyncIterator[Subject]:
    stream = Stream()
    numbers = itertools.count()
    options = MemoryOptions("orders", partitions=3, records=0)

    def make() -> Memory:
        return kind("shop/orders", options, clock=loop_clock, emit=silent, stream=stream)

    writer = make()

    async def produce(count: int) -> None:
        for number in itertools.islice(numbers, count):
            lane = Lane("shop/orders", f"orders-{number % 3}")
            writer.put(lane, b"value %d" % number, b"key %d" % (number % 7))
        for source in made:
            source.wake()

    async def revoke(source: Source) -> None:
        assert isinstance(source, Memory)
        source.revoke(source.lanes[1])

    made: list[Memory] = []

    def remembered() -> Memory:
        made.append(make())
        return made[-1]

    yield Subject(remembered, produce, revoke=revoke)


@asynccontextmanager
async def directory(folder: Path, kind: type[Directory] = Directory) -> AsyncIterator[Subject]:
    """Files that are moved in, and so are whole at once. Some have the same name in turn."""
    inbox = folder / "inbox"
    inbox.mkdir()
    store = await Store.open(folder / "state" / "streamfaas.db")
    numbers = itertools.count()
    options = DirectoryOptions(
        inbox, "inbox", interval_seconds=0.05, settle_seconds=0.0, parallel=8
    )

    async def produce(count: int) -> None:
        for number in itertools.islice(numbers, count):
            part = folder / "part"
            part.write_bytes(b"%d" % number)
            place = inbox / f"sub-{number % 3}" / f"file {number}"
            place.parent.mkdir(exist_ok=True)
            part.rename(place)

    def maker(path: Path) -> Callable[[], Directory]:
        chosen = replace(options, path=path)
        return lambda: kind("thumbs/inbox", chosen, store=store, clock=loop_clock, emit=silent)

    try:
        yield Subject(maker(inbox), produce, unreachable=maker(folder / "nowhere"), queue=True)
    finally:
        await store.close()


@asynccontextmanager
async def backlog(
    folder: Path, kind: type[AsyncInvocations] = AsyncInvocations
) -> AsyncIterator[Subject]:
    """Events that are accepted one by one, each with a request id of its own."""
    store = await Store.open(folder / "state" / "streamfaas.db")
    closed = await Store.open(folder / "closed" / "streamfaas.db")
    await closed.close()
    accepted = Backlog(store)
    numbers = itertools.count()
    options = BacklogOptions("mail", parallel=8)

    async def produce(count: int) -> None:
        for number in itertools.islice(numbers, count):
            await accepted.accept("mail", b'{"number":%d}' % number, f"request-{number}")

    def maker(chosen: Backlog) -> Callable[[], AsyncInvocations]:
        return lambda: kind("mail/async", options, backlog=chosen, clock=loop_clock, emit=silent)

    unreachable = maker(Backlog(closed))
    try:
        yield Subject(maker(accepted), produce, unreachable=unreachable, queue=True)
    finally:
        await store.close()


@asynccontextmanager
async def objects(folder: Path, kind: type[Objects] = Objects) -> AsyncIterator[Subject]:
    """Notifications that a feed is handed, some of the same key, and then in order."""
    store = await Store.open(folder / "state" / "streamfaas.db")
    closed = await Store.open(folder / "closed" / "streamfaas.db")
    await closed.close()
    numbers = itertools.count()
    carrier = Carrier()
    options = ObjectsOptions(("inbox",), (lambda means: carrier,), parallel=8)

    async def produce(count: int) -> None:
        carrier.put([created(number) for number in itertools.islice(numbers, count)])

    def maker(chosen: Store) -> Callable[[], Objects]:
        return lambda: kind("thumbs/inbox", options, store=chosen, clock=loop_clock, emit=silent)

    try:
        yield Subject(maker(store), produce, unreachable=maker(closed), queue=True)
    finally:
        await store.close()


def created(number: int) -> Notification:
    """Each is the first of its key."""
    return notification(
        Told("inbox", b"file %d" % number, "ObjectCreated:Put", number, f"{number:018X}")
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
