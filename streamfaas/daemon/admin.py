"""What the daemon answers on its own socket."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import orjson

from streamfaas.api.server import Request, Response
from streamfaas.daemon.build import origin_of
from streamfaas.daemon.catalogue import Catalogue
from streamfaas.daemon.changes import Changes
from streamfaas.daemon.replays import Replays
from streamfaas.daemon.sendings import Sendings
from streamfaas.daemon.shown import Shown
from streamfaas.daemon.steering import Steering, known_triggers
from streamfaas.daemon.traces import Traces
from streamfaas.engine.requests import RequestIds
from streamfaas.flow.errors import Busy, StoreError
from streamfaas.flow.event import EVENT_BYTES_MAX, Encoding, Event
from streamfaas.flow.invocation import Invocation, Manner
from streamfaas.flow.outcome import Failure, Fault
from streamfaas.flow.trace import context_of
from streamfaas.telemetry.signals import InvocationEnded
from streamfaas.wire.documents import error_payload

if TYPE_CHECKING:
    from streamfaas.daemon.main import Daemon


UNTIL = "streamfaas-until"
"""The header that says until when who asks waits, by this machine's monotonic clock. What comes to
be handled later, of a daemon that was stopped for a while, has been given up: it changes nothing,
not least as another one may have been asked for since."""

ASYNC_BYTES_MAX = 1024 * 1024
"""The largest event of an asynchronous invocation that somebody makes, as on Lambda."""


class Admin:
    """Routes: `GET /status`, `/triggers/…`, `POST /stop`, `POST /invoke/<function>` (`/event`: and
    wait for no answer), and those of what is sent, passes, is written and was traced (`/send`,
    `/tap`, `/logs`, `/traces`), of another configuration (`/reload`, `/diff`), of what was put
    aside and is run again (`/dlq`, `/redrive`, `/replay`, `/skip`), and of triggers that are
    steered (`/pause`, `/resume`, `/seek`)."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._request_id = RequestIds()

    async def handle(self, request: Request) -> Response:  # noqa: C901, PLR0912 - one case a route
        if request.method != "GET" and not _still_wanted(request.headers.get(UNTIL, "")):
            return Response.json(408, {"error": "nobody waits for it any more: nothing was done"})
        match request.method, request.path.partition("?")[0].split("/")[1:]:
            case _, ["dlq", *_]:
                return await self._catalogue().handle(request)
            case _, ["send", _, _]:
                return await Sendings(self._daemon).handle(request)
            case _, ["tap" | "logs" as asked]:
                return await self._watch(asked, request)
            case _, ["reload" | "diff"]:
                return await Changes(self._daemon).handle(request)
            case _, ["traces", *_]:
                return self._traces().handle(request)
            case _, ["redrive", _] | ["replay" | "skip", _, _]:
                return await self._replays().handle(request)
            case _, ["pause" | "resume" | "seek", *_]:
                return await self._steering().handle(request)
            case "POST", ["invoke", function, "event"]:
                return await self._accept(function, request)
            case _, ["status"] | ["triggers", _, _]:
                return Shown(self._daemon).handle(request)
            case "POST", ["invoke", function]:
                return await self._invoke(function, request)
            case "POST", ["stop"]:
                self._daemon.stop()
                return Response.json(202, {"state": "draining"})
            case _, ["stop"] | ["invoke", _] | ["invoke", _, "event"]:
                return Response.json(405, {"error": f"{request.method} is not for {request.path}"})
            case _:
                return Response.json(404, {"error": f"there is no {request.path}"})

    async def _watch(self, asked: str, request: Request) -> Response:
        observers = self._daemon.observers
        if asked == "tap":
            return observers.taps.handle(request)
        return await observers.lines.handle(request)

    def _catalogue(self) -> Catalogue:
        assert self._daemon.outbox is not None
        return Catalogue(self._daemon.outbox, emit=self._daemon.emit)

    def _replays(self) -> Replays:
        assert self._daemon.outbox is not None
        return Replays(self._daemon.mappings, self._daemon.outbox, self._daemon.accept)

    def _traces(self) -> Traces:
        observers = self._daemon.observers
        return Traces(observers.recorder, observers.traces, observers.taps.unknown)

    def _steering(self) -> Steering:
        daemon = self._daemon
        assert daemon.brakes is not None
        known = known_triggers(daemon.plan)
        return Steering(known, daemon.mappings, daemon.brakes, emit=daemon.emit)

    async def _accept(self, function: str, request: Request) -> Response:
        """An asynchronous invocation: nobody waits for its answer."""
        if (wrong := self._wrong(function, request.body, ASYNC_BYTES_MAX)) is not None:
            return wrong
        request_id, caller = self._request_id(), context_of(request.headers)
        trace = "" if caller is None else caller.traceparent
        try:
            await self._daemon.accept(function, request.body, request_id, trace=trace)
        except Busy as error:
            return Response.json(429, {"error": str(error)})
        except StoreError as error:
            return Response.json(503, {"error": str(error)})
        return Response.json(202, {"request_id": request_id})

    def _wrong(
        self, function: str, body: bytes, bytes_max: int = EVENT_BYTES_MAX
    ) -> Response | None:
        """What keeps a call from being made at all."""
        if function not in {each.name for each in self._daemon.plan.functions}:
            return Response.json(404, {"error": f"there is no function {function!r}"})
        if len(body) > bytes_max:
            return Response.json(413, {"error": f"the event is over {bytes_max} bytes"})
        try:
            orjson.loads(body)
        except orjson.JSONDecodeError as error:
            return Response.json(400, {"error": f"the event is not JSON: {error}"})
        return None

    async def _invoke(self, function: str, request: Request) -> Response:
        if (wrong := self._wrong(function, request.body)) is not None:
            return wrong
        daemon = self._daemon
        assert daemon.pool is not None
        request_id, event = self._request_id(), Event(Encoding.JSON, (request.body,))
        origin = next(origin_of(f) for f in daemon.plan.functions if f.name == function)
        with daemon.observers.recorder.call(origin, context_of(request.headers)) as trace:
            context = trace.attempt(request_id)
            invocation = Invocation(request_id, function, event, Manner.SYNC, context=context)
            outcome = await daemon.pool.call(invocation)
            kept = trace.tried(None, outcome)
        ended = InvocationEnded(request_id, function, None, 1, 0, 0, 0, outcome, kept)
        daemon.emit(ended)
        if taps := daemon.observers.taps:
            taps.saw_event(ended, request.body)
        report = outcome.report
        headers = {
            "content-type": "application/json",
            "x-amzn-requestid": invocation.id,
            "x-amzn-trace-id": context.xray,
            "x-amz-executed-version": "$LATEST",
            "x-streamfaas-worker": report.worker,
            "x-streamfaas-duration-ms": f"{report.duration_seconds * 1000:.3f}",
        }
        if isinstance(outcome, Failure):
            if outcome.fault in {Fault.THROTTLED, Fault.ABORTED}:
                return Response.json(503, {"error": outcome.message})
            headers["x-amz-function-error"] = "Unhandled"
            return Response(200, orjson.dumps(error_payload(outcome, invocation.id)), headers)
        return Response(200, outcome.answer, headers)


def _still_wanted(until: str) -> bool:
    """Who does not say how long he waits, waits."""
    try:
        return not until or time.monotonic() <= float(until)
    except ValueError:
        return False
