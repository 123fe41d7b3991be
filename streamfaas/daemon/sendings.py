"""Test events for any trigger: put where its source finds them, and what becomes of them told."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any

import anyio
import orjson
from pydantic import Base64Bytes, BaseModel, Field, ValidationError

from streamfaas.api.server import LINES, Request, Response
from streamfaas.config.spec import ASYNCHRONOUS
from streamfaas.daemon.fates import ASIDE, FILTERED, SUCCEEDED, Fate, Fates
from streamfaas.daemon.feeds import ENDED
from streamfaas.daemon.samples import sample
from streamfaas.daemon.steering import SHORT
from streamfaas.daemon.taps import Wanted
from streamfaas.engine.mapping import Mapping as Trigger
from streamfaas.engine.requests import RequestIds
from streamfaas.flow.errors import CannotSend, StoreError, Unreachable, WorldError
from streamfaas.flow.record import Instant, Lane, Record
from streamfaas.sources import Message, Sendable, Sender, Sent
from streamfaas.telemetry.signals import Signal

if TYPE_CHECKING:
    from streamfaas.daemon.main import Daemon

COUNT_MAX = 10_000
RATE_MAX = 1_000.0
TIMEOUT_MAX = 3_600.0
VALUE_BYTES_MAX = 4 * 1024 * 1024
ASYNC_BYTES_MAX = 1024 * 1024

LOOK_SECONDS = 0.001
"""When it is looked whether something is settled, after something has happened; then ever later."""

LOOK_SECONDS_MAX = 0.1
CONNECT_SECONDS = 10.0
"""How long a trigger that has only begun may take until it can be sent to."""

AFTERMATH_SECONDS = 0.5
"""How long after a failure it is waited for what comes of it."""

BEHIND_SECONDS = 2.0
"""How long it is waited behind others that fail."""

PROGRESS_SECONDS = 0.25
ALIVE_SECONDS = 15.0
ROWS_MAX = 20
"""Events of one request that are told of one by one; of more, it is told how many."""


class Sendings:
    """Route: `POST /send/<function>/<trigger>`, answered by lines that tell what was sent and what
    becomes of it. Sending and following end with the listener."""

    def __init__(self, daemon: Daemon, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._daemon = daemon
        self._clock = clock

    async def handle(self, request: Request) -> Response:
        path = request.path.partition("?")[0]
        if request.method != "POST":
            return _no(405, f"{request.method} is not for {path}")
        _, function, trigger = path.split("/")[1:]
        name = f"{function}/{ASYNCHRONOUS if trigger == SHORT else trigger}"
        if (unknown := self._daemon.observers.taps.unknown(name)) is not None:
            return _no(404, unknown)
        try:
            asked = Asked.model_validate_json(request.body)
            told = _Sending(self._daemon, name, asked, self._clock).told()
            # what cannot be sent at all is an answer like any other
            return Response(200, _Begun(await anext(told), told), LINES)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            return _no(400, f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
        except CannotSend as error:
            return _no(400, str(error))
        except StoreError as error:
            return _no(503, error.line)
        except WorldError as error:
            return _no(503, str(error))


class Asked(BaseModel, extra="forbid"):
    """What is to be sent, how often, and how fast; whether it is waited for what becomes of it, for
    how long, and `through` failures until it is finished with."""

    value: Annotated[Base64Bytes, Field(max_length=VALUE_BYTES_MAX)] | None = None
    sample: bool = False
    key: Annotated[str, Field(max_length=4_096)] | None = None
    headers: Annotated[list[tuple[str, str]], Field(max_length=100)] = []
    topic: Annotated[str, Field(max_length=249)] = ""
    partition: Annotated[int, Field(ge=0, lt=1 << 31)] | None = None
    count: Annotated[int, Field(ge=1, le=COUNT_MAX)] = 1
    rate: Annotated[float, Field(ge=0.1, le=RATE_MAX)] | None = None
    wait: bool = True
    through: bool = False
    timeout: Annotated[float, Field(gt=0, le=TIMEOUT_MAX)] = 30.0


class _Sending:
    """One request, told row by row."""

    def __init__(self, daemon: Daemon, name: str, asked: Asked, clock: Callable[[], float]) -> None:
        self._daemon = daemon
        self._name = name
        self._function = name.partition("/")[0]
        self._asked = asked
        self._clock = clock
        self._seed = secrets.randbelow(1 << 16)
        self._kind = "backlog"
        self._fates = Fates(name, clock, reports=self._is_partial)
        self._traces: dict[str, str] = {}  # of the first ones, by place
        self._rows: list[dict[str, Any]] = []
        self._stirred = asyncio.Event()
        self._shown_at = clock()
        self._looked_at = 0.0
        self._held: frozenset[Lane] = frozenset()

    async def told(self) -> AsyncGenerator[bytes, None]:
        """Errors before anything was sent are raised, later ones are told."""
        observers, fates = self._daemon.observers, self._fates
        feed = observers.feeds.subscribe(self._hear)
        observers.witnesses.add(fates.saw, self._filtered)
        try:
            async with self._sender() as sender:
                started = self._clock()
                for number in range(self._asked.count):
                    await self._pace(started, number)
                    if feed.ended:
                        break
                    try:
                        await self._send(sender, number)
                    except (CannotSend, WorldError, StoreError) as error:
                        if not number:
                            raise
                        self._rows.append({"error": str(error)})
                        break
                    if (lines := self._news()) or not number:
                        yield lines
            deadline, pause = self._clock() + self._asked.timeout, LOOK_SECONDS
            while not feed.ended and not self._is_over(deadline):
                pause = LOOK_SECONDS if await self._stir(pause) else 2 * pause
                if lines := self._news():
                    yield lines
            self._rows.append({"ended": ENDED} if feed.ended else self._end())
            yield self._news()
        finally:
            observers.witnesses.remove(fates.saw, self._filtered)
            await feed.aclose()

    # -- sending

    @asynccontextmanager
    async def _sender(self) -> AsyncIterator[Sender]:
        if self._name.endswith(f"/{ASYNCHRONOUS}"):
            yield _Accepting(self._daemon, self._function)
            return
        trigger = self._daemon.mappings.get(self._name)
        if trigger is not None:
            with anyio.move_on_after(CONNECT_SECONDS):
                await trigger.connected.wait()
        source = None if trigger is None else trigger.source
        if source is None:
            raise Unreachable(f"{self._name} is not connected yet: streamfaas status")
        if not isinstance(source, Sendable):
            raise CannotSend(f"a {source.kind} trigger takes no test events")
        self._kind = source.kind
        self._fates.known_by = source.known_by
        async with source.sender(self._asked.topic) as sender:
            yield sender

    def _is_partial(self) -> bool:
        trigger = self._daemon.mappings.get(self._name)
        return trigger is not None and trigger.policy.partial

    async def _pace(self, started: float, number: int) -> None:
        if self._asked.rate is not None:
            await anyio.sleep(max(0.0, started + number / self._asked.rate - self._clock()))

    async def _send(self, sender: Sender, number: int) -> None:
        trigger = self._daemon.mappings.get(self._name)
        message, trace_id = self._message(number)
        before = self._clock()
        self._fates.begin()
        try:
            sent = await sender.send(message)
            filtered = trigger is not None and _is_filtered(trigger, message, sent)
            request_id = sent.place if isinstance(sender, _Accepting) else ""
            fate = self._fates.add(sent, request_id=request_id, filtered=filtered)
            if number < ROWS_MAX:
                self._traces[sent.place] = trace_id
                row = {"what": "sent", "target": sender.target, **_placed(sent)}
                took = round((self._clock() - before) * 1000, 3)
                told = {"trace_id": trace_id, "filtered": fate.state == FILTERED, "send_ms": took}
                self._rows.append({**row, **told})
        finally:
            for signal in self._fates.ready():
                self._hear(signal)

    def _message(self, number: int) -> tuple[Message, str]:
        """It, and the id of its trace, where its source has a place for that."""
        asked = self._asked
        value, key = asked.value, None if asked.key is None else asked.key.encode()
        if asked.sample:
            value, natural = sample(self._kind, number, self._seed)
            key = natural if key is None else key
        if value is None:
            raise CannotSend("nothing is to be sent: give a value, or ask for a sample")
        headers, trace_id = [(name, text.encode()) for name, text in asked.headers], ""
        if self._kind in {"kafka", "memory"} and "traceparent" not in dict(headers):
            trace_id = secrets.token_hex(16)
            parent = f"00-{trace_id}-{secrets.token_hex(8)}-01"
            headers.append(("traceparent", parent.encode()))
        return Message(value, key, tuple(headers), asked.partition), trace_id

    # -- what becomes of it

    def _hear(self, signal: Signal) -> None:
        if not self._fates.hear(signal):
            return
        self._stirred.set()
        if len(self._fates.all) <= ROWS_MAX and len(self._rows) < 10 * ROWS_MAX:
            row = self._daemon.observers.taps.told(signal, Wanted(target=self._name))
            self._rows += [] if row is None else [row]

    def _filtered(self, record: Record) -> None:
        fate = self._fates.filtered(record)
        if fate is not None:
            self._stirred.set()
            if len(self._fates.all) <= ROWS_MAX:
                self._rows.append({"what": "filtered", **_placed(fate.sent)})

    async def _stir(self, pause: float) -> bool:
        """Whether something has happened within the pause."""
        self._stirred.clear()
        with anyio.move_on_after(min(pause, LOOK_SECONDS_MAX)):
            await self._stirred.wait()
        return self._stirred.is_set()

    def _is_over(self, deadline: float) -> bool:
        now, trigger = self._clock(), self._daemon.mappings.get(self._name)
        if not self._asked.wait or now > deadline or (trigger is not None and trigger.paused):
            return True
        for fate in self._fates.settle(lambda lane: trigger.settled(lane) if trigger else None):
            if len(self._fates.all) <= ROWS_MAX:
                self._rows.append(self._success(fate))
        return all(self._is_known(fate, now) for fate in self._fates.open)

    def _is_known(self, fate: Fate, now: float) -> bool:
        """Whether enough is known of one that is not finished with: that it fails."""
        if self._asked.through:
            return False
        late = fate.failed and now - fate.ended_at > AFTERMATH_SECONDS
        behind = now - fate.sent_at > BEHIND_SECONDS and fate.sent.lane in self._held_up(now)
        return fate.fails or late or behind

    def _held_up(self, now: float) -> frozenset[Lane]:
        """Lanes in which something fails, as was seen half a second ago at most."""
        trigger = self._daemon.mappings.get(self._name)
        if trigger is not None and now - self._looked_at > AFTERMATH_SECONDS:
            self._looked_at = now
            view = trigger.view(Instant(asyncio.get_running_loop().time()))
            held = (each["name"] for each in view["lanes"] if each["state"] in _HELD_UP)
            self._held = frozenset(Lane(self._name, name) for name in held)
        return self._held

    def _news(self) -> bytes:
        """The rows since the last time; where many were sent, how far that is."""
        rows, self._rows, now = self._rows, [], self._clock()
        many = len(self._fates.all) > ROWS_MAX
        if now - self._shown_at > (PROGRESS_SECONDS if many else ALIVE_SECONDS):
            self._shown_at = now
            done = len(self._fates.all) - sum(1 for _ in self._fates.open)
            rows.append({"what": "progress", "sent": len(self._fates.all), "done": done})
        return b"".join(orjson.dumps(row) + b"\n" for row in rows)

    def _success(self, fate: Fate) -> dict[str, Any]:
        run, init = fate.run_seconds, fate.init_seconds
        seconds = {
            "total": fate.settled_at - fate.sent_at,
            "init": init,
            "queue": max(0.0, fate.ended_at - fate.sent_at - run - init),
            "run": run,
            "settle": fate.settled_at - fate.ended_at,
        }
        return {
            "what": "succeeded",
            "function": self._function,
            **_placed(fate.sent),
            "attempts": fate.attempts,
            **{f"{name}_ms": round(each * 1000, 3) for name, each in seconds.items()},
        }

    def _end(self) -> dict[str, Any]:
        fates = self._fates
        waiting = [fate for fate in fates.open if not fate.failed]
        functions = {each.name: each for each in self._daemon.plan.functions}
        mapping = self._daemon.mappings.get(self._name)
        return {
            "what": "end",
            "trigger": self._name,
            "code": str(functions[self._function].code) if self._function in functions else "",
            "trace_id": self._trace() if len(fates.all) == 1 else "",
            "watches": self._daemon.plan.config.reload.watch,
            "sent": len(fates.all),
            "succeeded": fates.count(SUCCEEDED),
            "filtered": fates.count(FILTERED),
            "set_aside": fates.count(ASIDE),
            "failing": sum(1 for _ in fates.open) - len(waiting),
            "returned": 0 if mapping is None else mapping.returned,
            "waiting": len(waiting),
            "why": self._why(waiting[0]) if waiting and self._asked.wait else "",
        }

    def _trace(self) -> str:
        """Of the batch that it was in, which is linked to the context that it was sent with; empty
        where that was not kept."""
        sent = next(iter(self._traces.values()), "")
        wanted = int(sent, 16) if sent else 0
        observers = self._daemon.observers
        every = (*observers.recorder.going(), *observers.traces.newest_first())
        spans = ((trace, span) for trace in every for span in trace.spans)
        found = (
            trace.trace_id
            for trace, span in spans
            if any(link.trace_id == wanted for link in span.links)
        )
        trace_id = next(found, 0)
        return f"{trace_id:032x}" if trace_id else ""

    def _why(self, fate: Fate) -> str:
        """What may keep an event waiting."""
        trigger, lane = self._daemon.mappings.get(self._name), fate.sent.lane
        if trigger is None:
            return ""
        if trigger.paused:
            return f"the trigger is paused: streamfaas resume {self._name}"
        if lane is not None and not trigger.reads(lane):
            return f"{lane.name} is not read here: another member of the group may have it"
        view = trigger.view(Instant(asyncio.get_running_loop().time()))
        lanes = [each for each in view["lanes"] if lane is None or each["name"] == lane.name]
        worst = max(lanes, key=lambda each: each["attempt"], default=None)
        if worst is None:
            return f"the trigger is {view['state']}: {view['reason']}".rstrip(": ")
        behind = "" if worst["lag"] is None else f", {worst['lag']:,} records behind"
        reason = f": {worst['reason']}" if worst["reason"] else ""
        return f"{worst['name']} is {worst['state']}{behind}{reason}"


class _Accepting:
    """The door of asynchronous invocations."""

    def __init__(self, daemon: Daemon, function: str) -> None:
        self.target = f"asynchronous invocations of {function}"
        self._daemon = daemon
        self._function = function
        self._request_id = RequestIds()

    async def send(self, message: Message) -> Sent:
        if message.key is not None or message.headers or message.partition is not None:
            raise CannotSend("an asynchronous invocation has an event and nothing beside it")
        event = message.value or b""
        if len(event) > ASYNC_BYTES_MAX:
            raise CannotSend(f"the event is over {ASYNC_BYTES_MAX} bytes")
        try:
            orjson.loads(event)
        except orjson.JSONDecodeError as error:
            raise CannotSend(f"the event is not JSON: {error}") from error
        request_id = self._request_id()
        await self._daemon.accept(self._function, event, request_id)
        return Sent(request_id)


class _Begun:
    """A stream whose first bit is there already."""

    def __init__(self, first: bytes, rest: AsyncGenerator[bytes, None]) -> None:
        self._first = first
        self._rest = rest

    def __aiter__(self) -> _Begun:
        return self

    async def __anext__(self) -> bytes:
        first, self._first = self._first, b""
        return first or await anext(self._rest)

    async def aclose(self) -> None:
        await self._rest.aclose()


_HELD_UP = frozenset({"retrying", "blocked"})


def _is_filtered(trigger: Trigger, message: Message, sent: Sent) -> bool:
    """Whether the trigger's filter leaves it out; of a queue that is not known before."""
    wanted, lane, source = trigger.policy.filter, sent.lane, trigger.source
    if wanted is None or lane is None or sent.position is None or source is None:
        return False
    wall_ms = int(time.time() * 1000)  # nearly the time that the record got
    made = Record(lane, sent.position, message.value, sent.key, wall_ms, headers=message.headers)
    return not wanted.wants(*source.face(made))


def _placed(sent: Sent) -> dict[str, Any]:
    lane = None if sent.lane is None else sent.lane.name
    return {"place": sent.place, "lane": lane, "position": sent.position}


def _no(status: int, error: str) -> Response:
    return Response.json(status, {"error": error})
