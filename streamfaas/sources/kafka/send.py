"""Test events for a topic that a trigger reads: each is on every replica before it is said."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
from aiokafka.errors import (
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    UnknownTopicOrPartitionError,
)

from streamfaas.flow.errors import CannotSend, Gone, TooLarge, Unreachable, WorldError
from streamfaas.flow.record import Lane
from streamfaas.sources import Message, Sent
from streamfaas.sources.kafka.options import KafkaOptions
from streamfaas.wire.kafka import connection, quiet, reach, translated
from streamfaas.wire.kafka_producer import Outgoing, Producer

SEND_SECONDS = 15.0
"""How long connecting may take, and then each message."""


@asynccontextmanager
async def sender(
    options: KafkaOptions,
    source: str,
    topic: str,
    partitions: int,
    clock: Callable[[], float],
) -> AsyncIterator[_Sender]:
    """A producer of its own, for as long as it is needed."""
    quiet()
    where = ",".join(options.brokers)
    producer: Producer | None = None
    try:
        try:
            with anyio.fail_after(SEND_SECONDS):
                asked = connection(options.tls, options.sasl, clock)
                await reach(options.brokers, asked, SEND_SECONDS / (len(options.brokers) + 1))
                producer = Producer(
                    options.brokers, asked, client_id=options.client_id, send_seconds=SEND_SECONDS
                )
                await producer.start(topic)
        except TimeoutError as error:
            raise Unreachable(f"{where}: not reached within {SEND_SECONDS:g} s") from error
        except KafkaError as error:
            raise translated(error, where) from error
        yield _Sender(producer, source, topic, partitions, where)
    finally:
        if producer is not None:
            with anyio.CancelScope(shield=True):
                await producer.end()


class _Sender:
    def __init__(
        self, producer: Producer, source: str, topic: str, partitions: int, where: str
    ) -> None:
        self.target = f"topic {topic} on {where}"
        self._producer = producer
        self._source = source
        self._topic = topic
        self._partitions = partitions

    async def send(self, message: Message) -> Sent:
        at = message.partition
        if at is not None and not 0 <= at < self._partitions:
            raise CannotSend(f"{self._topic} has {self._partitions} partitions, from 0 on")
        outgoing = Outgoing(message.value, message.key, message.headers, at)
        try:
            with anyio.fail_after(SEND_SECONDS):
                ((partition, offset),) = await self._producer.deliver(self._topic, [outgoing])
        except TimeoutError as error:
            told = f"{self.target}: not acknowledged within {SEND_SECONDS:g} s"
            raise Unreachable(f"{told}; it may have been written all the same") from error
        except KafkaError as error:
            raise self._told(error) from error
        lane = Lane(self._source, f"{self._topic}-{partition}")
        return Sent(f"{lane.name}@{offset}", lane, offset, message.key)

    def _told(self, error: KafkaError) -> WorldError:
        if isinstance(error, (MessageSizeTooLargeError, RecordListTooLargeError)):
            return TooLarge(f"{self.target}: the event is over its limit, max.message.bytes")
        if isinstance(error, UnknownTopicOrPartitionError):
            return Gone(f"{self.target}: there is no such topic")
        return translated(error, self.target)
