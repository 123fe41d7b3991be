"""What tests do with a broker: topics, records, and what groups have committed."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete

if TYPE_CHECKING:
    from kafka_broker import Broker

_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Kafka:
    """A broker to test with: what is in it, asked for and changed over its plain listener."""

    bootstrap: str
    _broker: Broker | None = None

    @property
    def broker(self) -> Broker:
        """The process, to be harmed. Skips the test where the broker is somebody else's."""
        if self._broker is None:
            pytest.skip("STREAMFAAS_TEST_KAFKA names a broker that is not ours to harm")
        return self._broker

    async def create_topic(
        self,
        stem: str = "topic",
        partitions: int = 1,
        config: Mapping[str, str] | None = None,
        *,
        named: bool = False,
    ) -> str:
        """A new topic with a name that nobody has used before; `named`: of exactly that name."""
        unused = f"{stem}-{os.getpid()}-{next(_numbers)}-{random.randrange(1 << 32):08x}"
        name = stem if named else unused
        async with administering(self.bootstrap) as admin:
            topic = NewTopic(name, partitions, 1, topic_configs=dict(config or {}))
            response = await admin.create_topics([topic])
            for _, code, reason in response.topic_errors:
                assert code == 0, reason
            # the answer comes before every part of the broker knows of the partitions
            while True:
                (about,) = await admin.describe_topics([name])
                leaders = [part["leader"] for part in about["partitions"]]
                if not about["error_code"] and len(leaders) == partitions and min(leaders) >= 0:
                    return name
                await asyncio.sleep(0.02)

    async def delete_topic(self, topic: str) -> None:
        async with administering(self.bootstrap) as admin:
            response = await admin.delete_topics([topic])
            assert all(code == 0 for _, code in response.topic_error_codes)

    async def add_partitions(self, topic: str, total: int) -> None:
        async with administering(self.bootstrap) as admin:
            await admin.create_partitions({topic: NewPartitions(total)})

    async def delete_before(self, topic: str, partition: int, offset: int) -> None:
        """Moves the log's start, as retention would."""
        async with administering(self.bootstrap) as admin:
            await admin.delete_records({TopicPartition(topic, partition): RecordsToDelete(offset)})

    async def produce(
        self,
        topic: str,
        values: Iterable[bytes],
        *,
        partition: int | None = None,
        keys: Sequence[bytes] | None = None,
        **options: Any,
    ) -> None:
        """All values, acknowledged. Without a partition they go round robin."""
        async with self.producer(**options) as producer:
            partitions = sorted(await producer.partitions_for(topic))
            sent = []
            for index, value in enumerate(values):
                where = partitions[index % len(partitions)] if partition is None else partition
                key = keys[index] if keys else None
                sent.append(await producer.send(topic, value, key=key, partition=where))
            await producer.flush()
            for one in sent:
                one.result()

    @contextlib.asynccontextmanager
    async def producer(self, **options: Any) -> AsyncIterator[AIOKafkaProducer]:
        producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap, **options)
        await producer.start()
        try:
            yield producer
        finally:
            await producer.stop()

    async def ends(self, topic: str) -> dict[int, int]:
        """The end offset of every partition."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap)
        await consumer.start()
        try:
            await consumer._client.force_metadata_update()
            consumer.subscribe([topic])
            places = [TopicPartition(topic, p) for p in consumer.partitions_for_topic(topic) or ()]
            return {
                place.partition: end for place, end in (await consumer.end_offsets(places)).items()
            }
        finally:
            await consumer.stop()

    async def committed(self, group: str, topic: str) -> dict[int, int]:
        """What the group has committed of the topic; a partition without a commit is absent."""
        async with self.watching(group) as look:
            return await look(topic)

    @contextlib.asynccontextmanager
    async def watching(
        self, group: str
    ) -> AsyncIterator[Callable[[str], Awaitable[dict[int, int]]]]:
        """Asks as `committed` does, again and again over one connection."""
        async with administering(self.bootstrap) as admin:
            where = await admin.find_coordinator(group)

            async def look(topic: str) -> dict[int, int]:
                offsets = await admin.list_consumer_group_offsets(group, group_coordinator_id=where)
                return {
                    place.partition: given.offset
                    for place, given in offsets.items()
                    if place.topic == topic and given.offset >= 0
                }

            yield look

    async def members(self, group: str) -> int:
        """How many members the group has now."""
        async with administering(self.bootstrap) as admin:
            (response,) = await admin.describe_consumer_groups([group])
        return sum(len(about[5]) for about in response.groups)

    async def wait_for_commit(
        self, group: str, topic: str, offsets: Mapping[int, int], seconds: float = 60
    ) -> None:
        """Until the group has committed at least these offsets."""
        deadline = time.monotonic() + seconds
        while True:
            given = await self.committed(group, topic)
            if all(given.get(partition, 0) >= offset for partition, offset in offsets.items()):
                return
            assert time.monotonic() < deadline, f"committed {given}, wanted {dict(offsets)}"
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def administering(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    """A client that makes, asks for and removes, over a broker's plain listener."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=20_000)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()
