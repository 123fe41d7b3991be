"""Export as a whole: what the daemon hands over, and an outlet for each signal that is sent."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from streamfaas.telemetry import signals
from streamfaas.telemetry.instruments import Registry, View
from streamfaas.telemetry.otlp.outlet import Outlet
from streamfaas.telemetry.otlp.points import Starts, metrics_data
from streamfaas.telemetry.otlp.records import Entry, Lines, readable_records
from streamfaas.telemetry.otlp.resource import resource, scope
from streamfaas.telemetry.otlp.senders import Made, Sender, hush
from streamfaas.telemetry.otlp.settings import Settings, hint
from streamfaas.telemetry.otlp.snapshot import snapshot
from streamfaas.telemetry.otlp.spans import readable_spans
from streamfaas.telemetry.severity import level_of
from streamfaas.telemetry.signals import LogWritten, Signal
from streamfaas.telemetry.spans import Trace

CLOSE_SECONDS = 5.0
CLOSE_SECONDS_FAILING = 1.0
"""How long the last of it may take; and of what was not taken before either."""

LEVELS = ("none", "reduced", "full")
"""Of isolation, from the worst."""

Tell = Callable[[str, str, str, int], None]
"""Takes a signal, where it is sent, why it is not taken (nothing: it is again), and how much was
lost since. From any thread."""


class Export:
    """Takes what there is to tell, without ever waiting, and sends it from threads of its own."""

    def __init__(self, settings: Settings, tell: Tell, start_ns: int) -> None:
        hush()
        self._settings = settings
        self._tell = tell
        self._start_ns = start_ns
        self._scope = scope()
        self._resource = resource("")
        self._starts = Starts()
        self._level: str | None = None
        self._lines = Lines()
        made: Mapping[str, Made] = {
            "traces": self._spans,
            "metrics": self._metrics,
            "logs": self._records,
        }
        self._senders = {
            name: Sender(target, made[name]) for name, target in settings.targets.items()
        }
        self._outlets: dict[str, Outlet[Any]] = {
            name: Outlet(name, sender.send, settings.bounds[name], self._teller(name))
            for name, sender in self._senders.items()
        }

    @property
    def interval_seconds(self) -> float:
        """How often `measure` is wanted."""
        return self._settings.interval_seconds

    def keep(self, trace: Trace) -> None:
        """Sends a trace that has ended."""
        outlet = self._outlets.get("traces")
        if outlet is not None:
            outlet.put(trace, len(trace.spans))

    def __call__(self, signal: Signal) -> None:
        """Sends what a signal says as a line, if it does."""
        if isinstance(signal, signals.FunctionIsolated):
            self._isolated(signal.level)
        outlet = self._outlets.get("logs")
        if outlet is None:
            return
        if isinstance(signal, LogWritten):
            # what goes well is in the traces and the metrics: three lines about each invocation
            # would cost more than all of those
            if not signal.platform or level_of(signal.line, platform=True) != "INFO":
                outlet.put(signal)
        elif (line := self._lines.of(signal, time.time_ns)) is not None:
            outlet.put(line)

    def measure(self, registry: Registry, view: View) -> None:
        """Sends all that is counted at this moment."""
        outlet = self._outlets.get("metrics")
        if outlet is not None:
            outlet.put(snapshot(registry, view, self._start_ns, time.time_ns()))

    def view(self) -> dict[str, Any]:
        """As `status` shows it, by signal."""
        return {
            name: {"endpoint": self._settings.targets[name].shown, **outlet.view()}
            for name, outlet in self._outlets.items()
        }

    def close(self) -> None:
        """Sends what is left, as far as a few seconds allow."""
        outlets = self._outlets.values()
        for outlet in outlets:
            outlet.finish()
        began = time.monotonic()
        for outlet in outlets:
            seconds = CLOSE_SECONDS_FAILING if outlet.failing else CLOSE_SECONDS
            if not outlet.join(max(began + seconds - time.monotonic(), 0.0)):
                outlet.give_up()
        for sender in self._senders.values():
            sender.close()

    def _isolated(self, level: str) -> None:
        """The resource says how well every function is isolated, at least."""
        if self._level is None or LEVELS.index(level) < LEVELS.index(self._level):
            self._level = level
            self._resource = resource(level)

    def _teller(self, name: str) -> Callable[[str, int], None]:
        target = self._settings.targets[name]

        def tell(reason: str, lost: int) -> None:
            more = f" ({hint(target)})" if reason and hint(target) else ""
            self._tell(name, target.shown, f"{reason}{more}", lost)

        return tell

    # -- by the threads

    def _spans(self, traces: list[Trace]) -> Any:
        return readable_spans(traces, self._resource, self._scope)

    def _records(self, entries: list[Entry]) -> Any:
        return readable_records(entries, self._resource, self._scope)

    def _metrics(self, snapshots: list[Any]) -> Any:
        (found,) = snapshots
        return metrics_data(
            found, self._starts, self._resource, self._scope, exemplars=self._settings.exemplars
        )
