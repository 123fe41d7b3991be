"""The models of the delivery contract: what is wanted, tried again, and sent on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, Field, SecretStr

from streamfaas.config import filters, forms, web
from streamfaas.config.model import Alone, Model, Words, none
from streamfaas.flow.pattern import PATTERNS_MAX

TABLE_NAME = forms.text(
    "a table's name",
    "[A-Za-z0-9_.-]{3,255}",
    hint="give its name, not its ARN: 3 to 255 letters, digits, dots, dashes and underscores",
)
"""Of a table of DynamoDB."""


class Batch(Model):
    """When a batch is closed."""

    size: Annotated[int, forms.whole(1, 10_000)] = Field(
        default=100, description="Most records in one batch."
    )
    window: Annotated[float, forms.duration("0s", "300s")] = Field(
        default=0.0,
        description="How long to wait for more records. 0s takes what is there and never waits.",
    )
    bytes: Annotated[int, forms.size("1KB", "6MB")] = Field(
        default=6 << 20, description="Largest event, the whole JSON with base64 and metadata."
    )


class QueueBatch(Batch):
    """When a batch is closed."""

    size: Annotated[int, forms.whole(1, 10_000)] = Field(
        default=10,
        description="Most messages in one batch; 10 of a FIFO queue. More than 10 need a window.",
    )


class Retries(Model):
    """What happens when the function fails. `max` and `max_age` None are unlimited."""

    max: Annotated[int | None, forms.whole(0, 10_000, word="unlimited")] = Field(
        default=None,
        description="Retries of a batch before it goes to on_failure. Without it: 10 where there "
        "is an on_failure, else unlimited.",
        examples=[10, "unlimited"],
    )
    max_age: Annotated[float | None, forms.duration("60s", "7d", word="unlimited")] = Field(
        default=None,
        description="Records older than this go to on_failure instead of being tried (again).",
        examples=["1h", "unlimited"],
    )
    backoff: Annotated[tuple[float, float], forms.span("10ms", "1h")] = Field(
        default=(1.0, 60.0), description="The first wait, doubled each time up to the last."
    )


class LogRetries(Retries):
    """What happens when the function fails. `max` and `max_age` None are unlimited."""

    bisect: Annotated[bool | None, forms.flag()] = Field(
        default=None,
        description="Whether a batch that failed is halved, and each half tried alone, to find the "
        "record that fails. Without it: true where there is an on_failure, else false.",
        examples=[True],
    )


_WHEN_IT_FAILS = Field(description="What happens when the function fails.")

# endless and whole; that an on_failure makes it ten is so by itself, as on Lambda
LogRetriesOrLambda: TypeAlias = Annotated[
    LogRetries, Words({"lambda": {"bisect": False}}), _WHEN_IT_FAILS
]

# S3's notifications are asynchronous invocations
RetriesOrLambda: TypeAlias = Annotated[
    Retries,
    Words({"lambda": {"max": 2, "max_age": "6h", "backoff": "1m..2m"}}),
    _WHEN_IT_FAILS,
]


class Parallel(Model):
    """How many batches run at the same time."""

    per_partition: Annotated[int, forms.whole(1, 100)] = Field(
        default=1,
        description="Batches of one partition at the same time. Records of the same key stay in "
        "order. Lambda has 1 to 10.",
    )

    @property
    def strands(self) -> int:
        """Batches of one lane at the same time."""
        return self.per_partition


class ShardParallel(Model):
    """How many batches run at the same time."""

    per_shard: Annotated[int, forms.whole(1, 100)] = Field(
        default=1,
        description="Batches of one shard at the same time. Records of the same partition key, or "
        "changes of the same item, stay in order. Lambda has 1 to 10.",
    )

    @property
    def strands(self) -> int:
        """Batches of one lane at the same time."""
        return self.per_shard


class Leases(Model):
    """Several daemons share a stream, by a DynamoDB table of leases."""

    table: Annotated[str, TABLE_NAME] = Field(
        description="The table, the same in all daemons that share the stream, and of no other "
        "trigger. It is made where it is not there. One that an application of the Kinesis Client "
        "Library has used is gone on with: its name is the application's.",
        examples=["clicks-leases"],
    )
    connection: Annotated[str | None, forms.name("connection")] = Field(
        default=None,
        description="Name of the connection that reaches DynamoDB. Without it: the trigger's.",
    )
    failover: Annotated[float, forms.duration("3s", "5m")] = Field(
        default=10.0,
        description="A lease that was not renewed for so long may be taken by another daemon. "
        "The same in all of them.",
    )


class FileDestination(Model):
    """One JSON line for each batch."""

    type: Literal["file"]
    path: Annotated[Path, forms.location("a file")] = Field(
        description="The file to append to.", examples=["dead.jsonl"]
    )


class KafkaDestination(Model):
    """One message for each record, with the record's own key."""

    type: Literal["kafka"]
    connection: Annotated[str, forms.name("connection")] = Field(
        description="Name of the connection."
    )
    topic: Annotated[str, forms.text("a topic name", forms.TOPIC_PATTERN, code="SF1053")] = Field(
        description="The topic to write to.", examples=["orders.dead"]
    )


