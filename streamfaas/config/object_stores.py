"""The models of triggers on object stores: `via` says how changes are noticed."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, SecretStr

from streamfaas.config import forms
from streamfaas.config.delivery import (
    ConnectionName,
    EventFilter,
    OnFailure,
    OnSuccess,
    Retries,
    RetriesOrLambda,
)
from streamfaas.config.model import Alone, Model

DIRECTORY_EVENTS = (
    "s3:ObjectCreated:*",
    "s3:ObjectCreated:Put",
    "s3:ObjectRemoved:*",
    "s3:ObjectRemoved:Delete",
)

_EVENT_FAMILIES = (
    "ObjectCreated|ObjectRemoved|ObjectRestore|ObjectTagging|ObjectAcl|ObjectAccessed|Replication|"
    "LifecycleExpiration|LifecycleTransition|IntelligentTiering|ReducedRedundancyLostObject|"
    "ObjectTransition|Scanner|BucketCreated|BucketRemoved"
)
"""Of S3, and of those who have more."""

_BUCKET = forms.text(
    "a bucket name",
    forms.BUCKET_PATTERN,
    code="SF1055",
    hint="use 3 to 63 small letters, digits, dots and -",
)

_Prefix = Annotated[
    str,
    forms.free_text("the beginning of a key", 1_024),
    Field(description="Only keys that begin so.", examples=["in/"]),
]
_Suffix = Annotated[
    str,
    forms.free_text("the end of a key", 1_024),
    Field(description="Only keys that end so.", examples=[".jpg"]),
]
_SeenEvents = Annotated[
    tuple[Annotated[str, forms.choice(*DIRECTORY_EVENTS)], ...],
    Field(min_length=1, max_length=16, description="Which changes."),
]
_Parallel = Annotated[
    int, forms.whole(1, 1_000), Field(description="Invocations at the same time.")
]


class DirectoryTrigger(Model):
    """Files of a directory, as S3 events."""

    type: Literal["object-store"]
    via: Literal["directory"] = Field(
        description="How changes are noticed: directory watches a local one."
    )
    path: Annotated[Path, forms.location("a directory")] = Field(
        description="The directory to watch. Names in it that begin with a dot do not exist, "
        "and symbolic links are not followed.",
        examples=["/srv/inbox"],
    )
    bucket: Annotated[str, _BUCKET] = Field(
        description="Name of the bucket that the function sees.", examples=["inbox"]
    )
    prefix: _Prefix = ""
    suffix: _Suffix = ""
    events: _SeenEvents = ("s3:ObjectCreated:*",)
    interval: Annotated[float, forms.duration("1s", "24h")] = Field(
        default=10.0, description="How often the directory is listed to find what was missed."
    )
    settle: Annotated[float, forms.duration("0s", "1h")] = Field(
        default=1.0, description="How long a file must be unchanged before it counts as written."
    )
    write: Annotated[bool, forms.flag()] = Field(
        default=False, description="Whether the function may write to the directory."
    )
    existing: Annotated[Literal["process", "ignore"], forms.choice("process", "ignore")] = Field(
        default="process", description="What to do with files that are there at the first start."
    )
    parallel: _Parallel = 10
    retries: RetriesOrLambda = Retries()
    filter: EventFilter = ()
    on_failure: OnFailure = None
    on_success: OnSuccess = None


class ObjectStoreTrigger(Model):
    """Notifications of an object store, as S3 events."""

    type: Literal["object-store"]
    bucket: Annotated[
        tuple[Annotated[str, _BUCKET], ...], Alone(), Field(min_length=1, max_length=100)
    ] = Field(
        description="The bucket, or a list of them. Notifications of other buckets are told of, "
        "and left out.",
        examples=["uploads", ["uploads", "scans"]],
    )
    prefix: _Prefix = ""
    suffix: _Suffix = ""
    events: Annotated[
        tuple[
            Annotated[
                str,
                forms.text(
                    "an event of S3",
                    rf"s3:(\*|({_EVENT_FAMILIES})(:(\*|[A-Za-z]{{1,64}}))?)",
                    code="SF1047",
                    hint="write it as in s3:ObjectCreated:* or s3:ObjectRemoved:Delete",
                ),
            ],
            ...,
        ],
        Field(min_length=1, max_length=64),
    ] = Field(default=("s3:ObjectCreated:*",), description="Which changes.")
    pending: Annotated[int, forms.whole(1, 1_000_000)] = Field(
        default=100_000,
        description="Events that wait at most. Beyond that none are taken: they stay where they "
        "come from.",
    )
    parallel: _Parallel = 10
    retries: RetriesOrLambda = Retries()
    filter: EventFilter = ()
    on_failure: OnFailure = None
    on_success: OnSuccess = None


_STORE = Field(
    default=None,
    description="For reconcile: name of the connection (type aws) to the object store.",
    examples=["store"],
)
_Reconcile = Annotated[float | None, forms.duration("10s", "24h", word="never")]
_RECONCILE = (
    "How often each bucket is listed, at the start too, to find what no notification told of. What "
    "is there when the trigger is born is no event."
)


class ObjectQueueTrigger(ObjectStoreTrigger):
    """Notifications of an object store that come by an SQS queue, as S3 events."""

    via: Literal["sqs", "sns-sqs", "eventbridge-sqs"] = Field(
        description="How changes are noticed: by a queue that the store sends to (sqs), that a "
        "topic sends to (sns-sqs), or that EventBridge sends to (eventbridge-sqs)."
    )
    connection: ConnectionName
    queue: Annotated[
        str,
        forms.text(
            "a queue's name, address or ARN",
            r"[A-Za-z0-9_-]{1,80}(\.fifo)?|https?://[!-~]{1,1000}|arn:[!-~]{1,1000}",
            hint="write it as in uploads, or arn:aws:sqs:eu-central-1:123456789012:uploads",
        ),
    ] = Field(description="The queue to read.", examples=["uploads"])
    reconcile: _Reconcile = Field(default=None, description=_RECONCILE, examples=["10m"])
    store: Annotated[str | None, forms.name("connection")] = Field(
        default=None,
        description="For reconcile: name of the connection to the object store. Without it: that "
        "to the queue.",
    )


class ObjectTopicTrigger(ObjectStoreTrigger):
    """Notifications of an object store that come by Kafka, as S3 events."""

    via: Literal["kafka"] = Field(
        description="How changes are noticed: by Kafka topics that the store writes to."
    )
    connection: ConnectionName
    topics: Annotated[
        tuple[Annotated[str, forms.text("a topic name", forms.TOPIC_PATTERN, code="SF1053")], ...],
        Field(min_length=1, max_length=100),
    ] = Field(description="Topics to read.", examples=[["bucketevents"]])
    group: Annotated[str, forms.text("a group id of 1 to 200 characters", ".{1,200}")] = Field(
        default="", description="Consumer group. Without it: streamfaas.<function>.<trigger>."
    )
    start: Annotated[Literal["earliest", "latest"] | datetime, forms.start()] = Field(
        description="Where a partition begins that the group has no position for.",
        examples=["earliest", "2026-01-01T00:00:00Z"],
    )
    reconcile: _Reconcile = Field(default=None, description=_RECONCILE, examples=["10m"])
    store: Annotated[str | None, forms.name("connection")] = _STORE


class ObjectWebhookTrigger(ObjectStoreTrigger):
    """Notifications of an object store that it posts to us, as S3 events."""

    via: Literal["webhook"] = Field(
        description="How changes are noticed: the store posts them to an address of ours."
    )
    listen: Annotated[str, forms.address()] = Field(
        default="127.0.0.1:9001",
        description="Address and port that stores post to. Triggers may share it.",
        examples=["127.0.0.1:9001"],
    )
    path: Annotated[str, forms.text("a path", r"/[A-Za-z0-9._~/-]{0,255}")] = Field(
        default="",
        description="The path that is this trigger's. Without it: /<function>/<trigger>.",
        examples=["/uploads"],
    )
    secret: Annotated[SecretStr | None, forms.secret()] = Field(
        default=None,
        description="What whoever posts must say: as a bearer, as the user or the password of the "
        "address, or as its ?token=. Without it everybody may who reaches the address.",
        examples=["${credential:webhook}"],
    )
    body: Annotated[int, forms.size("1KB", "6MB")] = Field(
        default=1 << 20, description="Most bytes of one request."
    )
    reconcile: _Reconcile = Field(default=None, description=_RECONCILE, examples=["10m"])
    store: Annotated[str | None, forms.name("connection")] = _STORE


class ObjectStreamTrigger(ObjectStoreTrigger):
    """Notifications that MinIO tells to whoever listens, as S3 events."""

    via: Literal["listen"] = Field(
        description="How changes are noticed: by MinIO's ListenNotification. It is not durable: "
        "what happens while nobody listens is found by reconcile."
    )
    connection: ConnectionName
    reconcile: Annotated[float, forms.duration("10s", "24h")] = Field(
        default=600.0, description=_RECONCILE + " It is also done whenever listening begins anew."
    )


class ObjectPollTrigger(ObjectStoreTrigger):
    """Buckets that are listed, as S3 events of what differs from the listing before."""

    via: Literal["poll"] = Field(
        description="How changes are noticed: by listings. That works with every store."
    )
    connection: ConnectionName
    events: _SeenEvents = ("s3:ObjectCreated:*",)
    interval: Annotated[float, forms.duration("1s", "24h")] = Field(
        default=60.0, description="How long from the end of a listing to the next."
    )
    existing: Annotated[Literal["process", "ignore"], forms.choice("process", "ignore")] = Field(
        default="process", description="What to do with objects that are there at the first start."
    )


AnyObjectStore: TypeAlias = (
    DirectoryTrigger
    | ObjectQueueTrigger
    | ObjectTopicTrigger
    | ObjectWebhookTrigger
    | ObjectStreamTrigger
    | ObjectPollTrigger
)


def listed_by(trigger: ObjectStoreTrigger) -> str | None:
    """The connection by which a trigger's buckets are listed, if they are."""
    match trigger:
        case ObjectStreamTrigger() | ObjectPollTrigger():
            return trigger.connection
        case ObjectQueueTrigger() if trigger.reconcile is not None:
            return trigger.store or trigger.connection
        case ObjectTopicTrigger() | ObjectWebhookTrigger() if trigger.reconcile is not None:
            return trigger.store
    return None
