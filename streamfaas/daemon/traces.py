"""What the daemon answers about traces: those that it still has, and those that go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import parse_qsl

from pydantic import BaseModel, Field, ValidationError

from streamfaas.api.server import Request, Response
from streamfaas.telemetry import names
from streamfaas.telemetry.kept import KeptTraces
from streamfaas.telemetry.recorder import ERROR, Recorder
from streamfaas.telemetry.spans import Attribute, Span, SpanEvent, SpanLink, Trace

LIST_MAX = 1_000
LIST_DEFAULT = 20
PREFIX_MIN = 4
"""Digits of an id that may stand for the whole, where they name one trace only."""


class Traces:
    """Routes: `GET /traces?mapping=&errors=&slow=&limit=`, `GET /traces/<id>`."""

    def __init__(
        self, recorder: Recorder, kept: KeptTraces, unknown: Callable[[str], str | None]
    ) -> None:
        self._recorder = recorder
        self._kept = kept
        self._unknown = unknown

    def handle(self, request: Request) -> Response:
        path, _, query = request.path.partition("?")
        try:
            match request.method, path.split("/")[2:]:
                case "GET", []:
                    asked = dict(parse_qsl(query, keep_blank_values=True))
                    return self._list(_Listing.model_validate(asked))
                case "GET", [id_]:
                    return self._show(id_.lower())
                case _:
                    return _no(405, f"{request.method} is not for {path}")
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            return _no(400, f"{'.'.join(map(str, first['loc']))}: {first['msg']}")

    def _list(self, asked: _Listing) -> Response:
        going = self._recorder.going()
        unended = {id(trace) for trace in going}
        rows = [
            _summary(trace, going=id(trace) in unended)
            for trace in (*going, *self._kept.newest_first())
        ]
        # of what has left the configuration there may still be some
        of_it = any(_Listing(mapping=asked.mapping).wants(row) for row in rows)
        if not of_it and (unknown := self._unknown(asked.mapping)) is not None:
            return _no(404, unknown)
        chosen = [row for row in rows if asked.wants(row)]
        return Response.json(
            200, {"traces": chosen[: asked.limit], "more": len(chosen) > asked.limit}
        )

    def _show(self, prefix: str) -> Response:
        """All that is known of one trace, which other batches may have gone on with."""
        going = self._recorder.going()
        every = [*going, *reversed(self._kept.newest_first())]
        found = [trace for trace in every if _hex(trace).startswith(prefix)]
        ids = {trace.trace_id for trace in found}
        if not ids or len(prefix) < PREFIX_MIN:
            return _no(404, f"there is no trace {prefix!r} (any more); see `streamfaas traces`")
        if len(ids) > 1:
            return _no(400, f"{len(ids)} traces begin with {prefix}: give more of the id")
        spans = sorted((span for trace in found for span in trace.spans), key=_by_start)
        return Response.json(
            200,
            {
                "trace_id": _hex(found[0]),
                "kept": found[0].kept,
                "going": any(trace is each for trace in found for each in going),
                "spans": [_span(span) for span in spans],
            },
        )


class _Listing(BaseModel, extra="forbid"):
    mapping: str = ""
    errors: bool = False
    slow: Annotated[float, Field(ge=0, le=1e9)] = 0.0
    limit: Annotated[int, Field(ge=1, le=LIST_MAX)] = LIST_DEFAULT

    def wants(self, row: dict[str, Any]) -> bool:
        mapping, asked = row["mapping"], self.mapping
        there = not asked or mapping == asked or mapping.startswith(f"{asked}/")
        failed = row["kept"] == ERROR or not self.errors
        return bool(there and failed and row["seconds"] >= self.slow)


def _summary(trace: Trace, *, going: bool) -> dict[str, Any]:
    spans = trace.spans
    main = next((span for span in spans if names.ATTEMPTS in span.attributes), spans[0])
    last = max(span.end_ns for span in spans)
    return {
        "trace_id": _hex(trace),
        "kept": trace.kept,
        "going": going,
        "mapping": main.attributes.get(names.MAPPING, main.attributes.get(names.FUNCTION, "")),
        "name": main.name,
        "lane": main.attributes.get(names.LANE, ""),
        "first": main.attributes.get(names.FIRST_OFFSET),
        "last": main.attributes.get(names.LAST_OFFSET),
        "records": main.attributes.get(names.BATCH_MESSAGES),
        "attempts": main.attributes.get(names.ATTEMPTS, 1),
        "error": main.error or next((each.error for each in reversed(spans) if each.error), ""),
        "links": len(main.links),
        "spans": len(spans),
        "start_ns": spans[0].start_ns,
        "seconds": round((last - main.start_ns) / 1e9, 6),
    }


def _span(span: Span) -> dict[str, Any]:
    return {
        "span_id": f"{span.span_id:016x}",
        "parent_id": f"{span.parent_id:016x}" if span.parent_id else "",
        "name": span.name,
        "kind": span.kind.value,
        "start_ns": span.start_ns,
        "end_ns": span.end_ns,
        "error": span.error,
        "attributes": {name: _plain(each) for name, each in span.attributes.items()},
        "events": list(map(_event, span.events)),
        "links": list(map(_link, span.links)),
    }


def _event(event: SpanEvent) -> dict[str, Any]:
    attributes = {name: _plain(each) for name, each in event.attributes.items()}
    return {"name": event.name, "at_ns": event.at_ns, "attributes": attributes}


def _link(link: SpanLink) -> dict[str, Any]:
    ids = {"trace_id": f"{link.trace_id:032x}", "span_id": f"{link.span_id:016x}"}
    return {**ids, "sampled": link.sampled}


def _plain(attribute: Attribute) -> str | bool | int | float | list[str]:
    match attribute:
        case str() | bool() | int() | float():
            return attribute
        case _:
            return list(attribute)


def _hex(trace: Trace) -> str:
    return f"{trace.trace_id:032x}"


def _by_start(span: Span) -> int:
    return span.start_ns


def _no(status: int, error: str) -> Response:
    return Response.json(status, {"error": error})
