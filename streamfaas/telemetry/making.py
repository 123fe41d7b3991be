"""A recording made into the spans of a trace: done afterwards, and only for what is kept."""

from __future__ import annotations

from collections.abc import Iterator

from streamfaas.flow.letters import REPLAYS_HEADER
from streamfaas.flow.record import Records
from streamfaas.flow.verdict import deliveries
from streamfaas.telemetry import names
from streamfaas.telemetry.recording import Attempt, Origin, Recording, Sending
from streamfaas.telemetry.spans import Attribute, Span, SpanEvent, SpanKind, SpanLink, Trace

NEVER_ENDED = "cut off"
"""The error of what had not ended when its trace did."""


def trace_of(recording: Recording, kept: str) -> Trace:
    """All that is known of it by now."""
    return Trace(recording.trace_id, kept, tuple(_Making(recording).spans()))


class _Making:
    """One trace on its way to be spans."""

    def __init__(self, recording: Recording) -> None:
        self._of = recording
        ended = recording.ended
        self._until = recording.now() if ended is None else ended
        # what is wrong with what has not ended: nothing, while its trace has not either
        self._unended = "" if ended is None else NEVER_ENDED
        self._shift = recording.epoch - recording.started

    def spans(self) -> Iterator[Span]:
        recording = self._of
        caller = 0 if recording.parent is None else recording.parent.span_id
        if recording.batch is None:
            yield from (self._attempt(each, caller) for each in recording.attempts())
            return
        receive = self._receive(caller)
        yield receive
        yield self._process(receive.span_id)
        yield from self._below()

    def _below(self) -> Iterator[Span]:
        """What was done for the batch, as it came."""
        recording, process = self._of, self._of.process_id
        yield from (self._attempt(each, process) for each in recording.attempts())
        yield from (self._sending(each, process) for each in recording.sendings or ())
        for number, settlement in enumerate(recording.settlements or ()):
            yield self._settle(number, *settlement)

    def _receive(self, parent_id: int) -> Span:
        recording, started = self._of, self._of.started
        return Span(
            name=f"{names.RECEIVE} {_place(recording)}",
            kind=SpanKind.CLIENT,
            span_id=recording.process_id ^ _RECEIVE or _RECEIVE,
            parent_id=parent_id,
            start_ns=self._at(started - recording.waited),
            end_ns=self._at(started),
            attributes=self._messaging(names.RECEIVE, names.RECEIVE),
        )

    def _process(self, parent_id: int) -> Span:
        recording = self._of
        events = recording.events
        attributes = self._messaging(names.PROCESS, names.PROCESS)
        attributes |= {names.ATTEMPTS: recording.attempted}
        if recording.left_out:
            attributes[names.ATTEMPTS_LEFT_OUT] = recording.left_out
        if events is not None and events.left_out:
            attributes[names.EVENTS_LEFT_OUT] = events.left_out
        if recording.links.contexts or recording.links.dropped:
            attributes[names.LINKS_DROPPED] = recording.links.dropped
        if replays := _replays(recording):
            attributes[names.REPLAYS] = replays
        return Span(
            name=f"{names.PROCESS} {_place(recording)}",
            kind=SpanKind.CONSUMER,
            span_id=recording.process_id,
            parent_id=parent_id,
            start_ns=self._at(recording.started),
            end_ns=self._at(self._until),
            attributes=attributes,
            links=tuple(
                SpanLink(each.trace_id, each.span_id, each.sampled)
                for each in recording.links.contexts
            ),
            events=tuple(SpanEvent(name, self._at(at), told) for at, name, told in events or ()),
            error=recording.error,
        )

    def _attempt(self, attempt: Attempt, parent_id: int) -> Span:
        recording = self._of
        origin, batch = recording.origin, recording.batch
        ended = attempt.ended
        error = self._unended if ended is None else attempt.error
        attributes: dict[str, Attribute] = {
            names.FUNCTION: origin.function,
            names.VERSION: "$LATEST",
            names.TRIGGER: names.trigger_of(origin.kind),
            names.INVOCATION_ID: attempt.request_id,
            names.COLDSTART: attempt.cold,
        }
        if origin.memory_bytes:
            attributes[names.MAX_MEMORY] = origin.memory_bytes
        if attempt.worker:
            attributes[names.INSTANCE] = attempt.worker
        if origin.function_arn:
            attributes[names.INVOKED_ARN] = origin.function_arn
        if attempt.outcome:
            attributes[names.OUTCOME] = attempt.outcome
        if batch is not None:
            attributes |= _of_lane(origin, batch.lane.name)
        if attempt.number:
            attributes |= {
                # a queue counts for itself
                names.ATTEMPT: max(attempt.number, deliveries(batch) + 1) if batch else 1,
                names.FIRST_OFFSET: attempt.first,
                names.LAST_OFFSET: attempt.last,
                names.BATCH_MESSAGES: attempt.records,
                names.BISECTED: attempt.bisected,
            }
        return Span(
            name=origin.function,
            kind=SpanKind.SERVER,
            span_id=attempt.span_id,
            parent_id=parent_id,
            start_ns=self._at(attempt.started),
            end_ns=self._at(self._until if ended is None else ended),
            attributes=_with_error(attributes, error),
            error=error,
        )

    def _sending(self, sending: Sending, parent_id: int) -> Span:
        ended = sending.ended
        error = self._unended if ended is None else ""
        # of a topic on some brokers, the conventions want the topic's name
        to = sending.to.partition(" on ")[0] if sending.kind == "kafka" else sending.to
        attributes: dict[str, Attribute] = {
            names.SYSTEM: names.system_of(sending.kind),
            names.OPERATION_NAME: names.SEND,
            names.OPERATION_TYPE: names.SEND,
            names.DESTINATION: to,
            names.BATCH_MESSAGES: sending.letters,
        }
        return Span(
            name=f"{names.SEND} {to}",
            kind=SpanKind.PRODUCER,
            span_id=sending.context.span_id,
            parent_id=parent_id,
            start_ns=self._at(sending.started),
            end_ns=self._at(self._until if ended is None else ended),
            attributes=_with_error(attributes, error),
            error=error,
        )

    def _settle(self, number: int, begun: int, ended: int, position: int) -> Span:
        recording = self._of
        attributes = self._messaging(names.SETTLE, names.SETTLE)
        kafka = recording.origin.kind == "kafka"
        attributes[names.KAFKA_OFFSET if kafka else names.POSITION] = position
        return Span(
            name=f"{names.SETTLE} {_place(recording)}",
            kind=SpanKind.CLIENT,
            span_id=recording.process_id ^ (_SETTLE + number) or _SETTLE,
            parent_id=recording.process_id,
            start_ns=self._at(begun),
            end_ns=self._at(ended),
            attributes=attributes,
        )

    def _messaging(self, operation: str, operation_type: str) -> dict[str, Attribute]:
        origin, batch = self._of.origin, self._of.batch
        assert batch is not None
        attributes: dict[str, Attribute] = {
            names.SYSTEM: names.system_of(origin.kind),
            names.OPERATION_NAME: operation,
            names.OPERATION_TYPE: operation_type,
            names.DESTINATION: _place(self._of),
            names.MAPPING: batch.lane.source,
            names.LANE: batch.lane.name,
            **_of_lane(origin, batch.lane.name),
        }
        if origin.group:
            attributes[names.CONSUMER_GROUP] = origin.group
        if operation != names.SETTLE:
            attributes |= {
                names.BATCH_MESSAGES: batch.count,
                names.FIRST_OFFSET: batch.first,
                names.LAST_OFFSET: batch.last,
            }
        return attributes

    def _at(self, moment: int) -> int:
        return moment + self._shift


