"""Events that pass, for people to watch; what the handlers see of them only while someone asks."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import parse_qsl

import orjson
from pydantic import BaseModel, Field, ValidationError

from streamfaas.api.server import LINES, Request, Response
from streamfaas.config.keys import nearest
from streamfaas.config.spec import ASYNCHRONOUS
from streamfaas.daemon.feeds import Feed, Feeds
from streamfaas.daemon.witnesses import Witnesses
from streamfaas.engine.mapping import Mapping as Trigger
from streamfaas.engine.panes import event_of
from streamfaas.flow.batch import Batch
from streamfaas.flow.errors import CorruptBatch
from streamfaas.flow.failure import place_of
from streamfaas.flow.outcome import Failure
from streamfaas.flow.record import Lane
from streamfaas.flow.value import value
from streamfaas.sources import Source
from streamfaas.telemetry import signals
from streamfaas.telemetry.signals import InvocationEnded, Signal

PASSED_MAX = 200
"""Attempts that are remembered, without their payloads."""

ROWS_A_SECOND = 200.0
"""What one listener is told of; the rest is counted."""

PAYLOADS_A_SECOND = 10.0
PAYLOAD_BYTES_A_SECOND = 1024.0 * 1024
"""What is built for all listeners together, since the daemon itself never looks into records."""

PAYLOAD_BYTES_MAX = 256 * 1024
"""Of a batch that is larger, only the first records are shown."""

FEED_BYTES_MAX = 8 * 1024 * 1024
MESSAGE_MAX = 400


class Taps:
    """Route: `GET /tap?target=&payload=&errors=&last=`. An ear of the daemon, which remembers the
    last attempts; and one of the witnesses of the lanes, for as long as somebody wants payloads. It
    is given what there is to be watched."""

    def __init__(
        self,
        feeds: Feeds,
        functions: Callable[[], Iterable[str]],
        triggers: Callable[[], Mapping[str, Trigger]],
        witnesses: Witnesses,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._feeds = feeds
        self._functions = functions
        self._triggers = triggers
        self._witnesses = witnesses
        self._clock = clock
        self._wall_clock = wall_clock
        self._passed: deque[_Passed] = deque(maxlen=PASSED_MAX)
        self._looking: list[_Tap] = []
        self._payloads = _Allowance(PAYLOADS_A_SECOND, clock)
        self._bytes = _Allowance(PAYLOAD_BYTES_A_SECOND, clock)

    def __call__(self, signal: Signal) -> None:
        if type(signal) is InvocationEnded:
            self._passed.append(self._noted(signal))

    def handle(self, request: Request) -> Response:
        """What passes from now on, line by line; or, with `last`, what has passed."""
        path, _, query = request.path.partition("?")
        if request.method != "GET":
            return Response.json(405, {"error": f"{request.method} is not for {path}"})
        try:
            wanted = Wanted.model_validate(dict(parse_qsl(query, keep_blank_values=True)))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            told = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
            return Response.json(400, {"error": told})
        if (unknown := self.unknown(wanted.target)) is not None:
            return Response.json(404, {"error": unknown})
        if wanted.last is None:
            return Response(200, self._listen(wanted), LINES)
        found = [each for each in self._passed if wanted.has(each)]
        rows = [self._row(each) for each in found[-wanted.last :]]
        return Response.json(200, {"passed": rows})

    # -- as a witness

    def __bool__(self) -> bool:
        """Whether anybody wants to see payloads."""
        return bool(self._looking)

    def saw(self, ended: InvocationEnded, source: Source, batch: Batch) -> None:
        """An attempt at a batch has ended."""
        passed = self._noted(ended)
        taps = [tap for tap in self._looking if tap.wanted.has(passed)]
        if taps and self._may_build((head := _head(batch)).event_bytes):
            partly = {} if head is batch else {"payload_records": head.count}
            self._show(taps, passed, {**_payload(source, head), **partly})
        else:
            _miss(taps)

    def saw_event(self, ended: InvocationEnded, event: bytes) -> None:
        """A direct call has ended."""
        passed = self._noted(ended)
        taps = [tap for tap in self._looking if tap.wanted.has(passed)]
        if taps and self._may_build(len(event)):
            self._show(taps, passed, {"payload": orjson.Fragment(event)})
        else:
            _miss(taps)

    def _may_build(self, size: int) -> bool:
        """Also a large one, if only nothing was shown for a while: what it takes too much is
        missing later."""
        if self._bytes.left() > 0 and self._payloads.left() >= 1:
            self._bytes.spend(size)
            self._payloads.spend(1)
            return True
        return False

    def _show(self, taps: list[_Tap], passed: _Passed, payload: dict[str, Any]) -> None:
        row = {**self._row(passed), **payload}
        for tap in taps:
            tap.put(row)

    # -- as a feed

    def _listen(self, wanted: Wanted) -> Feed:
        tap = _Tap(wanted, self, _Allowance(ROWS_A_SECOND, self._clock))
        if not wanted.payload:
            tap.feed = self._feeds.subscribe(tap.choose)
            tap.feed.put({"what": "watching"})
            return tap.feed

        def left() -> None:
            self._looking.remove(tap)
            if not self._looking:
                self._witnesses.remove(self.saw)

        tap.feed = self._feeds.subscribe(tap.choose, bytes_max=FEED_BYTES_MAX, left=left)
        if not self._looking:
            self._witnesses.add(self.saw)
        self._looking.append(tap)
        tap.feed.put({"what": "watching"})
        return tap.feed

    def told(self, signal: Signal, wanted: Wanted) -> dict[str, Any] | None:
        """The row of a signal, for who wants it."""
        row: dict[str, Any]
        match signal:
            case InvocationEnded():
                passed = self._noted(signal)
                # one with its payload comes by the witness
                return None if wanted.payload or not wanted.has(passed) else self._row(passed)
            case signals.LaneRetrying(lane, first, last, attempt, wait, blocked, _):
                row = {"attempt": attempt, "wait_seconds": round(wait, 3), "blocked": blocked}
                what = "retrying"
            case signals.BatchSplit(lane, first, last, records):
                what, row = "split", {"parts": list(records)}
            case signals.BatchSetAside(lane, first, last, records, condition, destination):
                row = {"records": records, "condition": condition, "destination": destination}
                what = "set aside"
            case _:
                return None
        if not wanted.of(lane.source.partition("/")[0], lane):
            return None
        return {
            "what": what,
            "time": _iso(self._wall_clock()),
            **_where(lane.source.partition("/")[0], lane, first, last),
            **row,
        }

    def _noted(self, ended: InvocationEnded) -> _Passed:
        outcome = ended.outcome
        error, place = None, ""
        if isinstance(outcome, Failure):
            error = outcome.type[:MESSAGE_MAX], outcome.message[:MESSAGE_MAX]
            place = place_of(outcome.stack)
        return _Passed(
            at=self._wall_clock(),
            function=ended.function,
            lane=ended.lane,
            span=(ended.first, ended.last),
            records=ended.records,
            attempt=ended.attempt + 1,
            request_id=ended.request_id,
            worker=outcome.report.worker,
            duration_seconds=outcome.report.duration_seconds,
            init_seconds=outcome.report.init_seconds,
            error=error,
            place=place,
        )

    def _row(self, passed: _Passed) -> dict[str, Any]:
        lane, init = passed.lane, passed.init_seconds
        first, last = passed.span
        row = {
            "what": "attempt",
            "time": _iso(passed.at),
            **_where(passed.function, lane, first, last),
            "records": passed.records,
            "attempt": passed.attempt,
            "attempts_max": None if lane is None else self._attempts_max(lane.source),
            "ok": passed.error is None,
            "duration_ms": round(passed.duration_seconds * 1000, 3),
            "init_ms": None if init is None else round(init * 1000, 3),
            "worker": passed.worker,
            "request_id": passed.request_id,
        }
        if passed.error is not None:
            kind, message = passed.error
            row |= {"error_type": kind, "error_message": message, "place": passed.place}
        return row

    def _attempts_max(self, name: str) -> int | None:
        trigger = self._triggers().get(name)
        retries = None if trigger is None else trigger.policy.retry.retries_max
        return None if retries is None else retries + 1

    def unknown(self, target: str) -> str | None:
        """What is said of a target that there is not."""
        functions = list(self._functions())
        known = functions
        if "/" in target:
            known = [*self._triggers(), *(f"{each}/{ASYNCHRONOUS}" for each in functions)]
        if not target or target in known:
            return None
        near = nearest(target, known)
        hint = f"did you mean {near}?" if near else f"there are: {', '.join(known) or 'none'}"
        return f"there is no {'trigger' if '/' in target else 'function'} {target}; {hint}"


@value
class _Passed:
    """One attempt that has ended, without its event and its answer."""

    at: float
    function: str
    lane: Lane | None
    span: tuple[int, int]
    records: int
    attempt: int
    request_id: str
    worker: str
    duration_seconds: float
    init_seconds: float | None
    error: tuple[str, str] | None
    place: str


class Wanted(BaseModel, extra="forbid"):
    """What a listener asks for; `target` is a function or one of its triggers."""

    target: str = ""
    payload: bool = False
    errors: bool = False
    last: Annotated[int, Field(ge=1, le=PASSED_MAX)] | None = None

    def has(self, passed: _Passed) -> bool:
        if self.errors and passed.error is None:
            return False
        return self.of(passed.function, passed.lane)

    def of(self, function: str, lane: Lane | None) -> bool:
        return not self.target or self.target in {function, None if lane is None else lane.source}


class _Tap:
    """One listener, and how fast he is told."""

    def __init__(self, wanted: Wanted, taps: Taps, rows: _Allowance) -> None:
        self.wanted = wanted
        self._taps = taps
        self._rows = rows
        self.feed: Feed | None = None

    def choose(self, signal: Signal) -> None:
        """Tells by itself, as far as he may be told."""
        row = self._taps.told(signal, self.wanted)
        if row is not None:
            self.put(row)

    def put(self, row: dict[str, Any]) -> None:
        assert self.feed is not None
        if self._rows.left() >= 1:
            self._rows.spend(1)
            self.feed.put(row)
        else:
            self.feed.miss()


class _Allowance:
    """So much a second, of which that of one second can be saved up."""

    def __init__(self, a_second: float, clock: Callable[[], float]) -> None:
        self._a_second = a_second
        self._clock = clock
        self._left = a_second
        self._at = clock()

    def left(self) -> float:
        now = self._clock()
        self._left = min(self._a_second, self._left + (now - self._at) * self._a_second)
        self._at = now
        return self._left

    def spend(self, amount: float) -> None:
        self._left -= amount


def _miss(taps: list[_Tap]) -> None:
    for tap in taps:
        assert tap.feed is not None
        tap.feed.miss()


def _payload(source: Source, batch: Batch) -> dict[str, Any]:
    """The event as the handler saw it."""
    try:
        return {"payload": orjson.Fragment(event_of(source, batch))}
    except CorruptBatch as damage:
        return {"payload": None, "payload_error": str(damage)}


def _head(batch: Batch) -> Batch:
    """The batch, or of a large one the first records."""
    if batch.event_bytes <= PAYLOAD_BYTES_MAX:
        return batch
    run = batch.of_records.runs[0]
    at = run.payload.fit(run.first, run.last, batch.count, PAYLOAD_BYTES_MAX)
    return (batch.cut(at)[0] if at <= batch.last else None) or batch


def _where(function: str, lane: Lane | None, first: int, last: int) -> dict[str, Any]:
    if lane is None:
        return {"function": function, "trigger": None, "lane": None, "first": None, "last": None}
    trigger = lane.source.partition("/")[2]
    return {
        "function": function, "trigger": trigger, "lane": lane.name, "first": first, "last": last
    }  # fmt: skip


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds")
