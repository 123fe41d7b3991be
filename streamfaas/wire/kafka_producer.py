"""Records written into a Kafka topic, each on every replica before it is said."""
# ruff: noqa: SLF001 - the library has no other door to what it still waits for

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import anyio
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from streamfaas.flow.record import Headers
from streamfaas.flow.value import value
from streamfaas.wire.kafka import begun

REQUEST_SECONDS_MAX = 10.0
"""How long one request waits before the producer looks for another way."""

BATCH_BYTES = 64 * 1024
"""Records that go together, before they are compressed: well below what topics allow."""

STOP_SECONDS = 1.0
"""How long each part of a producer may take to end by itself."""


@value
class Outgoing:
    """A record to be written; without a `partition`, its key says which."""

    value: bytes | None
    key: bytes | None = None
    headers: Headers = ()
    partition: int | None = None


class GivenUpError(KafkaError):  # type: ignore[misc] # all that are told so expect one of these
    """The producer is thrown away."""


class Producer:
    """The library's producer, which can be ended whatever it waits for: by itself it ends only
    once all is sent."""

    def __init__(
        self,
        brokers: Sequence[str],
        asked: dict[str, Any],
        *,
        client_id: str,
        send_seconds: float,
        compression: str | None = None,
    ) -> None:
        request_ms = round(1000 * min(REQUEST_SECONDS_MAX, send_seconds / 2))
        self._producer = AIOKafkaProducer(
            bootstrap_servers=list(brokers),
            client_id=client_id,
            acks="all",
            enable_idempotence=True,
            compression_type=compression,
            max_batch_size=BATCH_BYTES,
            request_timeout_ms=request_ms,
            **asked,
        )
        self._requests: set[asyncio.Task[Any]] = set()
        sender = self._producer._sender
        self._send = sender._send_produce_req
        sender._send_produce_req = self._request

    async def start(self, topic: str) -> None:
        await begun(self._producer.start)
        await self._producer.partitions_for(topic)  # from now on nobody waits to know them

    async def deliver(self, topic: str, records: Sequence[Outgoing]) -> list[tuple[int, int]]:
        """All of them are acknowledged: partition and first offset of each batch of them. Nobody
        else's records share a batch with them, and with it their fate."""
        await self._producer.partitions_for(topic)
        waiting: list[asyncio.Future[Any]] = []
        try:
            for partition, batch in self._batches(topic, records):
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
        return [(told.partition, told.offset) for told in (one.result() for one in waiting)]

    def _batches(self, topic: str, records: Sequence[Outgoing]) -> Iterator[tuple[int, Any]]:
        filling: dict[int, Any] = {}
        for one in records:
            key, data = one.key, one.value
            headers = list(one.headers)
            record = {"key": key, "value": data, "headers": headers, "timestamp": None}
            at = one.partition
            partition: int = self._producer._partition(topic, at, key, data, key, data)
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
    """Tells all who wait for a record that it is not sent any more, and all who come later."""
    accumulator._exception = GivenUpError("the connection was given up")
    for queued in accumulator._batches.values():
        # a batch that waits for another try is in the queue alone, and fails as if it were in both
        accumulator._pending_batches.update(queued)
    for batch in list(accumulator._pending_batches):
        batch.failure(accumulator._exception)
        for one in (batch.future, batch._drain_waiter):
            if one.done() and not one.cancelled():
                one.exception()
