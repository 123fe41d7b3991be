"""Kinesis: the dialect of its records, and a source that reads all shards of a stream."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import pybase64

from streamfaas.flow.batch import Batch
from streamfaas.flow.errors import CannotSend
from streamfaas.flow.record import Lane, Record
from streamfaas.sources import Message, Sender, Sent
from streamfaas.sources.sharded.dialect import Limits, Told
from streamfaas.sources.sharded.machine import ShardedLog
from streamfaas.sources.sharded.options import LogOptions
from streamfaas.store import Store
from streamfaas.store.checkpoints import Checkpoints
from streamfaas.telemetry.signals import Emit
from streamfaas.wire import cloudwatch_logs
from streamfaas.wire.aws import AwsAccess
from streamfaas.wire.kinesis import Stream
from streamfaas.wire.kinesis_event import (
    RECORD_BYTES,
    SEQUENCE,
    kinesis_batch_info,
    kinesis_event,
    kinesis_face,
    record_of,
    told_of,
)
from streamfaas.wire.kpl import deaggregated
from streamfaas.wire.shards import Origin

KINESIS = Limits(
    reads_seconds=0.2,
    bytes_a_second=2 << 20,
    records_max=10_000,
    timestamps=True,
    ends_untold=True,
)
"""A shard gives that to all who read it."""


@dataclass(frozen=True, slots=True)
class KinesisOptions:
    """`aggregated`: records of the producer library are taken apart; `logs`: those of CloudWatch
    Logs are inflated."""

    access: AwsAccess
    stream: str
    log: LogOptions
    aggregated: bool = False
    logs: bool = False
    role: str = "arn:aws:iam::000000000000:role/streamfaas"


def kinesis(
    name: str,
    options: KinesisOptions,
    *,
    store: Store,
    emit: Emit,
    make_stream: Callable[[AwsAccess, str], Stream] = Stream,
    wall_clock: Callable[[], float] = time.time,  # noqa: TID251 - what records are dated by
) -> ShardedLog:
    """Reads all shards of a stream, as `ShardedLog` does.

    Permissions needed: kinesis:DescribeStreamSummary, ListShards, GetShardIterator, GetRecords.
    """
    stream = make_stream(options.access, options.stream)
    return ShardedLog(
        name,
        Kinesis(options.aggregated, options.logs),
        stream,
        options.log,
        origin=Origin("", options.access.region, options.role),
        marks=Checkpoints(store, name),
        memory_lost=bool(store.lost),
        sender=partial(_sender, stream),
        emit=emit,
        wall_clock=wall_clock,
    )


@dataclass(frozen=True, slots=True)
class Kinesis:
    """Records as Kinesis writes them. Those of one aggregate share a sequence number, and have the
    number of each in it beside."""

    aggregated: bool = False
    logs: bool = False
    kind: ClassVar[str] = "kinesis"
    limits: ClassVar[Limits] = KINESIS

    def weight(self, told: Told) -> int:
        key, data = told["PartitionKey"], told["Data"]
        size = cloudwatch_logs.weight(data) if self.logs else len(data)
        return size + (len(key) if key.isascii() else len(key.encode()))

    def overhead_bytes(self, origin: Origin) -> int:
        return RECORD_BYTES + len(origin.arn) + len(origin.role)

    def sequence(self, told: Told) -> str:
        return str(told["SequenceNumber"])

    def sub(self, told: Told) -> int:
        return int(told.get("SubSequenceNumber", 0))

    def last(self, told: Told) -> int:
        if "SubSequenceNumber" in told:
            return int(told["SubSequenceNumber"])
        inner = deaggregated(pybase64.b64decode(told["Data"]))
        return len(inner) - 1 if inner else 0

    def seconds(self, told: Told) -> float:
        return float(told["ApproximateArrivalTimestamp"])

    def apart(self, records: Sequence[Told]) -> Sequence[Told]:
        return apart(records) if self.aggregated else records

    def record(self, lane: Lane, position: int, told: Told) -> Record:
        return record_of(lane, position, cloudwatch_logs.decoded(told) if self.logs else told)

    def told(self, record: Record) -> Told:
        return told_of(record)

    def event(self, origin: Origin, shard: str, records: Iterable[Told]) -> bytes:
        shown = map(cloudwatch_logs.decoded, records) if self.logs else records
        return kinesis_event(origin, shard, shown)

    def face(self, record: Record) -> tuple[Mapping[str, object], bytes | None]:
        return kinesis_face(record)

    def batch_info(
        self, origin: Origin, batch: Batch, records: Sequence[Told]
    ) -> Mapping[str, Any]:
        return kinesis_batch_info(batch, origin, records)

    def known_by(self, record: Record) -> bytes | None:
        """Its sequence number: which position that has is known once it has been read."""
        return dict(record.headers).get(SEQUENCE)


def apart(records: Iterable[Told]) -> list[Told]:
    """Records with those of the producer library's aggregates in their place, numbered within."""
    found: list[Told] = []
    for each in records:
        inner = deaggregated(pybase64.b64decode(each["Data"]))
        if not inner:
            found.append(each)
            continue
        found += [
            {
                **each,
                "PartitionKey": one.partition_key,
                "Data": pybase64.b64encode_as_string(one.data),
                "SubSequenceNumber": number,
            }
            for number, one in enumerate(inner)
        ]
    return found


def _sender(stream: Stream, topic: str) -> Sender:
    if topic:
        raise CannotSend(f"the stream is {stream.name}: there are no topics")
    return _Sender(stream)


class _Sender:
    def __init__(self, stream: Stream) -> None:
        self.target = f"stream {stream.name}"
        self._stream = stream

    async def send(self, message: Message) -> Sent:
        """Permissions needed: kinesis:PutRecords."""
        if message.headers or message.partition is not None or message.value is None:
            raise CannotSend("a record has a partition key and data, no headers and no partition")
        try:
            key = (message.key or b"streamfaas").decode()
        except UnicodeDecodeError as error:
            raise CannotSend("a partition key is text") from error
        ((shard, sequence),) = await self._stream.put([(key, message.value)])
        return Sent(f"{shard}:{sequence}", key=sequence.encode())
