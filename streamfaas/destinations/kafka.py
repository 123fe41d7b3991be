"""Letters written into a Kafka topic, one record each, on every replica before it is said."""
# ruff: noqa: SLF001 - the library has no other door to what it still waits for

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar

import anyio
from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    KafkaError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    RecordListTooLargeError,
    UnknownTopicOrPartitionError,
)

from streamfaas.flow.errors import Gone, TooLarge, Unreachable, WorldError
from streamfaas.flow.letters import HOPS_HEADER, ID_HEADER, Letter
from streamfaas.wire.kafka import connection, quiet, reach, translated
from streamfaas.wire.kafka_options import SaslOptions, TlsOptions

REQUEST_SECONDS_MAX = 10.0
"""How long one request waits before the producer looks for another way."""

TRIES_MAX = 10
"""How often letters are sent while those of others are refused; after that the lane waits."""

BATCH_BYTES = 64 * 1024
"""Letters that go together, before they are compressed: well below what topics allow."""

STOP_SECONDS = 1.0
"""How long each part of a producer may take to end by itself."""


@dataclass(frozen=True, slots=True)
class KafkaTopicOptions:
    """One topic on one cluster. `send_seconds` bounds a whole `send`, connecting included.
    `message_bytes_max` refuses a letter before it is compressed; the topic's own limit
    (`max.message.bytes`) is for what is left after it."""

    brokers: tuple[str, ...]
    topic: str
    tls: TlsOptions | None = None
    sasl: SaslOptions | None = None
    client_id: str = "streamfaas"
    send_seconds: float = 30.0
    message_bytes_max: int = 8 * 1024 * 1024
    compression: str | None = "zstd"

    def __post_init__(self) -> None:
        assert self.brokers
        assert self.topic
        assert self.send_seconds > 0


