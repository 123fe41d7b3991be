"""A configuration made into the objects that carry it out; the only place that knows them all."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamfaas import functions
from streamfaas.config import spec
from streamfaas.config.delivery import FileDestination
from streamfaas.destinations import Destination
from streamfaas.destinations.file import File
from streamfaas.engine.lane import LanePolicy
from streamfaas.flow.admission import Share
from streamfaas.flow.batch import BatchPolicy
from streamfaas.flow.record import Instant
from streamfaas.flow.verdict import ATTEMPTS_WITH_DESTINATION, RetryPolicy
from streamfaas.sources import KINDS, Source
from streamfaas.telemetry.signals import Emit

if TYPE_CHECKING:
    from streamfaas.store import Store

Trigger = spec.KafkaTrigger | spec.DirectoryTrigger | spec.MemoryTrigger
MakeSource = Callable[[], Source]
Clock = Callable[[], Instant]

MEMORY_SHARE = 0.8
"""Of the machine's memory, where the configuration names no limit."""


@dataclass(frozen=True, slots=True)
class MappingPlan:
    """One trigger of one function, ready to be made."""

    name: str
    policy: LanePolicy
    source_maker: Callable[[Store, Clock, Emit], MakeSource]


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that one configuration asks for."""

    config_path: Path
    functions: tuple[functions.Function, ...]
    mappings: tuple[MappingPlan, ...]
    concurrency: int
    memory_bytes: int
    grace_seconds: float
    state: Path

    @property
    def socket(self) -> Path:
        return self.state / "streamfaas.sock"

    @property
    def store_path(self) -> Path:
        return self.state / "streamfaas.db"

    def destinations(self) -> Iterable[Destination]:
        return [mapping.policy.set_aside for mapping in self.mappings]

    def prepare_state(self) -> None:
        """Makes the state directory, for its owner only."""
        self.state.mkdir(mode=0o700, parents=True, exist_ok=True)


def plan_of(config: spec.Config, path: Path) -> Plan:
    """Builds the plan. The configuration has been checked: nothing here can be the operator's
    mistake."""
    state = config.state.path
    return Plan(
        config_path=path.resolve(),
        functions=tuple(function_of(name, each) for name, each in config.functions.items()),
        mappings=tuple(
            _mapping(config, function, name, trigger, state)
            for function, name, trigger in config.mappings()
        ),
        concurrency=config.limits.concurrency,
        memory_bytes=config.limits.memory or int(_machine_memory_bytes() * MEMORY_SHARE),
        grace_seconds=config.shutdown.grace,
        state=state,
    )


def function_of(name: str, function: spec.Function) -> functions.Function:
    """A function as the workers know it, its directory buckets bound at `/mnt/<bucket>`."""
    isolation, concurrency = function.isolation, function.concurrency
    buckets = [t for t in function.triggers.values() if isinstance(t, spec.DirectoryTrigger)]
    return functions.Function(
        name=name,
        code=function.code,
        handler=function.handler,
        memory_mb=function.memory_mb,
        timeout_seconds=function.timeout,
        env=dict(function.env),
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
    )


def _mapping(
    config: spec.Config, function: str, trigger_name: str, trigger: Trigger, state: Path
) -> MappingPlan:
    name = f"{function}/{trigger_name}"
    on_failure = trigger.on_failure
    assert on_failure is None or isinstance(on_failure, FileDestination)  # others are refused
    # what is given up without a destination (a record that is too large) is kept here
    fallback = state / "set-aside" / f"{function}.{trigger_name}.jsonl"
    last_resort = File(fallback)
    target = File(on_failure.path) if on_failure is not None else last_resort
    retries_max = trigger.retries.max
    if retries_max is None and on_failure is not None and not _unlimited(trigger):
        retries_max = ATTEMPTS_WITH_DESTINATION
    first, longest = trigger.retries.backoff
    policy = LanePolicy(
        function=function,
        function_arn=function_of(function, config.functions[function]).arn,
        batch=_batch_policy(trigger),
        retry=RetryPolicy(retries_max, backoff_seconds=first, backoff_seconds_max=longest),
        set_aside=target,
        last_resort=last_resort,
    )
    kind, options = _source_options(config, function, trigger_name, trigger)

    def source_maker(store: Store, clock: Clock, emit: Emit) -> MakeSource:
        made: dict[str, Any] = {"clock": clock, "emit": emit}
        if kind == "directory":
            made["store"] = store

        def make() -> Source:
            module, _, class_name = KINDS[kind].partition(":")
            # kinds are imported when the first of them is made: a daemon without Kafka has none
            source: Source = getattr(importlib.import_module(module), class_name)(
                name, options(), **made
            )
            return source

        return make

    return MappingPlan(name, policy, source_maker)


def _unlimited(trigger: Trigger) -> bool:
    """Whether the configuration says `max: unlimited`, rather than nothing."""
    return "max" in trigger.retries.model_fields_set


def _batch_policy(trigger: Trigger) -> BatchPolicy:
    if isinstance(trigger, spec.DirectoryTrigger):  # S3 notifications come one an event
        return BatchPolicy(records_max=1)
    batch = trigger.batch
    return BatchPolicy(batch.size, batch.bytes, batch.window)


def _source_options(
    config: spec.Config, function: str, name: str, trigger: Trigger
) -> tuple[str, Callable[[], Any]]:
    match trigger:
        case spec.KafkaTrigger():
            connection = config.connections[trigger.connection]
            group = trigger.group or f"streamfaas.{function}.{name}"
            return "kafka", lambda: _kafka_options(connection, trigger, group)
        case spec.DirectoryTrigger():
            return "directory", lambda: _directory_options(trigger)
        case spec.MemoryTrigger():
            return "memory", lambda: _memory_options(trigger)


def _kafka_options(connection: spec.KafkaConnection, trigger: spec.KafkaTrigger, group: str) -> Any:
    from streamfaas.sources import kafka

    start = trigger.start
    assert start is not None
    tls, sasl = connection.tls, connection.sasl
    return kafka.KafkaOptions(
        brokers=connection.brokers,
        topics=trigger.topics,
        pattern=trigger.pattern,
        group=group,
        start=start if isinstance(start, str) else int(start.timestamp() * 1000),
        instance_id=trigger.instance,
        isolation_level=trigger.isolation_level,
        session_timeout_seconds=trigger.session_timeout,
        rebalance_timeout_seconds=trigger.rebalance_timeout,
        fetch_bytes=trigger.fetch_bytes,
        stall_seconds=trigger.stall_after,
        tls=None
        if tls is None
        else kafka.TlsOptions(
            ca=tls.ca, certificate=tls.certificate, key=tls.key, password=_revealed(tls.password)
        ),
        sasl=None if sasl is None else _sasl_options(sasl),
    )


def _sasl_options(sasl: spec.Sasl) -> Any:
    from streamfaas.sources import kafka

    endpoint = sasl.token_endpoint
    return kafka.SaslOptions(
        mechanism=sasl.mechanism,
        username=sasl.username,
        password=_revealed(sasl.password),
        token_file=sasl.token_file,
        token_endpoint=None
        if endpoint is None
        else kafka.TokenEndpoint(
            url=endpoint.url,
            client_id=endpoint.client_id,
            client_secret=endpoint.client_secret.get_secret_value(),
            scope=endpoint.scope,
        ),
    )


def _directory_options(trigger: spec.DirectoryTrigger) -> Any:
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


def _memory_options(trigger: spec.MemoryTrigger) -> Any:
    from streamfaas.sources.memory import MemoryOptions

    return MemoryOptions(
        topic=trigger.topic,
        partitions=trigger.partitions,
        records=trigger.records,
        rate_per_second=trigger.rate,
    )


def _revealed(secret: Any) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _machine_memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
