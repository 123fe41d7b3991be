"""The models of triggers: what a source is asked for, and when its records make a batch."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from streamfaas.config import forms
from streamfaas.config.delivery import (
    Batch,
    Batches,
    BodyFilter,
    ConnectionName,
    LogRetries,
    LogRetriesOrLambda,
    OnFailure,
    OnSuccess,
    Parallel,
    PartialRecords,
    PerPartition,
    QueueBatch,
    RecordFilter,
    Retries,
    TumblingWindow,
)
from streamfaas.config.model import Model
from streamfaas.config.object_stores import AnyObjectStore
from streamfaas.config.streams import DynamoDbTrigger, KinesisTrigger


class KafkaTrigger(Model):
    """Records of Kafka topics, as Lambda's self-managed Kafka event."""

    type: Literal["kafka"]
    connection: ConnectionName
    topics: Annotated[
        tuple[Annotated[str, forms.text("a topic name", forms.TOPIC_PATTERN, code="SF1053")], ...],
        Field(max_length=1_000),
    ] = Field(default=(), description="Topics to read.", examples=[["orders.v1"]])
    pattern: Annotated[str | None, forms.regex()] = Field(
        default=None,
        description="In place of topics: a regular expression that matches whole topic names.",
        examples=[r"orders\..*"],
    )
    group: Annotated[str, forms.text("a group id of 1 to 200 characters", ".{1,200}")] = Field(
        default="", description="Consumer group. Without it: streamfaas.<function>.<trigger>."
    )
    start: Annotated[Literal["earliest", "latest"] | datetime, forms.start()] = Field(
        description="Where a partition begins that the group has no position for. There is no "
        "default: earliest may replay years, latest may skip what was just written.",
        examples=["latest", "2026-01-01T00:00:00Z"],
    )
    batch: Batches = Batch()
    retries: LogRetriesOrLambda = LogRetries()
    partial_failures: PartialRecords = False
    parallel: PerPartition = Parallel()
    tumbling_window: TumblingWindow = 0.0
    filter: RecordFilter = ()
    on_failure: OnFailure = None
    on_success: OnSuccess = None
    instance: Annotated[
        str | None,
        forms.text("an instance name of letters, digits, dots, - and _", "[A-Za-z0-9._-]{1,249}"),
    ] = Field(
        default=None,
        description="Static membership: a restart within session_timeout moves no partition. "
        "Must differ between daemons of one group.",
        examples=["node-1"],
    )
    isolation_level: Annotated[
        Literal["read_committed", "read_uncommitted"],
        forms.choice("read_committed", "read_uncommitted"),
    ] = Field(
        default="read_committed",
        description="Whether records of unfinished transactions are waited for or read.",
    )
    session_timeout: Annotated[float, forms.duration("6s", "30m")] = Field(
        default=30.0, description="After this long without a heartbeat the broker gives up on us."
    )
    rebalance_timeout: Annotated[float, forms.duration("6s", "1h")] = Field(
        default=45.0, description="How long batches in hand may take to finish in a rebalance."
    )
    fetch_bytes: Annotated[int, forms.size("1KB", "50MB")] = Field(
        default=256 << 10, description="Most bytes fetched from one partition at a time."
    )
    stall_after: Annotated[float, forms.duration("5s", "1h")] = Field(
        default=60.0,
        description="A client that brings nothing for so long, though there is something to "
        "bring, is replaced.",
    )


class SqsTrigger(Model):
    """Messages of an SQS queue, as Lambda's SQS event."""

    type: Literal["sqs"]
    connection: ConnectionName
    queue: Annotated[
        str, forms.text("a queue's name, URL or ARN", forms.QUEUE_PATTERN, code="SF1110")
    ] = Field(
        description="The queue, by its name, URL or ARN. One whose name ends in .fifo is read in "
        "order, by message groups.",
        examples=["orders", "orders.fifo", "arn:aws:sqs:eu-central-1:123456789012:orders"],
    )
    batch: QueueBatch = Field(default=QueueBatch(), description="When a batch is closed.")
    retries: Retries = Field(
        default=Retries(),
        description="What happens when the function fails. Unless max is given, or on_failure, "
        "that is for the queue to say: what failed goes back, and its redrive policy counts.",
    )
    partial_failures: Annotated[bool, forms.flag()] = Field(
        default=False,
        description="Whether the function's answer may name the messages that failed, as Lambda's "
        "ReportBatchItemFailures; then only those come again. Of a FIFO queue, all that follow in "
        "their group come with them.",
    )
    parallel: Annotated[int, forms.whole(1, 1_000)] = Field(
        default=10,
        description="Batches at the same time, Lambda's maximum concurrency. No message is "
        "received that no worker is free for.",
    )
    filter: BodyFilter = ()
    visibility_timeout: Annotated[float | None, forms.duration("1s", "12h")] = Field(
        default=None,
        description="How long a message is hidden from others at a time; it is hidden again for "
        "as long as it is in hand. So long nobody has what was in hand at a crash. Without it: the "
        "queue's own, and 10s at least.",
        examples=["30s"],
    )
    on_failure: OnFailure = None
    on_success: OnSuccess = None


class MemoryTrigger(Model):
    """A simulated stream, shaped like Kafka: for trying things and for tests."""

    type: Literal["memory"]
    topic: Annotated[str, forms.text("a topic name", forms.TOPIC_PATTERN, code="SF1053")] = Field(
        description="Name of the topic.", examples=["orders"]
    )
    partitions: Annotated[int, forms.whole(1, 1_000)] = Field(
        default=1, description="Partitions of the topic."
    )
    records: Annotated[int | None, forms.whole(0, 1_000_000_000, word="unlimited")] = Field(
        default=None, description="Records in all. Without it, or with unlimited: for ever."
    )
    rate: Annotated[float, forms.number(0.01, 1_000_000)] = Field(
        default=1.0, description="Records a second, over all partitions."
    )
    batch: Batches = Batch()
    retries: LogRetriesOrLambda = LogRetries()
    partial_failures: PartialRecords = False
    parallel: PerPartition = Parallel()
    tumbling_window: TumblingWindow = 0.0
    filter: RecordFilter = ()
    on_failure: OnFailure = None
    on_success: OnSuccess = None


AnyTrigger: TypeAlias = (
    KafkaTrigger | KinesisTrigger | DynamoDbTrigger | SqsTrigger | AnyObjectStore | MemoryTrigger
)
Trigger: TypeAlias = Annotated[
    KafkaTrigger
    | KinesisTrigger
    | DynamoDbTrigger
    | SqsTrigger
    | Annotated[AnyObjectStore, Field(discriminator="via")]
    | MemoryTrigger,
    Field(discriminator="type"),
]
