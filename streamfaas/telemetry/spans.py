"""What a kept trace is: plain values, made into an SDK's spans only where they are exported."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from streamfaas.flow.value import value

Attribute: TypeAlias = str | bool | int | float | Sequence[str]


class SpanKind(enum.Enum):
    """OpenTelemetry's span kinds."""

    INTERNAL = "internal"
    SERVER = "server"
    CLIENT = "client"
    PRODUCER = "producer"
    CONSUMER = "consumer"


@value
class SpanLink:
    """The context of another span, as a producer wrote it into a record's headers."""

    trace_id: int
    span_id: int
    sampled: bool = True


@value
class SpanEvent:
    """Something that happened at one moment of a span."""

    name: str
    at_ns: int
    attributes: Mapping[str, Attribute]


@value
class Span:
    """One span of a trace; times are epoch nanoseconds, `parent_id` 0 where it has none in here.
    `error` is empty where it went well."""

    name: str
    kind: SpanKind
    span_id: int
    parent_id: int
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Attribute]
    links: tuple[SpanLink, ...] = ()
    events: tuple[SpanEvent, ...] = ()
    error: str = ""


@value
class Trace:
    """All spans of one batch, parents before their children. `kept` says why it was: `sampled`,
    `error` or `slow`."""

    trace_id: int
    kept: str
    spans: tuple[Span, ...]


Keep = Callable[[Trace], None]
"""Takes a trace that has ended. Never raises, never waits."""
