"""Triggers made into their source: of what kind it is, what it is told, and what it is given."""

from __future__ import annotations

import importlib
import math
import secrets
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from streamfaas.config import filters, spec
from streamfaas.config.object_stores import DirectoryTrigger, ObjectStoreTrigger
from streamfaas.config.streams import DynamoDbTrigger, KinesisTrigger
from streamfaas.config.triggers import (
    AnyTrigger,
    KafkaTrigger,
    MemoryTrigger,
    SqsTrigger,
)
from streamfaas.daemon import object_stores
from streamfaas.daemon.access import (
    access_of,
    kafka_connection,
    kafka_start,
    sasl_options,
    tls_options,
)
from streamfaas.engine.mapping import Pause
from streamfaas.flow.batch import BatchPolicy
from streamfaas.flow.record import Instant
from streamfaas.sources import KINDS, Source
from streamfaas.telemetry.signals import Emit

if TYPE_CHECKING:
    from streamfaas.store import Store
    from streamfaas.store.backlog import Backlog
    from streamfaas.wire.inbound import Desks

MakeSource = Callable[[], Source]
Clock = Callable[[], Instant]

LEASED_COMMIT_SECONDS = 1.0
"""Between two checkpoints of a shard that is leased: each is a write to its table that is paid."""

_WORKER = f"{socket.gethostname()}/{secrets.token_hex(4)}"
"""What this daemon is called where several share a stream: nobody else ever is."""


@dataclass(frozen=True, slots=True)
class Means:
    """What sources and their mappings are made with. `pauses` are those that hold at the moment;
    `room` says how many invocations of a function could begin now."""

    store: Store
    backlog: Backlog
    desks: Desks
    clock: Clock
    emit: Emit
    room: Callable[[str], int]
    pauses: Mapping[str, Pause] = field(default_factory=dict)


NEEDS: Mapping[str, tuple[str, ...]] = {
    "kafka": ("clock",),
    "kinesis": ("store",),
    "dynamodb": ("store",),
    "sqs": ("clock", "room"),
    "directory": ("clock", "store"),
    "object-store": ("clock", "store", "desks"),
    "memory": ("clock",),
    "backlog": ("clock", "backlog"),
}
"""What a source of each kind is given beside its options, and somebody to tell."""


def source_maker(kind: str, name: str, options: Callable[[], Any]) -> Callable[[Means], MakeSource]:
    """Makes those of a mapping, each with options of its own."""

    def maker(means: Means) -> MakeSource:
        given = _given(kind, name.partition("/")[0], means)

        def make() -> Source:
            source: Source = source_class(kind)(name, options(), emit=means.emit, **given)
            return source

        return make

    return maker


def _given(kind: str, function: str, means: Means) -> dict[str, Any]:
    there = {
        "store": means.store,
        "backlog": means.backlog,
        "desks": means.desks,
        "clock": means.clock,
        "room": partial(means.room, function),
    }
    return {need: there[need] for need in NEEDS[kind]}


def source_class(kind: str) -> Any:
    """Kinds are imported when the first of them is made: a daemon without Kafka has none."""
    module, _, class_name = KINDS[kind].partition(":")
    return getattr(importlib.import_module(module), class_name)


def kind_of(trigger: AnyTrigger) -> str:
    """The kind of its source."""
    return "directory" if isinstance(trigger, DirectoryTrigger) else trigger.type


def group_of(function: str, name: str, trigger: KafkaTrigger) -> str:
    """The consumer group that it reads as."""
    return trigger.group or f"streamfaas.{function}.{name}"


def options_of(config: spec.Config, function: str, name: str, trigger: AnyTrigger) -> Any:
    """What its source is told."""
    match trigger:
        case KafkaTrigger():
            return _kafka(config, trigger, group_of(function, name, trigger))
        case KinesisTrigger():
            return _kinesis(config, trigger)
        case SqsTrigger():
            return _sqs(config, trigger)
        case DynamoDbTrigger():
            return _dynamodb(config, trigger)
        case DirectoryTrigger():
            return _directory(trigger)
        case ObjectStoreTrigger():
            return object_stores.options(config, trigger)
        case MemoryTrigger():
            return _memory(trigger)


