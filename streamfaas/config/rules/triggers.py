"""Rules of triggers: where they begin and end, and that no two are in each other's way."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias

from streamfaas.config import document
from streamfaas.config.object_stores import ObjectTopicTrigger
from streamfaas.config.rules.case import (
    Case,
    clusters,
    connected,
    leased,
    of_kind,
)
from streamfaas.config.spec import ASYNCHRONOUS
from streamfaas.config.streams import DynamoDbTrigger, KinesisTrigger
from streamfaas.config.triggers import KafkaTrigger, SqsTrigger
from streamfaas.flow.errors import Problem

FIFO_SIZE_MAX = 10
"""What one receive brings; a batch of a FIFO queue comes of one."""


def _retries(case: Case) -> Iterator[Problem]:
    for function, name, trigger in case.config.mappings():
        path = ("functions", function, "triggers", name)
        limits = {
            "max": f"after {trigger.retries.max} retries",
            "max_age": "past their greatest age",
        }
        for key, when in limits.items():
            if trigger.on_failure is None and getattr(trigger.retries, key) is not None:
                yield case.tell(
                    "SF1062",
                    (*path, "retries", key),
                    f"{when} the records would have nowhere to go: there is no on_failure, and a "
                    "record is never dropped",
                    f"add on_failure: {{type: file, path: …}}, or leave {key} out",
                )


def _windows(case: Case) -> Iterator[Problem]:
    for function, name, trigger in case.config.mappings():
        log: Any = trigger
        seconds: float = getattr(log, "tumbling_window", 0.0)
        path = ("functions", function, "triggers", name, "tumbling_window")
        if seconds != int(seconds):
            message = "a window is a number of whole seconds"
            yield case.tell("SF1088", path, message, "write 1s to 15m, or 0s")
        if seconds and log.parallel.strands > 1:
            yield case.tell(
                "SF1088",
                path,
                "batches at the same time have no state to hand from one to the next",
                "leave parallel out, or tumbling_window",
            )
        if seconds and getattr(log, "leases", None) is not None:
            message = "a lease may go to another daemon, which has no state of the shard's window"
            yield case.tell("SF1088", path, message, "leave leases out, or tumbling_window")


def _names(case: Case) -> Iterator[Problem]:
    for function, name, _ in case.config.mappings():
        if name == ASYNCHRONOUS:
            yield case.tell(
                "SF1048",
                ("functions", function, "triggers", name),
                f"{function}/{name} is what the function's asynchronous invocations are called",
                "give the trigger another name",
                key=True,
            )


def _kafka(case: Case) -> Iterator[Problem]:
    named = of_kind(case.config, KafkaTrigger)
    yield from connected(
        case, "kafka", (((*path, "connection"), each.connection) for path, each in named)
    )
    for path, trigger in of_kind(case.config, KafkaTrigger):
        yield from _starts(case, path, trigger.start)
        if bool(trigger.topics) == bool(trigger.pattern):
            both = "topics and pattern are both given" if trigger.topics else "no topics are given"
            yield case.tell(
                "SF1073",
                (*path, "pattern") if trigger.topics else path,
                both,
                "give topics: [name, …], or pattern: a regular expression",
                key=True,
            )
        seen: set[str] = set()
        for at, topic in enumerate(trigger.topics):
            if topic in seen:
                yield case.tell("SF1073", (*path, "topics", at), f"{topic} is in the list twice")
            seen.add(topic)


def _kinesis(case: Case) -> Iterator[Problem]:
    named = of_kind(case.config, KinesisTrigger)
    yield from connected(
        case, "aws", (((*path, "connection"), each.connection) for path, each in named)
    )
    for path, trigger in of_kind(case.config, KinesisTrigger):
        yield from _starts(case, path, trigger.start)


def _leases(case: Case) -> Iterator[Problem]:
    """A table of leases is about one stream, and of one trigger: two would share the shards."""
    named = [(path, each) for path, each in leased(case.config) if each.connection is not None]
    yield from connected(
        case, "aws", (((*path, "connection"), each.connection or "") for path, each in named)
    )
    first: dict[str, document.Path] = {}
    for path, leases in leased(case.config):
        other = first.setdefault(leases.table, path)
        if other is not path:
            message = f"{other[1]}/{other[3]} has the same table of leases"
            hint = "give each trigger a table of its own"
            yield case.tell("SF1130", (*path, "table"), message, hint)
    yield from _read_tables(case)


def _read_tables(case: Case) -> Iterator[Problem]:
    """A table whose changes are read has no leases: each checkpoint would be a change again."""
    tables = of_kind(case.config, DynamoDbTrigger)
    read = {(each.connection, each.place) for _, each in tables if each.table or each.stream}
    for function, name, trigger in case.config.mappings():
        leases = getattr(trigger, "leases", None)
        if isinstance(trigger, KinesisTrigger | DynamoDbTrigger) and leases is not None:
            connection = leases.connection or trigger.connection
            if (connection, leases.table) in read:
                path = ("functions", function, "triggers", name, "leases", "table")
                message = f"{leases.table} is a table whose changes are read"
                yield case.tell("SF1130", path, message, "name another table for the leases")


def _sqs(case: Case) -> Iterator[Problem]:
    named = of_kind(case.config, SqsTrigger)
    yield from connected(
        case, "aws", (((*path, "connection"), each.connection) for path, each in named)
    )
    for path, trigger in of_kind(case.config, SqsTrigger):
        batch = trigger.batch
        if trigger.queue.endswith(".fifo"):
            if batch.size > FIFO_SIZE_MAX:
                message = f"a batch of a FIFO queue has {FIFO_SIZE_MAX} messages at the most"
                yield case.tell("SF1111", (*path, "batch", "size"), message)
            if batch.window:
                message = "a FIFO queue has no batching window: others would wait for the group"
                yield case.tell("SF1111", (*path, "batch", "window"), message, "leave window out")
        elif batch.size > FIFO_SIZE_MAX and not batch.window:
            yield case.tell(
                "SF1112",
                (*path, "batch", "size"),
                f"one receive brings {FIFO_SIZE_MAX} messages at the most: without a window no "
                "batch has more",
                "add a window, as in batch: {size: 100, window: 1s}",
                warning=True,
            )


def _dynamodb(case: Case) -> Iterator[Problem]:
    named = of_kind(case.config, DynamoDbTrigger)
    yield from connected(
        case, "aws", (((*path, "connection"), each.connection) for path, each in named)
    )
    for path, trigger in of_kind(case.config, DynamoDbTrigger):
        if bool(trigger.table) == bool(trigger.stream):
            both = "table and stream are both given" if trigger.table else "no table is given"
            where = (*path, "stream") if trigger.table else path
            yield case.tell(
                "SF1073", where, both, "give table: a name, or stream: an ARN", key=True
            )


def _starts(case: Case, path: document.Path, start: str | datetime) -> Iterator[Problem]:
    now = datetime.now(UTC)  # noqa: TID251 - against a time that the operator wrote
    if isinstance(start, datetime) and start > now:
        yield case.tell("SF1061", (*path, "start"), f"{start:%Y-%m-%dT%H:%M:%SZ} is in the future")


def _groups(case: Case) -> Iterator[Problem]:
    """Two mappings of one group must not share a topic: each would get half of it."""
    crews: dict[tuple[str, str], _Crew] = defaultdict(_Crew)
    known = clusters(case.config)
    members: list[tuple[document.Path, _Member]] = [
        *of_kind(case.config, KafkaTrigger),
        *of_kind(case.config, ObjectTopicTrigger),
    ]
    for path, trigger in members:
        if isinstance(trigger, ObjectTopicTrigger):
            yield from _starts(case, path, trigger.start)
        cluster = known.get(trigger.connection)
        if cluster is None:
            continue
        crew = crews[cluster, trigger.group]
        clash = crew.clash(trigger)
        if clash:
            hint = "give each its own group: leave group out"
            yield case.tell("SF1068", (*path, "group"), clash, hint)
        crew.add(f"{path[1]}/{path[3]}", trigger)


_Member: TypeAlias = KafkaTrigger | ObjectTopicTrigger


def _more(member: _Member) -> tuple[str | None, str | None]:
    """A pattern and an instance, which only one kind can have."""
    if isinstance(member, ObjectTopicTrigger):
        return None, None
    return member.pattern, member.instance


@dataclass(slots=True)
class _Crew:
    """The mappings of one group on one cluster: who reads what."""

    first: str = ""
    pattern: str = ""  # who has one
    topics: dict[str, str] = field(default_factory=dict)
    instances: dict[str, str] = field(default_factory=dict)

    def clash(self, trigger: _Member) -> str:
        """Why a mapping cannot join, or nothing."""
        group = trigger.group
        for topic in trigger.topics:
            if topic in self.topics:
                return f"{self.topics[topic]} reads the topic {topic} in the same group, {group}"
        pattern, instance = _more(trigger)
        other = self.first if pattern else self.pattern
        if other:
            return f"{other} is in the same group, {group}, and a pattern may match its topics"
        if instance in self.instances:
            holder = self.instances[instance]
            return f"{holder} has the same group and the same instance, {instance}"
        return ""

    def add(self, name: str, trigger: _Member) -> None:
        self.first = self.first or name
        pattern, instance = _more(trigger)
        if pattern:
            self.pattern = self.pattern or name
        if instance is not None:
            self.instances.setdefault(instance, name)
        for topic in trigger.topics:
            self.topics.setdefault(topic, name)


RULES = (_names, _retries, _windows, _kafka, _kinesis, _dynamodb, _leases, _sqs, _groups)
