"""What a batch of a partition is to a worker, and to whoever looks into it: pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import orjson
from aiokafka import TopicPartition

from streamfaas.flow.batch import Batch
from streamfaas.flow.event import Encoding, Event
from streamfaas.flow.record import Lane, Payload, Record, Records, Run
from streamfaas.sources.kafka.records import RawBatches, look
from streamfaas.wire.kafka_event import kafka_event


def shape(batch: Batch, servers: str) -> Event:
    """Raw where the batch is as it came: the worker looks into it. What somebody has looked into
    already, or picked records from, is JSON."""
    if not batch.unbroken or any(isinstance(run.payload, Records) for run in batch.runs):
        return Event(Encoding.JSON, (event(batch, servers),))
    place = place_of(batch.lane)
    describe = {
        "topic": place.topic,
        "partition": place.partition,
        "first": batch.first,
        "last": batch.last,
        "servers": servers,
        "checked": False,
    }
    return Event(Encoding.KAFKA, tuple(_raw_parts(batch)), orjson.dumps(describe))


def event(batch: Batch, servers: str) -> bytes:
    """The event as JSON. `CorruptBatch` where the bytes are damaged."""
    place = place_of(batch.lane)
    return kafka_event(place.topic, place.partition, servers, records(batch))


def records(batch: Batch) -> tuple[Record, ...]:
    """The records, looked at. `CorruptBatch` where the bytes are damaged."""
    found: list[Record] = []
    for payload, first, last in _stretches(batch.runs):
        if isinstance(payload, Records):
            found += payload.between(first, last)
        else:
            found += look(batch.lane, payload, first, last)
    return tuple(found)


def place_of(lane: Lane) -> TopicPartition:
    """The topic and partition that a lane is named after."""
    topic, _, partition = lane.name.rpartition("-")
    return TopicPartition(topic, int(partition))


def _raw_parts(batch: Batch) -> Iterator[memoryview]:
    """The record batches that a worker needs, each once, though a cut may lie within one."""
    for payload, first, last in _stretches(batch.runs):
        assert isinstance(payload, RawBatches)
        yield from payload.raw(first, last)


def _stretches(runs: Iterable[Run]) -> Iterator[tuple[RawBatches | Records, int, int]]:
    """Payloads with the positions wanted of them; neighbouring pieces of one payload are put
    together again."""
    wanted: list[Run] = []
    for run in runs:
        if wanted and (run.payload is not wanted[0].payload or run.first != wanted[-1].last + 1):
            yield _known(wanted[0].payload), wanted[0].first, wanted[-1].last
            wanted = []
        wanted.append(run)
    if wanted:
        yield _known(wanted[0].payload), wanted[0].first, wanted[-1].last


def _known(payload: Payload) -> RawBatches | Records:
    assert isinstance(payload, RawBatches | Records)
    return payload
