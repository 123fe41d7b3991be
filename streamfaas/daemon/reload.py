"""Another configuration for a daemon that runs: all of it, or nothing.

What can be made ready is made ready before anything stops. Mappings that are touched are stopped
before their successors start, since two readers of one lane are duplicates; all others do not
notice. Up to the one step in which everything changes, a failure leaves the old configuration.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import anyio
import anyio.to_thread

from streamfaas.config import document
from streamfaas.config.rules.functions import no_handler
from streamfaas.config.spec import ASYNCHRONOUS
from streamfaas.daemon.effects import Effects, effects
from streamfaas.daemon.listening import Listening
from streamfaas.daemon.loading import Invalid, Loaded, load
from streamfaas.daemon.mappings import Mappings
from streamfaas.daemon.sources import source_class
from streamfaas.flow.errors import CannotIsolate, ConfigError, StoreError, WorldError
from streamfaas.flow.record import Instant
from streamfaas.functions.code import look
from streamfaas.telemetry import signals
from streamfaas.telemetry.signals import Emit
from streamfaas.workers.pool import WorkerPool

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
    "prepare workers",
    "stop triggers",
    "change",
)


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What became of it. `reason` is there where nothing was changed, `report` where the file is at
    fault; `unconnected` are triggers that have begun, and have not reached their source yet;
    `unclaimed` are events that wait for functions that were taken out."""

    state: State
    seconds: float
    reason: str = ""
    report: str = ""
    effects: Effects | None = None
    unconnected: tuple[str, ...] = ()
    unclaimed: Mapping[str, int] = field(default_factory=dict)

    def view(self) -> dict[str, Any]:
        changes = {} if self.effects is None else self.effects.view(self.unclaimed)
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
        webhooks: Listening,
        pool: WorkerPool,
        commit: Callable[[Loaded], None],
        clock: Callable[[], Instant],
        emit: Emit,
        reached: Reached,
    ) -> None:
        self._loaded = loaded
        self._mappings = mappings
        self._listening = listening
        self._webhooks = webhooks
        self._pool = pool
        self._commit = commit
        self._clock = clock
        self._emit = emit
        self._reached = reached
        self._at = ""

    async def __call__(self) -> Reloaded:
        """Reads the configuration again, and takes it."""
        began = self._clock()
        found: Effects | None = None
        try:
            next_ = await self._read()
            recoded = next_.recoded_since(self._loaded)
            renewed = next_.renewed_since(self._loaded)
            old, new = self._loaded.plan.config, next_.plan.config
            found = await anyio.to_thread.run_sync(effects, old, new, renewed, recoded)
            self._refuse(found)
            await self._change(next_, found, renewed)
        except _Stays as stays:
            told = Reloaded(stays.state, self._since(began), str(stays), stays.report, found)
        except FAILURES as error:
            reason = f"cannot {self._at}: {_reason(error)}"
            told = Reloaded("rolled back", self._since(began), reason, effects=found)
        else:
            state: State = "reloaded" if found else "unchanged"
            left = found.unclaimed(self._mappings.unclaimed)
            told = Reloaded(state, self._since(began), effects=found, unclaimed=left)
        self._emit(signals.ConfigReloaded(told.state, _words(told), told.seconds))
        late = await self._unconnected(told)
        return replace(told, unconnected=late, seconds=self._since(began))

    async def renew(self, names: Collection[str]) -> None:
        """The code of these functions is another than it was: new workers take it. Where that is
        no Python, or has no such handler, it was not meant to run: workers of the old code go on
        until it is mended. What only fails when it is imported fails there, as on Lambda."""
        functions = {each.name: each for each in self._loaded.plan.functions}
        for name in sorted(functions.keys() & names):
            function = functions[name]
            seen = await anyio.to_thread.run_sync(look, function.code)
            wrong = await anyio.to_thread.run_sync(no_handler, function.code, function.handler)
            if not wrong:
                try:
                    await self._pool.renew(name)
                except FAILURES as error:
                    wrong = _reason(error)
            codes = {**self._loaded.codes, name: seen.digest}
            self._take(replace(self._loaded, codes=codes))
            step, told = "renewed", ""
            if wrong:
                step, told = "warning:", f": {wrong}; its workers go on with the old code"
            self._emit(signals.DaemonStepped(step, f"{name}: its code has changed{told}"))

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
        if found.restart:
            fixed = ", ".join(document.dotted(key.path) for key in found.restart)
            raise _Stays("refused", f"needs a restart: {fixed}")

    async def _change(self, next_: Loaded, found: Effects, renewed: frozenset[Path]) -> None:
        mappings, pool, plan = self._mappings, self._pool, next_.plan
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
            probes = self._listening.prepare(plan.metrics.addresses)
            back.callback(self._listening.abandon, probes)
            webhooks = self._webhooks.prepare(plan.desks)
            back.callback(self._webhooks.abandon, webhooks)
            self._step("prepare workers")
            workers = await pool.prepare(
                plan.functions, concurrency=plan.concurrency, memory_bytes=plan.memory_bytes
            )
            back.push_async_callback(_surely, pool.abandon, workers)
            self._step("stop triggers")
            back.callback(mappings.resume)
            await mappings.leave(succession, self._loaded.plan.grace_seconds)
            self._step("change")
            back.pop_all()  # from here on nothing waits, and nothing fails
        pool.commit(workers)
        mappings.commit(succession)
        self._listening.commit(probes)
        self._webhooks.commit(webhooks)
        codes = {**next_.codes, **{name: self._loaded.codes[name] for name in found.recoded}}
        self._take(replace(next_, codes=codes))
        await _surely(past.retire, letters)
        await self._mappings.recount()
        await self.renew(found.recoded)

    def _take(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self._commit(loaded)

    async def _unconnected(self, told: Reloaded) -> tuple[str, ...]:
        """What has begun and is not connected, after some time."""
        running = self._mappings.running
        begun = told.effects.starts if told.state == "reloaded" and told.effects else ()
        waited = [running[name] for name in begun if name in running]
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
    workers = (*found.replaced, *found.recoded)
    kept = [name for name in found.diff.untouched if not name.endswith(f"/{ASYNCHRONOUS}")]
    counts = {
        "changed": found.restarted,
        "added": found.added,
        "removed": found.removed,
        "untouched": kept,
    }
    parts = [f"{len(names)} {what}" for what, names in counts.items() if names]
    words = [f"triggers: {', '.join(parts) or 'none'}"]
    words += [f"workers replaced of {', '.join(workers)}"] if workers else []
    words += [f"windows of {name}: {what}" for name, what in found.windows.items()]
    anew = found.anew
    words += [f"simulated anew, without what waited: {', '.join(anew)}"] if anew else []
    return "; ".join(words)
