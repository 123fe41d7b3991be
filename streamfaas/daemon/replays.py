"""What was put aside, or lies in a log, run once more: by the backlog, so that it is never lost."""

from __future__ import annotations

from collections.abc import Mapping as Table
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Protocol
from urllib.parse import unquote

import anyio
from pydantic import AwareDatetime, BaseModel, Field, ValidationError

from streamfaas.api.server import Request, Response
from streamfaas.engine.mapping import Mapping
from streamfaas.engine.requests import RequestIds
from streamfaas.flow.batch import Batch
from streamfaas.flow.errors import StoreError, WorldError
from streamfaas.flow.record import Lane, run_of_records
from streamfaas.sources import Rereadable, Stretch
from streamfaas.store.outbox import Outbox
from streamfaas.wire import replay

PAGE_MAX = 1_000
"""Records that one request replays at most: who asks goes on from where the answer ends."""


POSITION_MAX = 10**60
"""Beyond the sequence numbers of all logs. They travel as text: not all JSON has such numbers."""


class Accept(Protocol):
    """The backlog's door."""

    async def __call__(
        self,
        function: str,
        event: bytes,
        request_id: str,
        *,
        replays: int,
        client_context: bytes,
        order_key: str,
    ) -> None: ...


class Replays:
    """Routes: `POST /redrive/<id>`; `POST /replay/<function>/<trigger>`, which says which
    lanes hold of a stretch (`plan`), or replays a page of it in one lane (with `dry_run`: says what
    that would be); `POST /skip/<function>/<trigger>`.

    What is replayed becomes asynchronous invocations of the trigger's function, one for each
    record; those of one lane (of a queue: of one message group) run one after the other. They are
    retried and put aside as all such are, and move no checkpoint. Where the trigger's answers are
    reports of failed items, theirs are too.
    """

    def __init__(self, mappings: Table[str, Mapping], outbox: Outbox, accept: Accept) -> None:
        self._mappings = mappings
        self._outbox = outbox
        self._accept = accept
        self._request_id = RequestIds()

    async def handle(self, request: Request) -> Response:
        try:
            match request.method, request.path.split("/")[1:]:
                case "POST", ["redrive", id_]:
                    return await self._redrive(unquote(id_))
                case "POST", ["replay", function, trigger]:
                    asked = _Asked.model_validate_json(request.body)
                    return await self._replay(f"{function}/{trigger}", asked)
                case "POST", ["skip", function, trigger]:
                    skipping = _Skipping.model_validate_json(request.body)
                    return self._skip(f"{function}/{trigger}", skipping)
                case _:
                    return _no(405, f"{request.method} is not for {request.path}")
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            return _no(400, f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
        except StoreError as error:
            return _no(503, error.line)
        except WorldError as error:
            return _no(503, str(error))

    async def _redrive(self, id_: str) -> Response:
        found = await self._outbox.show(id_)
        if found is None:
            return _no(404, f"there is no entry {id_!r}")
        if found.event is None:
            return _no(409, f"{id_} has no event: its bytes were damaged, or it was not kept")
        trigger, replays = self._mappings.get(found.mapping), found.replays + 1
        again = _Again(
            found.mapping.partition("/")[0],
            replays,
            f"{found.mapping} {found.lane}",
            reports=trigger is not None and trigger.policy.partial,
        )
        events = await self._run(found.event, again)
        await self._outbox.redriven(id_)
        told = {"id": id_, "function": again.function, "records": found.count}
        return Response.json(202, {**told, "events": events, "replays": replays})

    async def _replay(self, name: str, asked: _Asked) -> Response:
        mapping = self._mappings.get(name)
        if mapping is None:
            return _no(404, f"there is no trigger {name}")
        source: Any = mapping.source
        if (log := _log_of(source)) is None:
            kind = getattr(source, "kind", "")
            return _no(409, f"a {kind} trigger keeps no log to read again; see `streamfaas dlq`")
        wanted = asked.stretch()
        unbounded = wanted.first is None or wanted.last is None
        if asked.plan or asked.lane is None or (log.counted and unbounded):
            names = () if asked.lane is None else (asked.lane,)
            found = await log.stretches(names, wanted)
            lanes = [_stretch(lane, each) for lane, each in found.items()]
            return Response.json(200, {"lanes": lanes, "counted": log.counted})
        lane, policy = Lane(name, asked.lane), mapping.policy
        wants = None if policy.filter is None else policy.filter.wants
        read = await log.reread(lane, wanted, min(PAGE_MAX, asked.records_max))
        chosen = [one for one in read.records if wants is None or wants(*source.face(one))]
        events = len(chosen)
        if chosen and not asked.dry_run:
            place = f"{mapping.name} {lane.name}"
            again = _Again(policy.function, 1, place, reports=policy.partial)
            event = source.event(Batch((run_of_records(tuple(chosen)),)))
            events = await self._run(event, again)
        first = _text(read.records[0].position) if read.records else None
        told = {"lane": lane.name, "records": len(read.records), "events": events, "first": first}
        return Response.json(202, {**told, "reached": _text(read.reached), "more": read.more})

    async def _run(self, event: bytes, again: _Again) -> int:
        """Hands it on record by record; how many events that were. They share commits, and keep
        the order in which they are begun."""
        context = replay.context(again.replays, reports=again.reports)
        parts = replay.marked(event, again.replays)
        failed: list[WorldError | StoreError] = []

        async def accept(part: bytes) -> None:
            try:
                await self._accept(
                    again.function,
                    part,
                    self._request_id(),
                    replays=again.replays,
                    client_context=context,
                    order_key=replay.order_of(part, again.lane),
                )
            except (WorldError, StoreError) as error:
                failed.append(error)

        async with anyio.create_task_group() as tasks:
            for part in parts:
                tasks.start_soon(accept, part)
        if failed:
            raise failed[0]
        return len(parts)

    def _skip(self, name: str, asked: _Skipping) -> Response:
        mapping = self._mappings.get(name)
        if mapping is None:
            return _no(404, f"there is no trigger {name}")
        skipped = mapping.skip(asked.lane, dry_run=asked.dry_run)
        return Response.json(200, {"skipped": skipped, "returned": mapping.returned})


@dataclass(frozen=True, slots=True)
class _Again:
    """For whom something runs again, and how."""

    function: str
    replays: int
    lane: str
    reports: bool


def _log_of(source: object) -> Rereadable | None:
    return source if isinstance(source, Rereadable) else None


class _Asked(BaseModel, extra="forbid"):
    lane: str | None = None
    first: Annotated[int, Field(ge=0, lt=POSITION_MAX)] | None = None
    last: Annotated[int, Field(ge=0, lt=POSITION_MAX)] | None = None
    after: Annotated[int, Field(ge=0, lt=POSITION_MAX)] | None = None
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    records_max: Annotated[int, Field(ge=1, le=PAGE_MAX)] = PAGE_MAX
    plan: bool = False
    dry_run: bool = False

    def stretch(self) -> Stretch:
        return Stretch(self.first, self.last, _ms(self.since), _ms(self.until), self.after)


class _Skipping(BaseModel, extra="forbid"):
    lane: str | None = None
    dry_run: bool = False


def _stretch(lane: Lane, stretch: Stretch) -> dict[str, str | None]:
    """As it is asked for."""
    positions = {"first": _text(stretch.first), "last": _text(stretch.last)}
    times = {"since": _time(stretch.since_ms), "until": _time(stretch.until_ms)}
    return {"lane": lane.name, **positions, **times}


def _text(position: int | None) -> str | None:
    return None if position is None else str(position)


def _ms(moment: datetime | None) -> int | None:
    return None if moment is None else round(moment.timestamp() * 1000)


def _time(ms: int | None) -> str | None:
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC).isoformat()


def _no(status: int, error: str) -> Response:
    return Response.json(status, {"error": error})
