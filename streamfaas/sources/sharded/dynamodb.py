"""DynamoDB Streams: the dialect of changes, and a source that reads all shards of one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import orjson

from streamfaas.flow.batch import Batch
from streamfaas.flow.errors import CannotSend
from streamfaas.flow.record import Lane, Record
from streamfaas.sources import Sender
from streamfaas.sources.sharded.dialect import Limits, Told
from streamfaas.sources.sharded.machine import ShardedLog
from streamfaas.sources.sharded.options import LogOptions
from streamfaas.store import Store
from streamfaas.store.checkpoints import Checkpoints
from streamfaas.telemetry.signals import Emit
from streamfaas.wire.aws import AwsAccess
from streamfaas.wire.dynamodb_event import (
    ARN_BYTES,
    dynamodb_batch_info,
    dynamodb_event,
    dynamodb_face,
    record_of,
    seconds_of,
    sequence_of,
    told_of,
)
from streamfaas.wire.dynamodb_streams import Stream
from streamfaas.wire.shards import Origin

DYNAMODB = Limits(
    reads_seconds=0.25,
    bytes_a_second=4 << 20,
    records_max=1_000,
    timestamps=False,
    ends_untold=False,
    sequence_digits=21,
)
"""A read gives 1 MB at most; two may read a shard at a time."""


@dataclass(frozen=True, slots=True)
class DynamoDbOptions:
    """The stream of a table, or, where its ARN is given, that stream and no other."""

    access: AwsAccess
    log: LogOptions
    table: str = ""
    stream: str = ""

    def __post_init__(self) -> None:
        assert bool(self.table) != bool(self.stream)
        assert isinstance(self.log.start, str)


def _stream(options: DynamoDbOptions) -> Stream:
    return Stream(options.access, table=options.table, arn=options.stream)


def dynamodb(
    name: str,
    options: DynamoDbOptions,
    *,
    store: Store,
    emit: Emit,
    make_stream: Callable[[DynamoDbOptions], Stream] = _stream,
    wall_clock: Callable[[], float] = time.time,  # noqa: TID251 - what changes are dated by
) -> ShardedLog:
    """Reads all shards of a table's stream, as `ShardedLog` does. One that was turned off is read
    to its end; if it was turned on again, the table's next stream follows, from its beginning.

    Permissions needed: dynamodb:DescribeTable (for a table's name), DescribeStream,
    GetShardIterator, GetRecords.
    """
    return ShardedLog(
        name,
        DynamoDb(),
        make_stream(options),
        options.log,
        origin=Origin("", options.access.region, ""),
        marks=Checkpoints(store, name),
        memory_lost=bool(store.lost),
        sender=_sender,
        emit=emit,
        wall_clock=wall_clock,
    )


class DynamoDb:
    """Changes as DynamoDB writes them: Lambda's event adds whose they are."""

    kind: ClassVar[str] = "dynamodb"
    limits: ClassVar[Limits] = DYNAMODB

    def weight(self, told: Told) -> int:
        return len(orjson.dumps(told))  # what it says of its size is not that of its JSON

    def overhead_bytes(self, origin: Origin) -> int:
        return ARN_BYTES + len(origin.arn)

    def sequence(self, told: Told) -> str:
        return sequence_of(told)

    def sub(self, told: Told) -> int:
        return 0

    def last(self, told: Told) -> int:
        return 0

    def seconds(self, told: Told) -> float:
        return seconds_of(told)

    def apart(self, records: Sequence[Told]) -> Sequence[Told]:
        return records

    def record(self, lane: Lane, position: int, told: Told) -> Record:
        return record_of(lane, position, told)

    def told(self, record: Record) -> Told:
        return told_of(record)

    def event(self, origin: Origin, shard: str, records: Iterable[Told]) -> bytes:
        return dynamodb_event(origin, records)

    def face(self, record: Record) -> tuple[Mapping[str, object], bytes | None]:
        return dynamodb_face(record)

    def batch_info(
        self, origin: Origin, batch: Batch, records: Sequence[Told]
    ) -> Mapping[str, Any]:
        return dynamodb_batch_info(batch, origin, records)

    def known_by(self, record: Record) -> bytes | None:
        return sequence_of(told_of(record)).encode()


def _sender(topic: str) -> Sender:
    del topic
    raise CannotSend("a change of an item is no record that can be sent: put an item to the table")
