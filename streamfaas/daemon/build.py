"""A configuration made into the objects that carry it out; the only place that knows them all."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from streamfaas import functions
from streamfaas.config import filters, spec
from streamfaas.config.connections import AnyConnection, AwsConnection
from streamfaas.config.delivery import Asynchronous, LogRetries
from streamfaas.config.object_stores import (
    DirectoryTrigger,
    ObjectStoreTrigger,
)
from streamfaas.config.otlp import Otlp
from streamfaas.config.spec import ASYNCHRONOUS, Logs, Metrics
from streamfaas.config.streams import DynamoDbTrigger, KinesisTrigger
from streamfaas.config.tracing import Traces
from streamfaas.config.triggers import (
    AnyTrigger,
    KafkaTrigger,
    MemoryTrigger,
    SqsTrigger,
)
from streamfaas.daemon import object_stores
from streamfaas.daemon.access import aws_variables
from streamfaas.daemon.deliveries import Destinations
from streamfaas.daemon.sources import (
    MakeSource,
    Means,
    group_of,
    kind_of,
    options_of,
    source_maker,
)
from streamfaas.engine.lane import Filter, LanePolicy
from streamfaas.flow.admission import Share
from streamfaas.flow.batch import BatchPolicy
from streamfaas.flow.verdict import RetryPolicy
from streamfaas.sources.backlog import BacklogOptions
from streamfaas.telemetry.otlp.settings import Asked
from streamfaas.telemetry.recording import Origin

PARALLEL = 10
"""Asynchronous invocations of one function that are in hand at the same time, at most."""

_OF_OBJECTS = (DirectoryTrigger, ObjectStoreTrigger)

MEMORY_SHARE = 0.8
"""Of the machine's memory, where the configuration names no limit."""


@dataclass(frozen=True, slots=True)
class MappingPlan:
    """One trigger of one function, or its asynchronous invocations, ready to be made."""

    name: str
    kind: str
    policy_maker: Callable[[Destinations], LanePolicy]
    source_maker: Callable[[Means], MakeSource]


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that one configuration asks for."""

    config: spec.Config
    config_path: Path
    functions: tuple[functions.Function, ...]
    mappings: tuple[MappingPlan, ...]
    asynchronous: Mapping[str, MappingPlan]
    concurrency: int
    memory_bytes: int
    grace_seconds: float
    state: Path
    metrics: Metrics
    logs: Logs
    otlp: Asked | None
    traces: Traces
    connections: Mapping[str, AnyConnection]
    desks: Mapping[str, frozenset[str]]
    """The paths that stores post to, by address."""

    @property
    def socket(self) -> Path:
        return self.state / "streamfaas.sock"

    @property
    def store_path(self) -> Path:
        return self.state / "streamfaas.db"


def plan_of(config: spec.Config, path: Path) -> Plan:
    """Builds the plan. The configuration has been checked: nothing here can be the operator's
    mistake."""
    made = {name: function_of(config, name) for name in config.functions}
    return Plan(
        config=config,
        config_path=path.absolute(),
        functions=tuple(made.values()),
        mappings=tuple(
            _mapping(config, made[function], name, trigger)
            for function, name, trigger in config.mappings()
        ),
        asynchronous={
            name: _asynchronous(config, made[name], each.asynchronous)
            for name, each in config.functions.items()
        },
        concurrency=config.limits.concurrency,
        memory_bytes=memory_bytes(config),
        grace_seconds=config.shutdown.grace,
        state=config.state.path,
        metrics=config.telemetry.metrics,
        logs=config.telemetry.logs,
        otlp=otlp_of(config.telemetry.otlp),
        traces=config.telemetry.traces,
        connections=config.connections,
        desks=object_stores.posted(config),
    )


def function_of(config: spec.Config, name: str) -> functions.Function:
    """A function as the workers know it, its directory buckets bound at `/mnt/<bucket>`."""
    function = config.functions[name]
    connection = config.connections.get(function.connection or "")
    isolation, concurrency = function.isolation, function.concurrency
    buckets = [t for t in function.triggers.values() if isinstance(t, DirectoryTrigger)]
    return functions.Function(
        name=name,
        code=function.code,
        handler=function.handler,
        memory_mb=function.memory_mb,
        timeout_seconds=function.timeout,
        env=dict(function.env),
        aws=aws_variables(connection) if isinstance(connection, AwsConnection) else {},
        venv=function.venv,
        mounts=tuple(
            functions.Mount(bucket.path, f"/mnt/{bucket.bucket}", writable=bucket.write)
            for bucket in buckets
        ),
        isolation=functions.Isolation(
            enforce=isolation.mode == "enforce",
            network=isolation.network,
            tmp_bytes=isolation.tmp,
            files_max=isolation.files,
            processes_max=isolation.processes,
            data_bytes=isolation.data,
        ),
        share=Share(
            maximum=concurrency.max,
            reserved=concurrency.reserved,
            warm=concurrency.warm,
            memory_bytes=function.memory,
        ),
        platform_logs=function.logging.platform == "all",
        log_bytes_max=function.logging.max_output,
        log_rate_max=function.logging.max_rate,
        log_format=function.logging.format,
        log_level=function.logging.level.upper() if function.logging.format == "json" else "",
        system_level=function.logging.system_level,
    )


def memory_bytes(config: spec.Config) -> int:
    """What all workers together may have."""
    return config.limits.memory or int(_machine_memory_bytes() * MEMORY_SHARE)


def otlp_of(asked: Otlp | None) -> Asked | None:
    """What a configuration asks for, in the words of those who send."""
    if asked is None:
        return None
    return Asked(
        endpoint=asked.endpoint,
        protocol=asked.protocol,
        headers=asked.headers,
        compression=asked.compression,
        timeout_seconds=asked.timeout,
        interval_seconds=asked.interval,
        signals=asked.signals,
        ca=str(asked.ca or ""),
        certificate=str(asked.certificate or ""),
        key=str(asked.key or ""),
    )


def _mapping(
    config: spec.Config, function: functions.Function, trigger_name: str, trigger: AnyTrigger
) -> MappingPlan:
    name = f"{function.name}/{trigger_name}"
    # what may not even go to a destination, or has none (a record that is too large), is kept here
    fallback = config.state.path / "set-aside" / f"{function.name}.{trigger_name}.jsonl"

    def policy_maker(destinations: Destinations) -> LanePolicy:
        last_resort = destinations.file(fallback)
        return LanePolicy(
            function=function.name,
            function_arn=function.arn,
            batch=_batch_policy(trigger),
            retry=_retry_policy(trigger),
            set_aside=destinations.of(trigger.on_failure) or last_resort,
            last_resort=last_resort,
            on_success=destinations.of(trigger.on_success),
            partial=not isinstance(trigger, _OF_OBJECTS) and trigger.partial_failures,
            strands=trigger.parallel.strands if _is_log(trigger) else 1,
            window_seconds=trigger.tumbling_window if _is_log(trigger) else 0.0,
            filter=_filter(trigger),
            origin=_origin(function, trigger_name, trigger),
        )

    def options() -> Any:
        return options_of(config, function.name, trigger_name, trigger)

    kind = kind_of(trigger)
    return MappingPlan(name, kind, policy_maker, source_maker(kind, name, options))


def _asynchronous(
    config: spec.Config, function: functions.Function, asked: Asynchronous
) -> MappingPlan:
    """Asynchronous invocations are a mapping like any other, on the function's own backlog."""
    name = f"{function.name}/{ASYNCHRONOUS}"
    fallback = config.state.path / "set-aside" / f"{function.name}.{ASYNCHRONOUS}.jsonl"

    def policy_maker(destinations: Destinations) -> LanePolicy:
        last_resort = destinations.file(fallback)
        return LanePolicy(
            function=function.name,
            function_arn=function.arn,
            batch=BatchPolicy(records_max=1),
            retry=RetryPolicy(
                asked.retries,
                backoff_seconds=60.0,
                backoff_seconds_max=120.0,
                age_seconds_max=asked.max_age,
            ),
            set_aside=destinations.of(asked.on_failure) or last_resort,
            last_resort=last_resort,
            on_success=destinations.of(asked.on_success),
            dead_letter=destinations.of(asked.dead_letter),
            partial=True,  # of replays whose trigger has reports
            origin=origin_of(function, "backlog", name),
        )

    def options() -> BacklogOptions:
        parallel = min(function.share.maximum or PARALLEL, PARALLEL)
        return BacklogOptions(function.name, parallel)

    return MappingPlan(name, "backlog", policy_maker, source_maker("backlog", name, options))


