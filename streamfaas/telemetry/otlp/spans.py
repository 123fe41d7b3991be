"""Kept traces as the SDK's spans: made afterwards, and only of what is sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.util.types import AttributeValue

from streamfaas.telemetry import names, spans
from streamfaas.telemetry.console import unicode
from streamfaas.telemetry.spans import Attribute, Span, SpanLink, Trace

_KINDS = {each: SpanKind[each.name] for each in spans.SpanKind}
_SAMPLED, _NOT_SAMPLED = TraceFlags(TraceFlags.SAMPLED), TraceFlags(TraceFlags.DEFAULT)
_WELL = Status(StatusCode.UNSET)


def readable_spans(
    traces: Iterable[Trace], resource: Resource, scope: InstrumentationScope
) -> list[ReadableSpan]:
    """All spans of the traces. The SDK's limits are not theirs: they have limits already, and a
    span says how many of its links were left out."""
    return [
        ReadableSpan(
            name=unicode(span.name),
            context=_context(trace.trace_id, span.span_id),
            parent=_context(trace.trace_id, span.parent_id) if span.parent_id else None,
            resource=resource,
            attributes=_attributes(span.attributes),
            events=tuple(_events(span)),
            links=_links(span),
            kind=_KINDS[span.kind],
            status=Status(StatusCode.ERROR, unicode(span.error)) if span.error else _WELL,
            start_time=span.start_ns,
            end_time=span.end_ns,
            instrumentation_scope=scope,
        )
        for trace in traces
        for span in trace.spans
    ]


def _context(trace_id: int, span_id: int) -> SpanContext:
    return SpanContext(trace_id, span_id, is_remote=False, trace_flags=_SAMPLED)


def _events(span: Span) -> Iterator[Event]:
    for each in span.events:
        yield Event(unicode(each.name), _attributes(each.attributes), each.at_ns)


def _links(span: Span) -> BoundedList[Link]:
    found = BoundedList.from_seq(None, [_link(each) for each in span.links])
    dropped = span.attributes.get(names.LINKS_DROPPED, 0)
    assert isinstance(dropped, int)
    found.dropped = dropped
    return found


def _link(link: SpanLink) -> Link:
    flags = _SAMPLED if link.sampled else _NOT_SAMPLED
    return Link(SpanContext(link.trace_id, link.span_id, is_remote=True, trace_flags=flags))


def _attributes(attributes: Mapping[str, Attribute]) -> dict[str, AttributeValue]:
    return {name: _value(each) for name, each in attributes.items()}


def _value(value: Attribute) -> AttributeValue:
    if isinstance(value, str):
        return unicode(value)
    if isinstance(value, bool | int | float):
        return value
    return [unicode(each) for each in value]
