"""The model of a trigger that reads the changes of a table's items."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from streamfaas.config import forms
from streamfaas.config.delivery import (
    Batch,
    ChangeFilter,
    Leases,
    LogRetries,
    LogRetriesOrLambda,
    OnFailure,
    OnSuccess,
    ShardParallel,
    TumblingWindow,
)
from streamfaas.config.model import Model


class DynamoDbTrigger(Model):
    """Changes of a DynamoDB table's items, as Lambda's DynamoDB Streams event."""

    type: Literal["dynamodb"]
    connection: Annotated[str, forms.name("connection")] = Field(
        description="Name of the connection."
    )
    table: Annotated[str, forms.text("a table's name", "[A-Za-z0-9_.-]{3,255}")] = Field(
        default="",
        description="The table whose stream is read. Its stream must be turned on; where that is "
        "turned off and on again, the next one follows.",
        examples=["orders"],
    )
    stream: Annotated[
        str, forms.text("a stream's ARN", "arn:[^:]+:dynamodb:[^:]*:[^:]*:table/[^/]+/stream/.+")
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
    batch: Batch = Field(default=Batch(), description="When a batch is closed.")
    retries: LogRetriesOrLambda = Field(
        default=LogRetries(), description="What happens when the function fails."
    )
    partial_failures: Annotated[bool, forms.flag()] = Field(
        default=False,
        description="Whether the function's answer may name the changes that failed, as Lambda's "
        "ReportBatchItemFailures; then the batch is tried again from the first of those on.",
    )
    parallel: ShardParallel = Field(
        default=ShardParallel(), description="How many batches run at the same time."
    )
    tumbling_window: TumblingWindow = Field(default=0.0)
    filter: ChangeFilter = Field(
        default=(),
        description="Patterns of the changes that are wanted, as Lambda's; one that matches is "
        "enough. Without it: all.",
        examples=[[{"eventName": ["INSERT"]}]],
    )
    poll: Annotated[float, forms.duration("250ms", "10s")] = Field(
        default=0.25,
        description="The longest pause between two looks at a shard that has nothing new.",
    )
    leases: Leases | None = Field(
        default=None,
        description="How several daemons share the stream. Without it this one reads all of it.",
    )
    on_failure: OnFailure = Field(default=None)
    on_success: OnSuccess = Field(default=None)

    @property
    def place(self) -> str:
        """The table's name."""
        return self.table or self.stream.split("/")[1]
