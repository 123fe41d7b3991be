"""Another configuration for a daemon that runs: all of it, or nothing.

What can be made ready is made ready before anything stops. Mappings that are touched are stopped
before their successors start, since two readers of one lane are duplicates; all others do not
notice. Up to the one step in which everything changes, a failure leaves the old configuration.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import anyio
import anyio.to_thread

from streamfaas.config import document
from streamfaas.config.spec import ASYNCHRONOUS
from streamfaas.daemon.build import source_class
from streamfaas.daemon.effects import Effects, effects
from streamfaas.daemon.listening import Listening
from streamfaas.daemon.loading import Invalid, Loaded, load
from streamfaas.daemon.mappings import Mappings
from streamfaas.flow.errors import CannotIsolate, ConfigError, StoreError, WorldError
from streamfaas.flow.record import Instant
from streamfaas.telemetry import signals
from streamfaas.telemetry.signals import Emit

ABANDON_SECONDS = 10.0
"""How long it may take to let go of what was made ready in vain."""

CONNECT_SECONDS = 10.0
"""How long a reload waits for what it has started to connect; it is done all the same."""

State: TypeAlias = Literal["reloaded", "unchanged", "invalid", "refused", "rolled back"]
Reached: TypeAlias = Callable[[str], None]
"""Is told of each step before it is taken."""

STEPS = (
    "read the file",
    "prepare triggers",
    "open destinations",
    "listen",
    "stop triggers",
    "change",
)


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What became of it. `reason` is there where nothing was changed, `report` where the file is at
    fault; `unconnected` are triggers that have begun, and have not reached their source yet."""

    state: State
    seconds: float
    reason: str = ""
    report: str = ""
    effects: Effects | None = None
    unconnected: tuple[str, ...] = ()

    def view(self) -> dict[str, Any]:
        changes = {} if self.effects is None else self.effects.view()
        return {
            "state": self.state,
            "seconds": round(self.seconds, 3),
            "reason": self.reason,
            "report": self.report,
            "unconnected": list(self.unconnected),
            "changes": changes,
        }


class _Stays(Exception):
    """The old configuration goes on. `report` is there where the file is at fault."""

    def __init__(self, state: State, reason: str, report: str = "") -> None:
        super().__init__(reason)
        self.state = state
        self.report = report


FAILURES = (ConfigError, CannotIsolate, StoreError, WorldError)
"""What may come up on the way, and is no fault of ours."""


class Reload:
    """Does one reload after the other: `loaded` is what runs."""

    def __init__(
        self,
        loaded: Loaded,
        *,
        mappings: Mappings,
        listening: Listening,
        commit: Callable[[Loaded], None],
        clock: Callable[[], Instant],
        emit: Emit,
        reached: Reached,
    ) -> None:
        self._loaded = loaded
        self._mappings = mappings
        self._listening = listening
        self._commit = commit
        self._clock = clock
        self._emit = emit
        self._reached = reached
        self._at = ""

    async def __call__(self) -> Reloaded:
        began = self._clock()
        found: Effects | None = None
        late: tuple[str, ...] = ()
        try:
            next_ = await self._read()
            renewed = next_.renewed_since(self._loaded)
            found = effects(self._loaded.plan.config, next_.plan.config, renewed)
            self._refuse(found)
            await self._change(next_, found, renewed)
        except _Stays as stays:
            told = Reloaded(stays.state, self._since(began), str(stays), stays.report, found)
        except FAILURES as error:
            reason = f"cannot {self._at}: {_reason(error)}"
            told = Reloaded("rolled back", self._since(began), reason, effects=found)
        else:
            state: State = "reloaded" if found else "unchanged"
            told = Reloaded(state, self._since(began), effects=found)
        self._emit(signals.ConfigReloaded(told.state, _words(told), told.seconds))
        if told.state == "reloaded" and found is not None:
            late = await self._unconnected(found.starts)
        return replace(told, unconnected=late, seconds=self._since(began))

    async def _read(self) -> Loaded:
        """In a thread: what runs is not to wait for a long file."""
        self._step("read the file")
        path, environ = self._loaded.plan.config_path, self._loaded.environ
        found = await anyio.to_thread.run_sync(load, path, environ)
        if isinstance(found, Invalid):
            raise _Stays("invalid", found.reason, found.report)
        return found

    def _refuse(self, found: Effects) -> None:
        """What cannot change while the daemon runs, before anything is touched."""
        fixed = [document.dotted(key.path) for key in found.restart]
        fixed += [f"functions.{part.name}" for part in found.diff.functions]
        if fixed:
            raise _Stays("refused", f"needs a restart: {', '.join(fixed)}")

    async def _change(self, next_: Loaded, found: Effects, renewed: frozenset[Path]) -> None:
        mappings, listening, plan = self._mappings, self._listening, next_.plan
        past = mappings.letters
        async with contextlib.AsyncExitStack() as back:
            letters = past.successor(plan.connections, renewed)
            back.push_async_callback(_surely, letters.retire, past)
            self._step("prepare triggers")
            await _import({each.kind for each in plan.mappings if each.name in found.starts})
            succession = await mappings.prepare(plan, letters, found.stops, found.starts)
            self._step("open destinations")
            await letters.open()
            self._step("listen")
            address = listening.prepare(plan.metrics.listen)
            back.callback(listening.abandon, address)
            self._step("stop triggers")
            back.callback(mappings.resume)
            await mappings.leave(succession, self._loaded.plan.grace_seconds)
            self._step("change")
            back.pop_all()  # from here on nothing waits, and nothing fails
        mappings.commit(succession)
        listening.commit(address)
        self._loaded = next_
        self._commit(next_)
        await _surely(past.retire, letters)

    async def _unconnected(self, names: Iterable[str]) -> tuple[str, ...]:
        """Which of them are not connected, after some time."""
        running = self._mappings.running
        waited = [running[name] for name in names if name in running]
        with anyio.move_on_after(CONNECT_SECONDS):
            for mapping in waited:
                await mapping.connected.wait()
        now = self._clock()
        return tuple(each.name for each in waited if each.view(now)["state"] in _APART)

    def _step(self, name: str) -> None:
        self._at = name
        self._reached(name)

    def _since(self, began: Instant) -> float:
        return self._clock() - began


_APART = frozenset({"connecting", "degraded"})


async def _import(kinds: Collection[str]) -> None:
    """In a thread, for it takes long, and before anything waits for it."""
    for kind in kinds:
        await anyio.to_thread.run_sync(source_class, kind)


async def _surely(work: Callable[..., Awaitable[None]], *given: Any) -> None:
    """Even where we are told to stop, but not for ever."""
    with anyio.move_on_after(ABANDON_SECONDS, shield=True):
        await work(*given)


def _reason(error: Exception) -> str:
    if isinstance(error, ConfigError):
        return "; ".join(f"{each.path}: {each.message}" for each in error.problems)
    remedy = getattr(error, "remedy", "")
    return f"{error}; {remedy}" if remedy else str(error)


def _words(told: Reloaded) -> str:
    """For the log."""
    if told.reason or told.effects is None:
        return f"{told.reason}; the old configuration goes on"
    found = told.effects
    kept = [name for name in found.diff.untouched if not name.endswith(f"/{ASYNCHRONOUS}")]
    counts = {
        "changed": found.restarted,
        "added": found.added,
        "removed": found.removed,
        "untouched": kept,
    }
    parts = [f"{len(names)} {what}" for what, names in counts.items() if names]
    return f"triggers: {', '.join(parts) or 'none'}"
