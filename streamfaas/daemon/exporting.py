"""Export in the daemon: opened before anything else, told by everything, ended last."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

import anyio

from streamfaas.flow.errors import ConfigError, Problem
from streamfaas.telemetry import signals
from streamfaas.telemetry.metrics import Metrics
from streamfaas.telemetry.otlp.settings import Settings
from streamfaas.telemetry.process import usage
from streamfaas.telemetry.signals import Emit, Signal
from streamfaas.telemetry.spans import Trace

if TYPE_CHECKING:
    from streamfaas.telemetry.otlp.export import Export


SWITCH_SECONDS = 0.001


class Exporting:
    """What is sent of one daemon: nothing, unless the settings name a target. `view` is what
    `status` shows at the moment."""

    def __init__(self, settings: Settings, emit: Emit, view: Callable[[], dict[str, Any]]) -> None:
        self._settings = settings
        self._emit = emit
        self._view = view
        self._began_ns = time.time_ns()  # what is counted begins with us
        self._loop: asyncio.AbstractEventLoop | None = None
        self._export: Export | None = None

    @property
    def signals(self) -> Collection[str]:
        """Of traces, metrics and logs, what is sent."""
        return self._settings.targets.keys()

    def open(self) -> None:
        """`ConfigError` where what is wanted cannot be had. The SDK is imported only here."""
        for line in self._settings.warnings:
            self._emit(signals.DaemonStepped("export", line))
        if not self._settings.targets:
            return
        self._loop = asyncio.get_running_loop()
        try:
            from streamfaas.telemetry.otlp.export import Export

            self._export = Export(self._settings, self._tell, self._began_ns)
            # while a thread of it encodes, the loop gets its turn back sooner than after 5 ms
            sys.setswitchinterval(SWITCH_SECONDS)
        except ImportError as error:
            hint = "pip install 'streamfaas[grpc]', or send by http/protobuf"
            raise ConfigError((_cannot(f"a package is missing: {error.name}", hint),)) from error
        except OSError as error:
            raise ConfigError((_cannot(str(error), "look at its path and mode"),)) from error

    def tell(self, signal: Signal) -> None:
        """As a line, if it is one and lines are sent."""
        if self._export is not None:
            self._export(signal)

    def keep(self, trace: Trace) -> None:
        """A trace that has ended."""
        if self._export is not None:
            self._export.keep(trace)

    async def measure(self, metrics: Metrics) -> None:
        """Sends all counts again and again, until cancelled."""
        while self._export is not None and "metrics" in self.signals:
            await anyio.sleep(self._export.interval_seconds)
            self.measure_now(metrics)

    def measure_now(self, metrics: Metrics) -> None:
        """Sends all counts as they are: one view, taken between two steps of everything else."""
        if self._export is not None and "metrics" in self.signals:
            self._export.measure(metrics.registry, {**self._view(), "process": usage()})

    def view(self) -> Mapping[str, Any]:
        """By signal, what was sent and what was not."""
        return {} if self._export is None else self._export.view()

    def close(self) -> None:
        """Sends what is left, within a few seconds. The loop has ended."""
        self._loop = None
        if self._export is not None:
            self._export.close()

    def _tell(self, signal: str, endpoint: str, reason: str, dropped: int) -> None:
        """From any thread."""
        changed = signals.ExportChanged(signal, endpoint, reason, dropped)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._emit, changed)
        else:
            self._emit(changed)


def _cannot(message: str, hint: str) -> Problem:
    return Problem("otlp", "telemetry.otlp", 0, 0, f"cannot send by OTLP: {message}", hint)
