"""Where the daemon stands between its start and its end, and what its supervisor hears of that."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import anyio

from streamfaas.daemon.systemd import Notifier, Pulse
from streamfaas.telemetry import signals
from streamfaas.telemetry.signals import Emit
from streamfaas.workers.pool import WorkerPool

STATUS_SECONDS = 10.0
DOUBT_SECONDS = 1.0
"""When a pool that seems to be stuck is looked at again."""


class Life:
    """One life: it starts, runs and drains. `view` is what `status` shows, of which the supervisor
    is told a line."""

    def __init__(self, view: Callable[[], Mapping[str, Any]], emit: Emit) -> None:
        self._view = view
        self._emit = emit
        self._notifier = Notifier(os.environ)
        self._started = time.monotonic()
        self._ends_at: float | None = None  # once it drains
        self._state = "starting"
        self.ready = anyio.Event()

    @property
    def uptime_seconds(self) -> float:
        return time.monotonic() - self._started

    @property
    def grace_left_seconds(self) -> float | None:
        """While it drains."""
        return None if self._ends_at is None else max(0.0, self._ends_at - time.monotonic())

    def state(self, triggers: Iterable[Mapping[str, Any]]) -> str:
        """With triggers that look like that."""
        if self._state == "running" and any(each["state"] == "degraded" for each in triggers):
            return "degraded"
        return self._state

    async def run(self) -> None:
        """From here on it is ready, and says how it is for as long as somebody wants to know."""
        self._state = "running"
        line = status_line(self._view())
        self._notifier.ready(line)
        self._emit(signals.DaemonStepped("ready", line))
        self.ready.set()
        while self._notifier.wanted:
            await anyio.sleep(STATUS_SECONDS)
            self._notifier.status(status_line(self._view()))

    async def show(self, pool: WorkerPool) -> None:
        """Feeds the watchdog, but not while the pool is stuck: we are then ended, and started anew,
        which is safe, since no checkpoint has moved."""
        seconds, pulse, told = self._notifier.watchdog_seconds, Pulse(), False
        while seconds is not None:
            beats = pulse.beats(pool.motion(), asyncio.get_running_loop().time())
            if beats:
                self._notifier.alive()
            elif not told:
                told = True
                self._emit(signals.DaemonStepped("stuck", "no worker moves any more"))
            await anyio.sleep(seconds / 2 if beats else min(seconds / 2, DOUBT_SECONDS))

    def reload(self) -> None:
        """A reload begins; `reloaded` is owed after it."""
        self._notifier.reloading()

    def reloaded(self) -> None:
        self._notifier.ready(status_line(self._view()))

    def drain(self, grace_seconds: float) -> None:
        """It ends after this at the latest."""
        self._state, self._ends_at = "draining", time.monotonic() + grace_seconds
        self._notifier.stopping(grace_seconds)
        self._emit(signals.DaemonStepped("draining", f"up to {grace_seconds:.0f} s"))


def status_line(view: Mapping[str, Any]) -> str:
    """How a daemon is that looks like that: in one line, and what is wrong before all else."""
    degraded = [
        f"{name}: {trigger['reason']}"
        for name, trigger in view["triggers"].items()
        if trigger["state"] == "degraded"
    ]
    if degraded:
        return f"degraded: {'; '.join(degraded)}"
    counts = f"{len(view['functions'])} functions, {len(view['triggers'])} triggers"
    return f"{counts}, lag {_lag(view['triggers'].values())}"


def _lag(triggers: Iterable[Mapping[str, Any]]) -> str:
    """Of all triggers together, as far as it is known."""
    lanes = [lane for each in triggers for lane in each["lanes"] if not lane["by_key"]]
    known = [lane["lag"] for lane in lanes if lane["lag"] is not None]
    if not known and lanes:
        return "not known yet"
    return f"{'' if len(known) == len(lanes) else 'at least '}{sum(known)}"
