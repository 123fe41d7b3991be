"""Trace contexts: read strictly, written for each reader, sampled by their id alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from streamfaas.flow.batch import Batch
from streamfaas.flow.record import Headers, Records
from streamfaas.flow.value import value

TRACEPARENT = "traceparent"
"""The header by which a context comes with a record, a request or a letter."""

LINKS_MAX = 2_000
"""What a worker can hand back of one batch, and so the most that a batch can be linked to."""

_TRACEPARENT = re.compile(
    r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL
)
_LENGTH = 55
_LENGTH_MAX = 512
_SAMPLED = 1
_LOW_64 = (1 << 64) - 1
_DROPPED_BYTES = 4

PACKED_BYTES = 16 + 8 + 1
"""A context as it is packed: trace, span, flags."""


@value
class Context:
    """Who is at work: a span of a trace. `sampled`: it is recorded."""

    trace_id: int
    span_id: int
    sampled: bool = False

    @property
    def traceparent(self) -> str:
        """As W3C's header has it."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{self.sampled:02x}"

    @property
    def xray(self) -> str:
        """As X-Ray's header has it: the same trace under the same number."""
        root = f"{self.trace_id:032x}"
        return f"Root=1-{root[:8]}-{root[8:]};Parent={self.span_id:016x};Sampled={self.sampled:d}"

    @property
    def packed(self) -> bytes:
        """As workers are told it."""
        whole = self.trace_id << 72 | self.span_id << 8 | self.sampled
        return whole.to_bytes(PACKED_BYTES, "big")


def parse(header: str | bytes | None) -> Context | None:
    """The context of a `traceparent`; None where it is none: nobody's records or requests fail for
    a header that somebody wrote badly."""
    if header is None or not _LENGTH <= len(header) <= _LENGTH_MAX:
        return None
    text = header.decode("latin-1") if isinstance(header, bytes) else header
    found = _TRACEPARENT.fullmatch(text)
    if found is None:
        return None
    version, trace, span, flags, more = found.groups()
    if version == "ff" or (version == "00" and more is not None):
        return None
    return _made(int(trace, 16), int(span, 16), int(flags, 16))


def _made(trace_id: int, span_id: int, flags: int) -> Context | None:
    return Context(trace_id, span_id, bool(flags & _SAMPLED)) if trace_id and span_id else None


def ratio_bound(ratio: float) -> int:
    """What `is_within` compares with, as OpenTelemetry's TraceIdRatioBased has it."""
    assert 0.0 <= ratio <= 1.0
    return round(ratio * (_LOW_64 + 1))


def is_within(trace_id: int, bound: int) -> bool:
    """Whether a trace is of the sample: all who look at the same id say the same."""
    return trace_id & _LOW_64 < bound


@dataclass(frozen=True, slots=True)
class Links:
    """The traces that records came from, each once, and how many more there were."""

    contexts: tuple[Context, ...] = ()
    dropped: int = 0


NO_LINKS = Links()


def linked(found: Iterable[Context], most: int, dropped: int = 0) -> Links:
    """One of each trace, the first, in the order in which they came. What is sampled somewhere
    goes before what nobody has recorded, where there are too many."""
    first: dict[int, Context] = {}
    for context in found:
        known = first.get(context.trace_id)
        if known is None or (context.sampled and not known.sampled):
            first[context.trace_id] = context
    contexts = sorted(first.values(), key=_unsampled)
    return Links(tuple(contexts[:most]), dropped + max(0, len(contexts) - most))


def _unsampled(context: Context) -> bool:
    return not context.sampled


def producers(batch: Batch) -> Iterator[Context]:
    """The contexts that the records of a batch came with, as far as they were looked at: into raw
    ones only the worker looks."""
    for run in batch.runs:
        if run.count and isinstance(run.payload, Records):
            for record in run.payload.between(run.first, run.last):
                if (context := of_headers(record.headers)) is not None:
                    yield context


def of_headers(headers: Headers) -> Context | None:
    """The context among the headers of one record: the last one counts, as in Kafka's clients."""
    told = [each for name, each in headers if name == TRACEPARENT]
    return parse(told[-1]) if told else None


def handed_back(section: bytes) -> Links:
    """The contexts that a worker found in raw records: how many it left out, and those it did not.
    What makes no sense in it is left out."""
    starts = range(_DROPPED_BYTES, len(section) - PACKED_BYTES + 1, PACKED_BYTES)
    contexts = (_unpacked(section[at : at + PACKED_BYTES]) for at in starts)
    dropped = int.from_bytes(section[:_DROPPED_BYTES], "little")
    return Links(tuple(each for each in contexts if each is not None), dropped)


def _unpacked(packed: bytes) -> Context | None:
    whole = int.from_bytes(packed, "big")
    return _made(whole >> 72, whole >> 8 & _LOW_64, whole & 0xFF)


def context_of(headers: Mapping[str, str]) -> Context | None:
    """The context that a request came with."""
    return parse(headers.get(TRACEPARENT))
