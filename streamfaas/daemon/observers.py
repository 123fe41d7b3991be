"""Who hears what happens in the daemon: whoever shows it, remembers, counts, traces or sends it."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from typing import Any

import anyio

from streamfaas.daemon.build import Plan
from streamfaas.daemon.exporting import Exporting
from streamfaas.daemon.feeds import Feeds
from streamfaas.daemon.lines import Lines
from streamfaas.daemon.sampling import sampling_of
from streamfaas.daemon.taps import Taps
from streamfaas.daemon.witnesses import Witnesses
from streamfaas.engine.mapping import Mapping as Trigger
from streamfaas.telemetry.kept import KeptTraces
from streamfaas.telemetry.lately import TICK_SECONDS, Lately
from streamfaas.telemetry.metrics import Metrics
from streamfaas.telemetry.otlp.settings import settings
from streamfaas.telemetry.recorder import Recorder, Sampling
from streamfaas.telemetry.signals import Emit, Signal


class Observers:
    """Those of one daemon, as its plan asks for them. It is given what there is to be looked at:
    the `plan` that runs, its `triggers`, and what `status` shows.

    `listeners` come first; `quiet`: none of them wants the lines of functions.
    """

    def __init__(
        self,
        listeners: Collection[Emit],
        *,
        plan: Callable[[], Plan],
        triggers: Callable[[], Mapping[str, Trigger]],
        view: Callable[[], dict[str, Any]],
        quiet: bool,
    ) -> None:
        self._plan = plan
        self._triggers = triggers
        self._listeners = list(listeners)
        self._metrics: Metrics | None = None
        self.feeds = Feeds(self._listeners)
        self.witnesses = Witnesses()
        self.taps = Taps(
            self.feeds, lambda: [each.name for each in plan().functions], triggers, self.witnesses
        )
        self._listeners.append(self.taps)
        self.lines = Lines(self.feeds, self._listeners, plan().logs, lambda: plan().functions)
        if not quiet:
            self.lines.hear()
        self.lately = Lately()
        self._listeners.append(self.lately)
        self.traces = KeptTraces()
        self.recorder = Recorder(Sampling(), self.traces)
        self.notes = self._sample()
        """What is to be told of how traces are sampled."""
        self.exporting = Exporting(settings(plan().otlp, os.environ), self.emit, view)
        self._export(self.exporting.signals)

    def emit(self, signal: Signal) -> None:
        for listen in self._listeners:
            listen(signal)

    def change(self) -> None:
        """Another plan runs from here on."""
        if self._metrics is not None:
            self._metrics.know(each.name for each in self._plan().mappings)
        self._sample()

    def counted(self) -> Metrics:
        """What is counted, from now on at the latest. Nothing is counted for nobody."""
        if self._metrics is None:
            plan = self._plan()
            names = [each.name for each in plan.mappings]
            self._metrics = Metrics(names, per_partition=plan.metrics.per_partition)
            self._listeners.append(self._metrics)
        return self._metrics

    def late(self, seconds: float) -> None:
        """The loop came so late to what was due."""
        if self._metrics is not None:
            self._metrics.late(seconds)

    async def look_back(self) -> None:
        """Remembers how everything stands, again and again: rates are taken from that."""
        while True:
            await anyio.sleep(TICK_SECONDS)
            self.lately.tick(lambda: {name: one.places() for name, one in self._triggers().items()})

    async def measure(self) -> None:
        """Sends all counts again and again, until cancelled, where that is wanted."""
        if self._metrics is not None:
            await self.exporting.measure(self._metrics)

    def measure_last(self) -> None:
        """Sends them as they are at the end."""
        if self._metrics is not None:
            self.exporting.measure_now(self._metrics)

    def _export(self, sent: Collection[str]) -> None:
        """Those who are told what a collector is sent; nobody, where nothing is."""
        if sent:
            self._listeners.append(self.exporting.tell)
        if "traces" in sent:
            self.recorder.keepers.append(self.exporting.keep)
        if "metrics" in sent:
            self.counted()
        if "logs" in sent:
            self.lines.hear_functions()

    def _sample(self) -> tuple[str, ...]:
        """Traces are kept as the configuration says now; what is to be told of that."""
        traces = self._plan().traces
        sampling, notes = sampling_of(traces, os.environ)
        self.recorder.sample(sampling)
        self.traces.most = traces.keep
        return notes
