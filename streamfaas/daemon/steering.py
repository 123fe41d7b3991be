"""What a person tells triggers to do: pause, resume."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from collections.abc import Mapping as Table
from typing import TYPE_CHECKING, Annotated, TypeAlias

from pydantic import BaseModel, Field, ValidationError

from streamfaas.api.server import Request, Response
from streamfaas.config.spec import ASYNCHRONOUS
from streamfaas.engine.mapping import Mapping, Pause
from streamfaas.flow.errors import StoreError
from streamfaas.store.pauses import Paused, Pauses
from streamfaas.telemetry import signals
from streamfaas.telemetry.signals import Emit

if TYPE_CHECKING:
    from streamfaas.daemon.build import Plan
    from streamfaas.store import Store

SHORT = "async"
"""What people may call the asynchronous invocations of a function."""

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
    they mean all its triggers, and its asynchronous invocations."""

    def __init__(self, known: Known, running: Table[str, Mapping], brakes: Brakes) -> None:
        self._known = known
        self._running = running
        self._brakes = brakes

    async def handle(self, request: Request) -> Response:
        try:
            match request.method, request.path.split("/")[1:]:
                case "POST", ["pause" | "resume" as verb, function, *rest] if len(rest) < 2:
                    by = _Braking.model_validate_json(request.body).by
                    return await self._brake(verb, function, "".join(rest), by)
                case _:
                    return _no(405, f"{request.method} is not for {request.path}")
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            return _no(400, f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
        except StoreError as error:
            return _no(503, f"{error}; {error.remedy}".rstrip("; "))

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


def known_triggers(plan: Plan) -> Known:
    """The triggers of each function that is configured."""
    functions: Known = {each.name: () for each in plan.functions}
    return {**functions, **_by_function(each.name for each in plan.mappings)}


class _Braking(BaseModel, extra="forbid"):
    """`by`: who asks, for those who look later."""

    by: Annotated[str, Field(min_length=1, max_length=100)]


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
