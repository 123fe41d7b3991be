from __future__ import annotations

import asyncio
import uuid
from contextlib import asynccontextmanager

import pytest

from kafka_reader import options
from replay_broker import ReplayBroker
from source_subjects import each_check, judge, numbered
from streamfaas.sources.kafka import Kafka
from streamfaas.testing.conformance import Subject


@asynccontextmanager
async def kafka():
    """A broker in this process, with three partitions written to in turn."""
    async with ReplayBroker() as broker:
        logs = broker.create("orders", partitions=3)

        def make(address=broker.bootstrap):
            while made:  # one process after the other: what was not closed is dead
                end(made.pop())
            chosen = options(
                address,
                group,
                "orders",
                session_timeout_seconds=1.0,
                rebalance_timeout_seconds=1.5,
            )
            clock = asyncio.get_running_loop().time
            made.append(Kafka("shop/orders", chosen, clock=clock, emit=lambda _: None))
            return made[-1]

        async def put(numbers):
            for number in numbers:
                logs[number % 3].append([b"value %d" % number], keys=[b"key %d" % (number % 7)])
            broker.written()

        async def revoke(source):
            source._member._coordinator.request_rejoin()

        group, made = uuid.uuid4().hex, []
        yield Subject(make, numbered(put), unreachable=lambda: make("127.0.0.1:1"), revoke=revoke)


def end(source):
    """As the end of its process: nothing more is sent, nobody is told."""
    member = source._member
    if member is not None and not source._closing:
        for task in filter(None, member._tasks()):
            task.cancel()
        for connection in member._client._conns.values():
            if connection._writer is not None:
                connection._writer.transport.abort()


@pytest.mark.slow
@each_check(queue=False, revoke=True, unreachable=True, seek=True, reread=True)
def test_kafka_keeps_the_contract_of_all_sources(check):
    judge(check, kafka())
