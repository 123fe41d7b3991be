"""The names that OpenTelemetry has for what we tell of (semantic conventions 1.44), and our own.

Most of them are still "Development" there: what is renamed is renamed here, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping

SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"
SCOPE = "streamfaas"

# -- messaging

SYSTEM = "messaging.system"
OPERATION_NAME = "messaging.operation.name"
OPERATION_TYPE = "messaging.operation.type"
DESTINATION = "messaging.destination.name"
PARTITION = "messaging.destination.partition.id"
CONSUMER_GROUP = "messaging.consumer.group.name"
BATCH_MESSAGES = "messaging.batch.message_count"
KAFKA_OFFSET = "messaging.kafka.offset"

RECEIVE, PROCESS, SETTLE, SEND = "receive", "process", "settle", "send"

# -- functions

FUNCTION = "faas.name"
TRIGGER = "faas.trigger"
VERSION = "faas.version"
MAX_MEMORY = "faas.max_memory"
INVOCATION_ID = "faas.invocation_id"
COLDSTART = "faas.coldstart"
INSTANCE = "faas.instance"
DOCUMENT_COLLECTION = "faas.document.collection"
DOCUMENT_OPERATION = "faas.document.operation"
INVOKED_ARN = "aws.lambda.invoked_arn"
ERROR_TYPE = "error.type"

# -- the service itself

SERVICE_NAME = "service.name"
SERVICE_VERSION = "service.version"
SERVICE_INSTANCE = "service.instance.id"
HOST_NAME = "host.name"
OS_TYPE = "os.type"
PROCESS_ID = "process.pid"
RUNTIME_NAME = "process.runtime.name"
RUNTIME_VERSION = "process.runtime.version"

# -- ours

MAPPING = "streamfaas.mapping"
LANE = "streamfaas.lane"
ATTEMPT = "streamfaas.attempt"
ATTEMPTS = "streamfaas.attempts"
ATTEMPTS_LEFT_OUT = "streamfaas.attempts.left_out"
EVENTS_LEFT_OUT = "streamfaas.events.left_out"
FIRST_OFFSET = "streamfaas.offset.first"
LAST_OFFSET = "streamfaas.offset.last"
POSITION = "streamfaas.position"
OUTCOME = "streamfaas.outcome"
BISECTED = "streamfaas.batch.bisected"
LINKS_DROPPED = "streamfaas.links.dropped"
REPLAYS = "streamfaas.replays"
CONDITION = "streamfaas.condition"
TO = "streamfaas.destination"
LETTERS = "streamfaas.letters"
WAIT_SECONDS = "streamfaas.wait_seconds"
PART_RECORDS = "streamfaas.batch.part_records"
ISOLATION = "streamfaas.isolation.level"
WORKER = "streamfaas.worker"

METRIC_ATTRIBUTES: Mapping[str, str] = {
    "function": FUNCTION,
    "trigger": "streamfaas.trigger",
    "partition": PARTITION,
    "outcome": OUTCOME,
    "error_type": ERROR_TYPE,
    "reason": "streamfaas.reason",
    "condition": CONDITION,
    "state": "streamfaas.state",
    "signal": "streamfaas.signal",
    "version": SERVICE_VERSION,
    "python": RUNTIME_VERSION,
}
"""What the labels of metrics are called where they are sent by OTLP."""

SYSTEMS: Mapping[str, str] = {
    "kafka": "kafka",
    "kinesis": "aws_kinesis",
    "sns": "aws.sns",
    "sqs": "aws_sqs",
}
"""Kinds of sources and destinations that have a well-known `messaging.system`; others have the
name of their kind there."""

TRIGGERS: Mapping[str, str] = {
    "kafka": "pubsub",
    "kinesis": "pubsub",
    "sqs": "pubsub",
    "memory": "pubsub",
    "dynamodb": "datasource",
    "directory": "datasource",
    "object-store": "datasource",
}
"""Kinds of sources and what OpenTelemetry calls their trigger; `other` for all else."""


def system_of(kind: str) -> str:
    """The `messaging.system` of a kind of source or destination."""
    return SYSTEMS.get(kind, f"streamfaas_{kind}")


def trigger_of(kind: str) -> str:
    """The `faas.trigger` of a kind of source."""
    return TRIGGERS.get(kind, "other")