class HttpDestination(Model):
    """One POST for each batch."""

    type: Literal["http"]
    url: Annotated[
        str, forms.text("an http or https address", forms.URL_PATTERN, code="SF1057")
    ] = Field(description="The address to post to.", examples=["https://hooks.example/orders"])
    headers: Annotated[
        Mapping[Annotated[str, web.header()], Annotated[str, web.header_value()]],
        AfterValidator(MappingProxyType),
    ] = Field(
        default_factory=none,
        repr=False,
        description="Headers to send besides our own.",
        examples=[{"Authorization": "${credential:hook}"}],
    )
    timeout: Annotated[float, forms.duration("100ms", "5m")] = Field(
        default=10.0, description="How long one answer may take."
    )
    secret: Annotated[SecretStr | None, web.signing_secret()] = Field(
        default=None,
        description="What each request is signed with, as Standard Webhooks has it, so that the "
        "other side knows us.",
        examples=["${credential:hook-secret}"],
    )
    ca: Annotated[Path | None, forms.location("a PEM file")] = Field(
        default=None,
        description="Certificates of the authorities to trust, a PEM file. Without it: the "
        "system's.",
    )


class FunctionDestination(Model):
    """An asynchronous invocation of another function."""

    type: Literal["function"]
    function: Annotated[str, forms.name("function")] = Field(
        description="Name of the function.", examples=["repair"]
    )


TOPIC_ARN_PATTERN = r"arn:[a-z0-9-]+:sns:[a-z0-9-]*:[0-9]*:[A-Za-z0-9._-]{1,256}"

WithPayload: TypeAlias = Annotated[bool, forms.flag()]
_PAYLOAD = (
    "Whether a document has the event in it. false: only what is told of it, as with Lambda. What "
    "is too large for a message is told of without it in any case, with the file where it is whole."
)


class SqsDestination(Model):
    """One message for each batch, in a standard queue of SQS."""

    type: Literal["sqs"]
    connection: Annotated[str, forms.name("connection")] = Field(
        description="Name of the connection, of type aws."
    )
    queue: Annotated[
        str, forms.text("a queue's name, URL or ARN", forms.QUEUE_PATTERN, code="SF1110")
    ] = Field(description="Name, URL or ARN of the queue.", examples=["orders-dead"])
    payload: WithPayload = Field(default=True, description=_PAYLOAD)


class SnsDestination(Model):
    """One message for each batch, published to a standard topic of SNS."""

    type: Literal["sns"]
    connection: Annotated[str, forms.name("connection")] = Field(
        description="Name of the connection, of type aws."
    )
    topic: Annotated[str, forms.text("a topic's ARN", TOPIC_ARN_PATTERN, code="SF1120")] = Field(
        description="ARN of the topic.",
        examples=["arn:aws:sns:eu-central-1:123456789012:orders-dead"],
    )
    payload: WithPayload = Field(default=True, description=_PAYLOAD)