_QUEUES = frozenset({"backlog", "directory", "object-store", "sqs"})
_RECEIVE = 1 << 40
_SETTLE = 1 << 41


def _place(recording: Recording) -> str:
    """What the batch is from, in a word: the topic, the bucket, or the mapping."""
    origin, batch = recording.origin, recording.batch
    assert batch is not None
    if origin.place:
        return origin.place
    topic, _, _ = batch.lane.name.rpartition("-")
    return topic or batch.lane.name


def _of_lane(origin: Origin, lane: str) -> dict[str, Attribute]:
    """A partition where there is one: a queue has only slots."""
    if origin.kind in _QUEUES:
        return {}
    return {names.PARTITION: lane if origin.place else lane.rpartition("-")[2]}


def _replays(recording: Recording) -> int:
    """How often the records were run again on purpose, of a batch of one that was."""
    batch = recording.batch
    assert batch is not None
    payload = batch.runs[0].payload
    if batch.count != 1 or not isinstance(payload, Records):
        return 0
    headers = dict(payload.records[0].headers) if payload.records else {}
    told = headers.get(REPLAYS_HEADER, b"")
    return int(told) if told.isdigit() and len(told) <= 4 else 0


def _with_error(attributes: dict[str, Attribute], error: str) -> dict[str, Attribute]:
    return {**attributes, names.ERROR_TYPE: error} if error else attributes
