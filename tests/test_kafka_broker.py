"""The real broker of the tests does what its fixture promises."""

from __future__ import annotations

import asyncio
import os

import pytest

from kafka_broker import Kafka

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


def test_what_is_produced_is_there_and_nothing_is_committed(kafka: Kafka) -> None:
    async def scenario() -> None:
        topic = await kafka.create_topic(partitions=3)
        await kafka.produce(topic, [b"value %d" % n for n in range(9)])
        assert await kafka.ends(topic) == {0: 3, 1: 3, 2: 3}
        assert await kafka.committed("nobody", topic) == {}
        assert await kafka.members("nobody") == 0
        await kafka.add_partitions(topic, 4)
        await kafka.delete_before(topic, 0, 2)
        await kafka.delete_topic(topic)

    asyncio.run(scenario())


def test_a_killed_broker_comes_back_with_its_data_on_the_same_port(kafka: Kafka) -> None:
    async def scenario() -> None:
        topic = await kafka.create_topic()
        await kafka.produce(topic, [b"kept"])
        before = kafka.broker.pid
        kafka.broker.kill()
        with pytest.raises(ProcessLookupError):
            os.kill(before, 0)
        await kafka.broker.start()
        assert await kafka.ends(topic) == {0: 1}
        await kafka.broker.restart()
        assert await kafka.ends(topic) == {0: 1}

    asyncio.run(scenario())