def _kafka(config: spec.Config, trigger: KafkaTrigger, group: str) -> Any:
    from streamfaas.sources.kafka import KafkaOptions

    connection = kafka_connection(config.connections, trigger.connection)
    return KafkaOptions(
        brokers=connection.brokers,
        topics=trigger.topics,
        pattern=trigger.pattern,
        group=group,
        start=kafka_start(trigger.start),
        instance_id=trigger.instance,
        isolation_level=trigger.isolation_level,
        session_timeout_seconds=trigger.session_timeout,
        rebalance_timeout_seconds=trigger.rebalance_timeout,
        fetch_bytes=trigger.fetch_bytes,
        stall_seconds=trigger.stall_after,
        tls=tls_options(connection.tls),
        sasl=sasl_options(connection.sasl),
    )


_STARTS: Mapping[str, str] = {"earliest": "trim_horizon", "latest": "latest"}
"""Where a log of shards is begun, in AWS' words."""


def _kinesis(config: spec.Config, trigger: KinesisTrigger) -> Any:
    from streamfaas.sources.sharded.kinesis import KinesisOptions
    from streamfaas.sources.sharded.options import LogOptions

    start = trigger.start
    return KinesisOptions(
        access=access_of(config.connections, trigger.connection),
        stream=trigger.stream,
        log=LogOptions(
            start=_STARTS[start] if isinstance(start, str) else start.timestamp(),
            poll_seconds=trigger.poll,
            **_leases(config, trigger),
        ),
        aggregated=trigger.deaggregate,
        logs=trigger.decode == "cloudwatch-logs",
    )


def _dynamodb(config: spec.Config, trigger: DynamoDbTrigger) -> Any:
    from streamfaas.sources.sharded.dynamodb import DynamoDbOptions
    from streamfaas.sources.sharded.options import LogOptions

    return DynamoDbOptions(
        access=access_of(config.connections, trigger.connection),
        log=LogOptions(
            start=_STARTS[trigger.start],
            poll_seconds=trigger.poll,
            look_seconds=10.0,
            **_leases(config, trigger),
        ),
        table=trigger.table,
        stream=trigger.stream,
    )


def _leases(config: spec.Config, trigger: KinesisTrigger | DynamoDbTrigger) -> dict[str, Any]:
    """What leases add to the options of a log."""
    from streamfaas.sources.sharded.options import LeaseOptions

    asked = trigger.leases
    if asked is None:
        return {}
    access = access_of(config.connections, asked.connection or trigger.connection)
    leases = LeaseOptions(access, asked.table, _WORKER, asked.failover)
    return {"leases": leases, "commit_seconds": LEASED_COMMIT_SECONDS}


def _sqs(config: spec.Config, trigger: SqsTrigger) -> Any:
    from streamfaas.sources.sqs import SqsOptions

    batch, hidden = trigger.batch, trigger.visibility_timeout
    return SqsOptions(
        access=access_of(config.connections, trigger.connection),
        queue=trigger.queue,
        batch=BatchPolicy(batch.size, batch.bytes, batch.window),
        parallel=trigger.parallel,
        visibility_seconds=None if hidden is None else math.ceil(hidden),
        filter=filters.compiled(trigger.filter, "body") if trigger.filter else None,
        apart=not trigger.partial_failures,
        retries_max=trigger.retries.max,
    )


def _directory(trigger: DirectoryTrigger) -> Any:
    from streamfaas.sources.directory import DirectoryOptions

    return DirectoryOptions(
        path=trigger.path,
        bucket=trigger.bucket,
        prefix=trigger.prefix,
        suffix=trigger.suffix,
        events=trigger.events,
        interval_seconds=trigger.interval,
        settle_seconds=trigger.settle,
        existing=trigger.existing == "process",
        parallel=trigger.parallel,
    )


def _memory(trigger: MemoryTrigger) -> Any:
    from streamfaas.sources.memory import MemoryOptions

    return MemoryOptions(
        topic=trigger.topic,
        partitions=trigger.partitions,
        records=trigger.records,
        rate_per_second=trigger.rate,
    )
