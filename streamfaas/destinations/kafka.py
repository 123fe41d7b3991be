"""Letters written into a Kafka topic, one record each, on every replica before it is said."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import anyio
from aiokafka.errors import (
    KafkaError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    RecordListTooLargeError,
    UnknownTopicOrPartitionError,
)

from streamfaas.flow.errors import Gone, TooLarge, Unreachable, WorldError
from streamfaas.flow.letters import HOPS_HEADER, ID_HEADER, Letter, Payload
from streamfaas.wire.kafka import connection, quiet, reach, translated
from streamfaas.wire.kafka_options import SaslOptions, TlsOptions
from streamfaas.wire.kafka_producer import GivenUpError, Outgoing, Producer

TRIES_MAX = 10
"""How often letters are sent while those of others are refused; after that the lane waits."""


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
    notes: ClassVar[bool] = False
    payload: Payload = "json"

    def __init__(
        self, options: KafkaTopicOptions, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.name = f"{options.topic} on {','.join(options.brokers)}"
        self._options = options
        self._clock = clock
        self._turn = anyio.Lock()  # to connect
        self._producer: Producer | None = None
        self._spoilt: list[Producer] = []

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
                await producer.deliver(self._options.topic, list(map(_outgoing, letters)))
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

    async def _connected(self) -> Producer:
        async with self._turn:
            if self._producer is None:
                await self._end_the_spoilt()
                self._producer = await self._connect()
            return self._producer

    async def _connect(self) -> Producer:
        options = self._options
        quiet()
        asked = connection(options.tls, options.sasl, self._clock)
        await reach(options.brokers, asked, options.send_seconds / (len(options.brokers) + 1))
        producer = Producer(
            options.brokers,
            asked,
            client_id=options.client_id,
            send_seconds=options.send_seconds,
            compression=options.compression,
        )
        self._spoilt.append(producer)  # until it has come to life it is to be ended
        await producer.start(options.topic)
        self._spoilt.remove(producer)
        return producer

    def _spoil(self, producer: Producer) -> None:
        if self._producer is producer:
            self._producer = None
            self._spoilt.append(producer)

    async def _end_the_spoilt(self) -> None:
        while self._spoilt:
            producer = self._spoilt[0]
            await producer.end()
            if producer in self._spoilt:  # else somebody else has ended it at the same time
                self._spoilt.remove(producer)


_OF_OTHERS = (GivenUpError, OutOfOrderSequenceNumber)
"""What comes of a letter of somebody else that was refused."""


def _outgoing(letter: Letter) -> Outgoing:
    beside = [(name, value.encode()) for name, _, value in letter.attributes]
    headers = [(HOPS_HEADER, b"%d" % letter.hops), (ID_HEADER, letter.id.encode()), *beside]
    return Outgoing(letter.document, letter.key, tuple(headers))