class S3Destination(Model):
    """One object for each batch, in a bucket of S3 or of a store that speaks its language."""

    type: Literal["s3"]
    connection: Annotated[str, forms.name("connection")] = Field(
        description="Name of the connection, of type aws."
    )
    bucket: Annotated[
        str,
        forms.text(
            "a bucket name",
            forms.BUCKET_PATTERN,
            code="SF1055",
            hint="use 3 to 63 small letters, digits, dots and -",
        ),
    ] = Field(description="The bucket to put objects into.", examples=["orders-dead"])


AnyDestination: TypeAlias = (
    FileDestination
    | KafkaDestination
    | HttpDestination
    | FunctionDestination
    | SqsDestination
    | SnsDestination
    | S3Destination
)
CONNECTED = (KafkaDestination, SqsDestination, SnsDestination, S3Destination)
"""Destinations that are reached by a connection."""

Destination: TypeAlias = Annotated[AnyDestination, Field(discriminator="type")]

ConnectionName: TypeAlias = Annotated[
    str, forms.name("connection"), Field(description="Name of the connection.")
]
Batches: TypeAlias = Annotated[Batch, Field(description="When a batch is closed.")]
PerPartition: TypeAlias = Annotated[
    Parallel, Field(description="How many batches run at the same time.")
]
PerShard: TypeAlias = Annotated[
    ShardParallel, Field(description="How many batches run at the same time.")
]
SharedBy: TypeAlias = Annotated[
    Leases | None,
    Field(description="How several daemons share the stream. Without it this one reads all of it."),
]
PartialRecords: TypeAlias = Annotated[
    bool,
    forms.flag(),
    Field(
        description="Whether the function's answer may name the records that failed, as Lambda's "
        "ReportBatchItemFailures; then only those are tried again."
    ),
]
OnFailure: TypeAlias = Annotated[
    Destination | None, Field(description="Where batches go that are given up.")
]
OnSuccess: TypeAlias = Annotated[
    Destination | None, Field(description="Where the answers to batches go.")
]
TumblingWindow: TypeAlias = Annotated[
    float,
    forms.duration("0s", "15m"),
    Field(
        description="How long tumbling windows are, in which the function hands a state from one "
        "batch to the next: 1s to 15m, or 0s for none.",
        examples=["1m"],
    ),
]


def _patterns(of: str, example: Mapping[str, Any], others: str = "") -> Any:
    return Field(
        max_length=PATTERNS_MAX,
        description=f"Patterns of the {of} that are wanted, as Lambda's; one that matches is "
        f"enough.{others} Without it: all.",
        examples=[[example]],
    )


RecordFilter: TypeAlias = Annotated[
    tuple[Annotated[str, filters.pattern("record")], ...],
    Alone(),
    _patterns("records", {"value": {"status": ["paid"]}}),
]
DataFilter: TypeAlias = Annotated[
    tuple[Annotated[str, filters.pattern("data")], ...],
    Alone(),
    _patterns("records", {"data": {"status": ["paid"]}}),
]
BodyFilter: TypeAlias = Annotated[
    tuple[Annotated[str, filters.pattern("body")], ...],
    Alone(),
    _patterns("messages", {"body": {"status": ["paid"]}}, " Others are deleted."),
]
ChangeFilter: TypeAlias = Annotated[
    tuple[Annotated[str, filters.pattern("change")], ...],
    Alone(),
    _patterns("changes", {"eventName": ["INSERT"]}),
]
EventFilter: TypeAlias = Annotated[
    tuple[Annotated[str, filters.pattern("event")], ...],
    Alone(),
    _patterns("events", {"s3": {"object": {"key": [{"suffix": ".jpg"}]}}}),
]


class Asynchronous(Model):
    """Lambda's asynchronous invocations: what is taken at once, and run until it is done."""

    retries: Annotated[int, forms.whole(0, 2)] = Field(
        default=2, description="Retries after the function has failed: after 1, then 2 minutes."
    )
    max_age: Annotated[float, forms.duration("60s", "6h")] = Field(
        default=21_600.0, description="How long an invocation may wait and be retried, in all."
    )
    on_success: Destination | None = Field(default=None, description="Where answers go.")
    on_failure: Destination | None = Field(
        default=None, description="Where invocations go that are given up, with their error."
    )
    dead_letter: Destination | None = Field(
        default=None, description="Where the events go that are given up, as they came."
    )