class Kafka:
    """A destination of type `kafka`.

    Delivery: every letter is acknowledged by all replicas in sync before `send` returns; within
    one try the broker drops what comes twice, and a letter that was sent again after an error has
    the same `streamfaas-id`. Errors: `Unreachable` (nobody answers, or not in time), `Refused`
    (credentials, permissions, too large), `Gone` (no such topic). Permissions needed: Write and
    Describe on the topic, and IdempotentWrite on clusters older than Kafka 3.0.
    """

    kind: ClassVar[str] = "kafka"
    per_record: ClassVar[bool] = True

    def __init__(
        self, options: KafkaTopicOptions, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.name = f"{options.topic} on {','.join(options.brokers)}"
        self._options = options
        self._clock = clock
        self._turn = anyio.Lock()  # to connect
        self._producer: _Producer | None = None
        self._spoilt: list[_Producer] = []

    async def open(self) -> None:
        await self._within(self._connected())

    async def send(self, letters: Sequence[Letter]) -> None:
        for letter in letters:
            self._check(letter)
        await self._within(self._deliver(letters))

    async def close(self) -> None:
        if self._producer is not None:
            self._spoil(self._producer)
        await self._end_the_spoilt()

    # -- sending

    def _check(self, letter: Letter) -> None:
        size, limit = len(letter.document), self._options.message_bytes_max
        if size > limit:
            raise TooLarge(f"{self.name}: a letter of {size} bytes is over the limit of {limit}")

    async def _within(self, work: Awaitable[object]) -> None:
        seconds = self._options.send_seconds
        try:
            with anyio.fail_after(seconds):
                await work
        except TimeoutError as error:
            told = f"{self.name}: not acknowledged within {seconds:g} s"
            raise Unreachable(told) from error
        except KafkaError as error:
            raise self._told(error) from error

    async def _deliver(self, letters: Sequence[Letter]) -> None:
        for tries_left in reversed(range(TRIES_MAX)):
            producer = await self._connected()
            try:
                await producer.deliver(self._options.topic, letters)
            except BaseException as error:
                # it would go on with these letters by itself, and with a number missing in between
                # the broker would take no more from it
                self._spoil(producer)
                if not (tries_left and isinstance(error, _OF_OTHERS)):
                    raise
            else:
                return

    def _told(self, error: KafkaError) -> WorldError:
        if isinstance(error, (MessageSizeTooLargeError, RecordListTooLargeError)):
            return TooLarge(f"{self.name}: a letter is over the topic's limit, max.message.bytes")
        if isinstance(error, UnknownTopicOrPartitionError):
            return Gone(f"{self.name}: there is no such topic")
        return translated(error, self.name)

    # -- the producer

    async def _connected(self) -> _Producer:
        async with self._turn:
            if self._producer is None:
                await self._end_the_spoilt()
                self._producer = await self._connect()
            return self._producer

    async def _connect(self) -> _Producer:
        options = self._options
        quiet()
        asked = connection(options.tls, options.sasl, self._clock)
        await reach(options.brokers, asked, options.send_seconds / (len(options.brokers) + 1))
        producer = _Producer(options, asked)
        self._spoilt.append(producer)  # until it has come to life it is to be ended
        await producer.start(options.topic)
        self._spoilt.remove(producer)
        return producer

    def _spoil(self, producer: _Producer) -> None:
        if self._producer is producer:
            self._producer = None
            self._spoilt.append(producer)

    async def _end_the_spoilt(self) -> None:
        while self._spoilt:
            producer = self._spoilt[0]
            await producer.end()
            if producer in self._spoilt:  # else somebody else has ended it at the same time
                self._spoilt.remove(producer)


class _GivenUpError(KafkaError):  # type: ignore[misc] # all that are told so expect one of these
    """The producer is thrown away."""


_OF_OTHERS = (_GivenUpError, OutOfOrderSequenceNumber)
"""What comes of a letter of somebody else that was refused."""


class _Producer:
    """The library's producer, which can be ended whatever it waits for: by itself it ends only
    once all is sent."""

    def __init__(self, options: KafkaTopicOptions, asked: dict[str, Any]) -> None:
        request_ms = round(1000 * min(REQUEST_SECONDS_MAX, options.send_seconds / 2))
        self._producer = AIOKafkaProducer(
            bootstrap_servers=list(options.brokers),
            client_id=options.client_id,
            acks="all",
            enable_idempotence=True,
            compression_type=options.compression,
            max_batch_size=BATCH_BYTES,
            request_timeout_ms=request_ms,
            **asked,
        )
        self._requests: set[asyncio.Task[Any]] = set()
        sender = self._producer._sender
        self._send = sender._send_produce_req
        sender._send_produce_req = self._request

    async def start(self, topic: str) -> None:
        await self._producer.start()
        await self._producer.partitions_for(topic)  # from now on nobody waits to know them

    async def deliver(self, topic: str, letters: Sequence[Letter]) -> None:
        """All of them are acknowledged. Nobody else's letters share a batch with them, and with it
        their fate."""
        await self._producer.partitions_for(topic)
        waiting: list[asyncio.Future[Any]] = []
        try:
            for partition, batch in self._batches(topic, letters):
                batch.close()
                waiting.append(await self._producer.send_batch(batch, topic, partition=partition))
            if waiting:
                await asyncio.wait(waiting)
        except BaseException:
            for one in waiting:
                one.cancel()
            raise
        errors = [error for error in (one.exception() for one in waiting) if error is not None]
        if errors:
            raise errors[0]

    def _batches(self, topic: str, letters: Sequence[Letter]) -> Iterator[tuple[int, Any]]:
        filling: dict[int, Any] = {}
        for letter in letters:
            key, value = letter.key, letter.document
            record = {"key": key, "value": value, "headers": _headers(letter), "timestamp": None}
            partition: int = self._producer._partition(topic, None, key, value, key, value)
            if partition in filling and filling[partition].append(**record) is None:
                yield partition, filling.pop(partition)
            if partition not in filling:
                filling[partition] = self._producer.create_batch()
                filling[partition].append(**record)  # the first one fits whatever its size
        yield from filling.items()

    async def end(self) -> None:
        """Every task and connection, the stubborn ones by force."""
        producer, client = self._producer, self._producer.client
        producer._closed = True  # else it says that it was forgotten
        _fail(producer._message_accumulator)
        await _cancelled([producer._sender.sender_task, client._sync_task, *self._requests])
        _fail(producer._message_accumulator)  # who was about to add to it has done so by now
        connections = list(client._conns.values())
        readers = [one._read_task for one in connections]
        transports = [one._writer.transport for one in connections if one._writer is not None]
        with anyio.move_on_after(STOP_SECONDS), suppress(KafkaError, OSError):
            await client.close()
        await _cancelled(readers)
        for transport in transports:
            transport.abort()  # closed already, unless the other side would not have it

    async def _request(self, node: int, batches: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._requests.add(task)
        try:
            await self._send(node, batches)
        finally:
            self._requests.discard(task)


def _headers(letter: Letter) -> list[tuple[str, bytes]]:
    beside = [(name, value.encode()) for name, _, value in letter.attributes]
    return [(HOPS_HEADER, b"%d" % letter.hops), (ID_HEADER, letter.id.encode()), *beside]


async def _cancelled(tasks: Iterable[asyncio.Task[Any] | None]) -> None:
    """These tasks have ended."""
    running = [task for task in tasks if task is not None]
    for task in running:
        task.cancel()
    if running:
        await asyncio.wait(running, timeout=STOP_SECONDS)
    for task in running:
        if task.done() and not task.cancelled():
            task.exception()  # told already to whom it mattered


def _fail(accumulator: Any) -> None:
    """Tells all who wait for a letter that it is not sent any more, and all who come later."""
    accumulator._exception = _GivenUpError("the connection was given up")
    for queued in accumulator._batches.values():
        # a batch that waits for another try is in the queue alone, and fails as if it were in both
        accumulator._pending_batches.update(queued)
    for batch in list(accumulator._pending_batches):
        batch.failure(accumulator._exception)
        for one in (batch.future, batch._drain_waiter):
            if one.done() and not one.cancelled():
                one.exception()
