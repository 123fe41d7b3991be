"""Which metrics there are: those that signals count up, and beside them those that are read off."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from streamfaas.flow.outcome import Fault, Success
from streamfaas.flow.verdict import Condition
from streamfaas.telemetry import gauges, signals
from streamfaas.telemetry.instruments import (
    BYTES,
    DELAYS,
    PLACE,
    RECORDS,
    SECONDS,
    Buckets,
    Cell,
    Exemplar,
    Registry,
    place,
)
from streamfaas.telemetry.signals import InvocationEnded, Signal

WORKER_REASONS = frozenset(
    {"idle", "drained", "replaced", "timeout", "crash", "protocol", "init", "aborted"}
)
CONDITIONS = tuple(word for name, word in vars(Condition).items() if name.isupper())
RELOADS = ("reloaded", "unchanged", "invalid", "refused", "rolled back")
NOT_RUN = frozenset({Fault.OVERSIZE, Fault.CORRUPT, Fault.THROTTLED, Fault.ABORTED})
"""Faults that are not the function's."""


class Metrics:
    """Listens to signals, and keeps the registry. What the daemon counts anyway is not counted
    twice: it is read off its view when somebody asks. What is counted of `sources` (functions, and
    triggers as `function/trigger`) is there from the start, as 0."""

    def __init__(
        self,
        sources: Iterable[str] = (),
        *,
        per_partition: bool = False,
        wall_clock: Callable[[], float] = time.time,  # noqa: TID251 - exemplars are dated
    ) -> None:
        self._wall_clock = wall_clock
        registry = self.registry = Registry()
        self._duration = registry.histogram(
            "faas_invoke_duration_seconds",
            "How long invocations ran, those that failed too.",
            *PLACE,
            unit="seconds",
            bounds=SECONDS,
            cloudwatch="Duration",
        )
        self._successes = registry.counter(
            "faas_invocations",
            "Invocations that succeeded.",
            *PLACE,
            cloudwatch="Invocations, less Errors",
            counts="invocation",
        )
        self._errors = registry.counter(
            "faas_errors",
            "Invocations that the function failed, timeouts too.",
            *PLACE,
            "error_type",
            cloudwatch="Errors",
            counts="error",
        )
        self._timeouts = registry.counter(
            "faas_timeouts",
            "Invocations that were ended at their timeout.",
            *PLACE,
            counts="timeout",
        )
        self._coldstarts = registry.counter(
            "faas_coldstarts",
            "Invocations that waited for a worker to start.",
            *PLACE,
            counts="coldstart",
        )
        self._init = registry.histogram(
            "faas_init_duration_seconds",
            "How long workers took to import their handler.",
            "function",
            unit="seconds",
            bounds=SECONDS,
            cloudwatch="InitDuration",
        )
        self._memory = registry.histogram(
            "faas_mem_usage_bytes",
            "The largest resident set of the worker, by invocation.",
            *PLACE,
            unit="bytes",
            bounds=BYTES,
            cloudwatch="MaxMemoryUsed",
        )
        self._not_run = registry.counter(
            "streamfaas_not_run",
            "Attempts that failed by no fault of the function.",
            *PLACE,
            "reason",
            cloudwatch='Throttles (reason="throttled")',
            counts="attempt",
        )
        self._batch_size = registry.histogram(
            "streamfaas_batch_size",
            "Records of one attempt.",
            *PLACE,
            bounds=RECORDS,
            cloudwatch="InvokedEventCount (its sum)",
            otel="streamfaas.batch.size",
            counts="record",
        )
        self._retries = registry.counter(
            "streamfaas_retries",
            "Failed batches that will run again.",
            *PLACE,
            counts="batch",
        )
        self._splits = registry.counter(
            "streamfaas_batch_splits",
            "Failing batches that went on in parts.",
            *PLACE,
            otel="streamfaas.batch.splits",
            counts="batch",
        )
        self._set_aside = registry.counter(
            "streamfaas_set_aside",
            "Records that their destination has.",
            *PLACE,
            "condition",
            cloudwatch="OnFailureDestinationDeliveredEventCount",
            counts="record",
        )
        self._set_elsewhere = registry.counter(
            "streamfaas_set_aside_elsewhere",
            "Of them, records in the local file, since that destination could not have them.",
            *PLACE,
            counts="record",
        )
        self._destination_failures = registry.counter(
            "streamfaas_destination_failures",
            "Times that a destination did not take what was sent.",
            *PLACE,
            cloudwatch="DestinationDeliveryFailures, DeadLetterErrors",
            otel="streamfaas.destination.failures",
            counts="failure",
        )
        self._ended = registry.counter(
            "streamfaas_workers_ended",
            "Workers that ended.",
            "function",
            "reason",
            counts="worker",
        )
        self._reloads = registry.counter(
            "streamfaas_config_reloads",
            "Times that the configuration was to be read again.",
            "state",
            otel="streamfaas.config.reloads",
            counts="reload",
        )
        self._cut = registry.counter(
            "streamfaas_output_cut_bytes",
            "Output of functions that was thrown away: more than they may write.",
            "function",
            unit="bytes",
        )
        lost = registry.counter(
            "streamfaas_log_lines_dropped",
            "Lines of functions that could not be written to their files.",
            otel="streamfaas.log_lines.dropped",
            counts="line",
        )
        self._lines_lost = lost.cell()
        self._loop_delay = registry.histogram(
            "streamfaas_loop_delay_seconds",
            "How late the daemon's loop came to what was due, looked at four times a second.",
            unit="seconds",
            bounds=DELAYS,
        ).cell()
        gauges.watch(registry, per_partition=per_partition)
        self._meters: dict[str, _Meter] = {}
        self._listeners: dict[type, Callable[[Any], None]] = {
            InvocationEnded: self._invocation,
            signals.WorkerStarted: self._worker_started,
            signals.WorkerEnded: self._worker_ended,
            signals.LaneRetrying: self._lane_retrying,
            signals.BatchSplit: self._batch_split,
            signals.BatchSetAside: self._batch_set_aside,
            signals.DestinationFailed: self._destination_failed,
            signals.LogsDropped: self._logs_dropped,
            signals.ConfigReloaded: self._config_reloaded,
            signals.OutputCut: self._output_cut,
        }
        for state in RELOADS:
            self._reloads.cell(state)
        self.know(sources)

    def late(self, seconds: float) -> None:
        """The loop came so late to what was due."""
        self._loop_delay.observe(seconds)

    def __call__(self, signal: Signal) -> None:
        listen = self._listeners.get(type(signal))
        if listen is not None:
            listen(signal)

    def know(self, sources: Iterable[str]) -> None:
        """What is counted of these is there from now on, as 0: whoever looks how much a count has
        grown does not see one that begins with the first."""
        for source in sources:
            self._meter(source)
            function, trigger = place(source)
            for condition in CONDITIONS:
                self._set_aside.cell(function, trigger, condition)
            self._set_elsewhere.cell(function, trigger)
            for reason in sorted(WORKER_REASONS):
                self._ended.cell(function, reason)
            self._cut.cell(function)

    def _config_reloaded(self, signal: signals.ConfigReloaded) -> None:
        self._reloads.cell(signal.state).value += 1

    def _invocation(self, signal: InvocationEnded) -> None:
        lane, outcome = signal.lane, signal.outcome
        meter = self._meter(signal.function if lane is None else lane.source)
        kept = signal.context
        exemplar = None if kept is None else Exemplar(kept, self._wall_clock())
        if isinstance(outcome, Success):
            meter.successes.add(exemplar)
        else:
            meter.failures[outcome.fault].add(exemplar)
            if outcome.fault in NOT_RUN:
                return
            if outcome.fault is Fault.TIMEOUT:
                meter.timeouts.add(exemplar)
        report = outcome.report
        meter.duration.observe(report.duration_seconds, exemplar)
        meter.batch_size.observe(signal.records)
        if report.memory_bytes:
            meter.memory.observe(report.memory_bytes)
        if report.init_seconds is not None:
            meter.coldstarts.add(exemplar)

    def _meter(self, source: str) -> _Meter:
        found = self._meters.get(source)
        if found is None:
            labels = place(source)
            found = self._meters[source] = _Meter(
                successes=self._successes.cell(*labels),
                failures={
                    fault: (self._not_run if fault in NOT_RUN else self._errors).cell(
                        *labels, fault.value
                    )
                    for fault in Fault
                },
                timeouts=self._timeouts.cell(*labels),
                coldstarts=self._coldstarts.cell(*labels),
                retries=self._retries.cell(*labels),
                splits=self._splits.cell(*labels),
                destination_failures=self._destination_failures.cell(*labels),
                duration=self._duration.cell(*labels),
                batch_size=self._batch_size.cell(*labels),
                memory=self._memory.cell(*labels),
            )
        return found

    def _worker_started(self, signal: signals.WorkerStarted) -> None:
        self._init.cell(signal.function).observe(signal.init_seconds)

    def _worker_ended(self, signal: signals.WorkerEnded) -> None:
        reason = signal.reason if signal.reason in WORKER_REASONS else "other"
        self._ended.cell(signal.function, reason).value += 1

    def _lane_retrying(self, signal: signals.LaneRetrying) -> None:
        self._meter(signal.lane.source).retries.value += 1

    def _batch_split(self, signal: signals.BatchSplit) -> None:
        self._meter(signal.lane.source).splits.value += 1

    def _batch_set_aside(self, signal: signals.BatchSetAside) -> None:
        labels = place(signal.lane.source)
        self._set_aside.cell(*labels, signal.condition).value += signal.records
        if signal.elsewhere:
            self._set_elsewhere.cell(*labels).value += signal.records

    def _output_cut(self, signal: signals.OutputCut) -> None:
        self._cut.cell(signal.function).value += signal.size_bytes

    def _logs_dropped(self, signal: signals.LogsDropped) -> None:
        self._lines_lost.value += signal.lines

    def _destination_failed(self, signal: signals.DestinationFailed) -> None:
        self._meter(signal.lane.source).destination_failures.value += 1


@dataclass(frozen=True, slots=True)
class _Meter:
    """The cells of one trigger (or of a function's direct calls), looked up once."""

    successes: Cell
    failures: Mapping[Fault, Cell]
    timeouts: Cell
    coldstarts: Cell
    retries: Cell
    splits: Cell
    destination_failures: Cell
    duration: Buckets
    batch_size: Buckets
    memory: Buckets


def table() -> str:
    """Every metric with its labels, and the names that OpenTelemetry and CloudWatch have for it, as
    the manual has it."""
    rows = [("metric", "labels", "OpenTelemetry", "CloudWatch", "what it is"), ("---",) * 5]
    rows += [
        (
            each.about.shown,
            ", ".join(each.about.labels),
            f"{each.about.otel_name} {each.about.otel_unit}".rstrip(),
            each.about.cloudwatch,
            f"{each.about.help[:-1]} ({each.about.kind})",
        )
        for each in Metrics(per_partition=True).registry
    ]
    return "".join(f"| {' | '.join(cell or '-' for cell in row)} |\n" for row in rows)
