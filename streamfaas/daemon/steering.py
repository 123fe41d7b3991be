"""What a person tells triggers to do: rest, go on, or read on from elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from collections.abc import Mapping as Table
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import anyio
from pydantic import AwareDatetime, BaseModel, Field, ValidationError

from streamfaas.api.server import Request, Response
from streamfaas.config.spec import ASYNCHRONOUS
from streamfaas.engine.mapping import Mapping, Pause
from streamfaas.flow.errors import Gone, Refused, StoreError, WorldError
from streamfaas.flow.record import Lane
from streamfaas.sources import Branching, Seekable, Spot
from streamfaas.store.pauses import Paused, Pauses
from streamfaas.telemetry import signals
from streamfaas.telemetry.signals import Emit

if TYPE_CHECKING:
    from streamfaas.daemon.build import Plan
    from streamfaas.store import Store

GRACE_SECONDS = 30.0
GRACE_SECONDS_MAX = 900.0
"""How long a seek lets what is in flight end: not at all, or as long as a function may run."""

PLAN_SECONDS = 30.0
"""How long what a log says of its places is waited for; less than who asked us waits."""

SHORT = "async"
"""What people may call the asynchronous invocations of a function."""

DIGITS_MAX = 60
"""Of a position. They travel as text: not all JSON has numbers as large as those of a shard."""

Words: TypeAlias = Annotated[str, Field(min_length=1, max_length=100)]

Known: TypeAlias = "Table[str, tuple[str, ...]]"
"""The triggers of each function."""


class Brakes:
    """Which mappings are paused, in memory and in the store. What is not configured, or has not
    begun, may be paused as well: it is so when it comes."""

    def __init__(
        self,
        store: Store,
        *,
        emit: Emit,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._rows = Pauses(store)
        self._emit = emit
        self._wall_clock = wall_clock
        self.held: dict[str, Pause] = {}

    async def open(self) -> None:
        """Those of an earlier life hold on."""
        for row in await self._rows.all():
            self.held[row.mapping] = Pause(row.since_ms, row.by)
            self._emit(signals.TriggerPaused(row.mapping, row.by))

    async def pause(self, names: list[str], by: str, running: Table[str, Mapping]) -> None:
        """Durable when this returns."""
        since_ms = int(self._wall_clock() * 1000)
        new = [name for name in names if name not in self.held]
        await self._rows.put([Paused(name, since_ms, by) for name in new])
        for name in new:
            pause = self.held.setdefault(name, Pause(since_ms, by))
            if (mapping := running.get(name)) is not None:
                mapping.pause(pause)
            self._emit(signals.TriggerPaused(name, by))

    async def resume(self, names: list[str], by: str, running: Table[str, Mapping]) -> None:
        old = [name for name in names if name in self.held]
        await self._rows.remove(old)
        for name in old:
            self.held.pop(name, None)
            if (mapping := running.get(name)) is not None:
                mapping.resume()
            self._emit(signals.TriggerResumed(name, by))


class Steering:
    """Routes: `POST /pause/<function>[/<trigger>]` and `/resume/…`, with `by`. Of a function alone
    they mean all its triggers, and its asynchronous invocations. `POST /seek/<function>/<trigger>`,
    which says what a place stands for (`to`), or goes to `spots`."""

    def __init__(
        self,
        known: Known,
        running: Table[str, Mapping],
        brakes: Brakes,
        *,
        emit: Emit,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._emit = emit
        self._wall_clock = wall_clock
        self._known = known
        self._running = running
        self._brakes = brakes

    async def handle(self, request: Request) -> Response:
        try:
            match request.method, request.path.split("/")[1:]:
                case "POST", ["pause" | "resume" as verb, function, *rest] if len(rest) < 2:
                    by = _Braking.model_validate_json(request.body).by
                    return await self._brake(verb, function, "".join(rest), by)
                case "POST", ["seek", function, trigger]:
                    asked = _Seeking.model_validate_json(request.body)
                    return await self._seek(f"{function}/{trigger}", asked)
                case _:
                    return _no(405, f"{request.method} is not for {request.path}")
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            return _no(400, f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
        except StoreError as error:
            return _no(503, error.line)
        except (Refused, Gone) as error:
            return _no(409, str(error))
        except WorldError as error:
            return _no(503, str(error))

    async def _brake(self, verb: str, function: str, trigger: str, by: str) -> Response:
        held = self._brakes.held
        names = _named(self._known, function, trigger)
        if not names and verb == "resume":  # of what has left the configuration since
            names = [n for n in _named(_by_function(held), function, trigger) if n in held]
        if not names:
            return _no(404, _unknown(self._known, function, trigger))
        before = set(held)
        act = self._brakes.pause if verb == "pause" else self._brakes.resume
        await act(names, by, self._running)
        return Response.json(200, {"triggers": names, "changed": sorted(before ^ set(held))})

    async def _seek(self, name: str, asked: _Seeking) -> Response:
        mapping = self._running.get(name)
        if mapping is None:
            return _no(404, f"there is no trigger {name}")
        source: object = mapping.source
        if not isinstance(source, Seekable):
            kind = getattr(source, "kind", "")
            return _no(409, f"a trigger of type {kind} cannot be read on from another place")
        standing = source.standing()
        lanes, unknown = _chosen(standing, asked.spots or asked.partitions)
        if unknown:
            others = f"; others have {', '.join(found)}" if (found := source.elsewhere()) else ""
            held = ", ".join(lane.name for lane in sorted(standing)) or "none now"
            return _no(409, f"no partition or shard {', '.join(unknown)} is here: {held}{others}")
        if asked.spots is None:
            with anyio.move_on_after(PLAN_SECONDS):
                return await self._planned(source, lanes, asked)
            return _no(503, f"what {name} reads from did not answer within {PLAN_SECONDS:g} s")
        spots = {lane: asked.spots[lane.name] for lane in lanes}
        if wrong := await _outside(source, spots):
            return _no(409, wrong)
        # a lane that was to skip something may have worked its way past that place since
        onward = {lane for lane in lanes if lane.name in asked.onward}
        gone = await mapping.seek(spots, asked.grace_seconds, onward=onward)
        for lane, (stood, at) in gone.items():
            self._emit(signals.LaneSought(lane, stood, at, asked.by))
        moves = [
            _move(lane, stood, at, onward=lane in onward) for lane, (stood, at) in gone.items()
        ]
        return Response.json(200, {"lanes": moves, "paused": mapping.paused is not None})

    async def _planned(self, source: Seekable, lanes: list[Lane], asked: _Seeking) -> Response:
        """What would be done."""
        spots: Table[Lane, Spot]
        if asked.at is not None and isinstance(source, Branching):
            spots = await source.at(lanes, int(asked.at))
        elif asked.at is not None:
            spots = dict.fromkeys(lanes, int(asked.at))
            if wrong := await _outside(source, spots):
                return _no(409, wrong)
        else:
            place = asked.to if isinstance(asked.to, str) else _ms(asked.to)
            if isinstance(place, int) and place > self._wall_clock() * 1000:
                future = f"{asked.to:%Y-%m-%dT%H:%M:%S%z} is yet to come"
                return _no(400, f"{future}: to skip all that is there, seek to latest")
            spots = await source.places(lanes, place)
        standing = source.standing()
        moves = [
            _move(lane, standing.get(lane, at), at, onward=_is_onward(source, lane, at))
            for lane, at in spots.items()
        ]
        return Response.json(200, {"lanes": moves, "elsewhere": source.elsewhere()})


def full_name(function: str, trigger: str) -> str:
    """Of a mapping, as it is known within."""
    return f"{function}/{ASYNCHRONOUS if trigger == SHORT else trigger}"


def known_triggers(plan: Plan) -> Known:
    """The triggers of each function that is configured."""
    functions: Known = {each.name: () for each in plan.functions}
    return {**functions, **_by_function(each.name for each in plan.mappings)}


class _Braking(BaseModel, extra="forbid"):
    """`by`: who asks, for those who look later."""

    by: Annotated[str, Field(min_length=1, max_length=100)]


class _Seeking(BaseModel, extra="forbid"):
    """`at`: a position. `partitions` by name or number; none: all that this daemon has. With
    `spots`, `onward` are those that skip something: who was sent onward never goes back."""

    to: Literal["earliest", "latest"] | AwareDatetime = "latest"
    at: Annotated[str, Field(pattern=r"^[0-9]+$", max_length=DIGITS_MAX)] | None = None
    partitions: list[str] = Field(default_factory=list)
    spots: dict[str, Annotated[int, Field(ge=0)] | Words] | None = None
    onward: list[str] = Field(default_factory=list)
    grace_seconds: Annotated[float, Field(ge=0, le=GRACE_SECONDS_MAX)] = GRACE_SECONDS
    by: Annotated[str, Field(min_length=1, max_length=100)] = "somebody"


def _chosen(standing: Table[Lane, Spot], names: Iterable[str]) -> tuple[list[Lane], list[str]]:
    """The lanes that are meant (a number is a partition of each topic), and what names none."""
    lanes, unknown = dict[Lane, None](), []
    wanted = list(names)
    for name in wanted:
        ending = f"-{name}" if name.isdecimal() else None
        found = [
            lane
            for lane in standing
            if lane.name == name or (ending and lane.name.endswith(ending))
        ]
        lanes |= dict.fromkeys(found)
        unknown += [] if found else [name]
    return sorted(lanes if wanted else standing), unknown


async def _outside(source: Seekable, spots: Table[Lane, Spot]) -> str:
    """Which of the positions the log does not reach to, in words. Of words the log says it."""
    if isinstance(source, Branching):
        return ""
    firsts = await source.places(list(spots), "earliest")
    try:
        ends = await source.places(list(spots), "latest")
    except Gone:  # it has no end
        ends = spots
    for lane, at in spots.items():
        if not int(firsts[lane]) <= int(at) <= int(ends[lane]):
            return f"{lane.name} can be read from {firsts[lane]} to {ends[lane]}, not from {at}"
    return ""


def _is_onward(source: Seekable, lane: Lane, at: Spot) -> bool:
    return isinstance(source, Branching) and not source.is_past(lane, at)


def _move(lane: Lane, stood: Spot, at: Spot, *, onward: bool) -> dict[str, Any]:
    """Positions need not all hold a record: the counts are the most that it can be. What lies
    between two places in words is not counted: None, where there may be something."""
    again: int | None
    skipped: int | None
    if isinstance(stood, int) and isinstance(at, int):
        again, skipped = max(0, stood - at), max(0, at - stood)
    elif stood == at:
        again, skipped = 0, 0
    else:
        again, skipped = (0, None) if onward else (None, 0)
    return {"lane": lane.name, "from": stood, "to": at, "again": again, "skipped": skipped}


def _ms(moment: datetime) -> int:
    return int(moment.astimezone(UTC).timestamp() * 1000)


def _by_function(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for name in names:
        function, _, trigger = name.partition("/")
        found[function] = (*found.get(function, ()), trigger)
    return found


def _named(known: Known, function: str, trigger: str) -> list[str]:
    """The mappings that are meant, by their full names."""
    if function not in known:
        return []
    if trigger == SHORT and trigger not in known[function]:
        trigger = ASYNCHRONOUS
    triggers = dict.fromkeys((*known[function], ASYNCHRONOUS))
    return [f"{function}/{each}" for each in triggers if trigger in {"", each}]


def _unknown(known: Known, function: str, trigger: str) -> str:
    if function not in known:
        return f"there is no function {function!r}; there are {', '.join(known)}"
    return f"{function} has no trigger {trigger!r}; it has {', '.join((*known[function], SHORT))}"


def _no(status: int, error: str) -> Response:
    return Response.json(status, {"error": error})
