"""The models of triggers that read streams of shards: of records, and of a table's changes."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from streamfaas.config import forms
from streamfaas.config.delivery import (
    TABLE_NAME,
    Batch,
    Batches,
    ChangeFilter,
    ConnectionName,
    DataFilter,
    LogRetries,
    LogRetriesOrLambda,
    OnFailure,
    OnSuccess,
    PerShard,
    ShardParallel,
    SharedBy,
    TumblingWindow,
)
from streamfaas.config.model import Model

STREAM_HINT = "give its name, not its ARN: 1 to 128 letters, digits, dots, dashes and underscores"


class KinesisTrigger(Model):
    """Records of a Kinesis stream, as Lambda's Kinesis event."""

    type: Literal["kinesis"]
    connection: ConnectionName
    stream: Annotated[
        str, forms.text("a stream's name", "[A-Za-z0-9_.-]{1,128}", hint=STREAM_HINT)
    ] = Field(description="The stream to read.", examples=["clicks"])
    start: Annotated[Literal["earliest", "latest"] | datetime, forms.start()] = Field(
        description="Where the shards begin that are there when the trigger is born: earliest is "
        "Kinesis' TRIM_HORIZON. Shards that are made of others begin at their beginning.",
        examples=["latest", "2026-01-01T00:00:00Z"],
    )
    batch: Batches = Batch()
    retries: LogRetriesOrLambda = LogRetries()
    partial_failures: Annotated[bool, forms.flag()] = Field(
        default=False,
        description="Whether the function's answer may name the records that failed, as Lambda's "
        "ReportBatchItemFailures; then the batch is tried again from the first of those on.",
    )
    parallel: PerShard = ShardParallel()
    tumbling_window: TumblingWindow = 0.0
    filter: DataFilter = ()
    deaggregate: Annotated[bool, forms.flag()] = Field(
        default=False,
        description="Whether what the Kinesis Producer Library put together is taken apart.",
    )
    decode: Annotated[
        Literal["nothing", "cloudwatch-logs"], forms.choice("nothing", "cloudwatch-logs")
    ] = Field(
        default="nothing",
        description="What is decoded before filters and the function see it: cloudwatch-logs are "
        "records of a subscription of CloudWatch Logs, inflated to their JSON.",
    )
    poll: Annotated[float, forms.duration("200ms", "10s")] = Field(
        default=1.0,
        description="The longest pause between two looks at a shard that has nothing new.",
    )
    leases: SharedBy = None
    on_failure: OnFailure = None
    on_success: OnSuccess = None


class DynamoDbTrigger(Model):
    """Changes of a DynamoDB table's items, as Lambda's DynamoDB Streams event."""

    type: Literal["dynamodb"]
    connection: ConnectionName
    table: Annotated[str, TABLE_NAME] = Field(
        default="",
        description="The table whose stream is read. Its stream must be turned on; where that is "
        "turned off and on again, the next one follows.",
        examples=["orders"],
    )
    stream: Annotated[
        str,
        forms.text(
            "a stream's ARN",
            "arn:[^:]+:dynamodb:[^:]*:[^:]*:table/[^/]+/stream/.+",
            hint="give arn:aws:dynamodb:REGION:ACCOUNT:table/NAME/stream/TIME, or a `table`",
        ),
    ] = Field(
        default="",
        description="In place of a table: the ARN of the stream, which is read and no other.",
        examples=[
            "arn:aws:dynamodb:eu-central-1:111122223333:table/orders/stream/2026-01-01T00:00:00.000"
        ],
    )
    start: Annotated[Literal["earliest", "latest"], forms.start(times=False)] = Field(
        description="Where the shards begin that are there when the trigger is born: earliest is "
        "Lambda's TRIM_HORIZON, at most 24 hours ago. As on Lambda, it cannot be a time.",
        examples=["latest"],
    )
    batch: Batches = Batch()
    retries: LogRetriesOrLambda = LogRetries()
    partial_failures: Annotated[bool, forms.flag()] = Field(
        default=False,
        description="Whether the function's answer may name the changes that failed, as Lambda's "
        "ReportBatchItemFailures; then the batch is tried again from the first of those on.",
    )
    parallel: PerShard = ShardParallel()
    tumbling_window: TumblingWindow = 0.0
    filter: ChangeFilter = ()
    poll: Annotated[float, forms.duration("250ms", "10s")] = Field(
        default=0.25,
        description="The longest pause between two looks at a shard that has nothing new.",
    )
    leases: SharedBy = None
    on_failure: OnFailure = None
    on_success: OnSuccess = None

    @property
    def place(self) -> str:
        """The table's name."""
        return self.table or self.stream.split("/")[1]