def _is_log(
    trigger: AnyTrigger,
) -> TypeGuard[KafkaTrigger | KinesisTrigger | DynamoDbTrigger | MemoryTrigger]:
    return not isinstance(trigger, (*_OF_OBJECTS, SqsTrigger))


def _retry_policy(trigger: AnyTrigger) -> RetryPolicy:
    first, longest = trigger.retries.backoff
    return RetryPolicy(
        trigger.retries.max,
        backoff_seconds=first,
        backoff_seconds_max=longest,
        bisect=isinstance(trigger.retries, LogRetries) and bool(trigger.retries.bisect),
        age_seconds_max=trigger.retries.max_age,
    )


def origin_of(
    function: functions.Function, kind: str = "", place: str = "", group: str = ""
) -> Origin:
    """Where what a function runs comes from, as traces have it: from a caller, without a kind."""
    return Origin(function.name, function.arn, kind, place, group, function.memory_mb << 20)


def _origin(function: functions.Function, name: str, trigger: AnyTrigger) -> Origin:
    group = group_of(function.name, name, trigger) if isinstance(trigger, KafkaTrigger) else ""
    return origin_of(function, kind_of(trigger), _place(trigger), group)


def _place(trigger: AnyTrigger) -> str:
    """What it reads; nothing where each lane says that of itself."""
    match trigger:
        case KinesisTrigger(stream=stream):
            return stream
        case SqsTrigger(queue=queue):
            return queue.replace(":", "/").rpartition("/")[2]
        case DynamoDbTrigger():
            return trigger.place
        case DirectoryTrigger(bucket=bucket):
            return bucket
        case ObjectStoreTrigger(bucket=buckets):
            return ", ".join(buckets)
        case KafkaTrigger() | MemoryTrigger():
            return ""


def _filter(trigger: AnyTrigger) -> Filter | None:
    if not trigger.filter:  # as on Lambda, no pattern at all wants everything
        return None
    of: filters.Of = _FILTERED.get(trigger.type, "record")
    return filters.compiled(trigger.filter, of)


_FILTERED: Mapping[str, filters.Of] = {
    "kinesis": "data",
    "dynamodb": "change",
    "sqs": "body",
    "object-store": "event",
}


def _batch_policy(trigger: AnyTrigger) -> BatchPolicy:
    if isinstance(trigger, _OF_OBJECTS):  # S3 notifications come one an event
        return BatchPolicy(records_max=1)
    batch = trigger.batch
    # messages are gathered where they are received: which of them may be together is known there
    window = 0.0 if isinstance(trigger, SqsTrigger) else batch.window
    return BatchPolicy(batch.size, batch.bytes, window)


def _machine_memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
