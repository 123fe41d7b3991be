"""Which metrics there are, and what each is counted up by or read from."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from streamfaas.flow.outcome import Fault, Success
from streamfaas.flow.verdict import Condition
from streamfaas.telemetry import signals
from streamfaas.telemetry.instruments import (
    BYTES,
    DELAYS,
    RECORDS,
    SECONDS,
    Buckets,
    Cell,
    Exemplar,
    Instrument,
    Kind,
    Labels,
    Number,
    Reading,
    Registry,
    View,
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
        place = ("function", "trigger")
        self._duration = registry.histogram(
            "faas_invoke_duration_seconds",
            "How long invocations ran, those that failed too.",
            *place,
            unit="seconds",
            bounds=SECONDS,
            cloudwatch="Duration",
        )
        self._successes = registry.counter(
            "faas_invocations",
            "Invocations that succeeded.",
            *place,
            cloudwatch="Invocations, less Errors",
            counts="invocation",
        )
        self._errors = registry.counter(
            "faas_errors",
            "Invocations that the function failed, timeouts too.",
            *place,
            "error_type",
            cloudwatch="Errors",
            counts="error",
        )
        self._timeouts = registry.counter(
            "faas_timeouts",
            "Invocations that were ended at their timeout.",
            *place,
            counts="timeout",
        )
        self._coldstarts = registry.counter(
            "faas_coldstarts",
            "Invocations that waited for a worker to start.",
            *place,
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
            *place,
            unit="bytes",
            bounds=BYTES,
            cloudwatch="MaxMemoryUsed",
        )
        self._not_run = registry.counter(
            "streamfaas_not_run",
            "Attempts that failed by no fault of the function.",
            *place,
            "reason",
            cloudwatch='Throttles (reason="throttled")',
            counts="attempt",
        )
        self._batch_size = registry.histogram(
            "streamfaas_batch_size",
            "Records of one attempt.",
            *place,
            bounds=RECORDS,
            cloudwatch="InvokedEventCount (its sum)",
            otel="streamfaas.batch.size",
            counts="record",
        )
        self._retries = registry.counter(
            "streamfaas_retries",
            "Failed batches that will run again.",
            *place,
            counts="batch",
        )
        self._splits = registry.counter(
            "streamfaas_batch_splits",
            "Failing batches that went on in parts.",
            *place,
            otel="streamfaas.batch.splits",
            counts="batch",
        )
        self._set_aside = registry.counter(
            "streamfaas_set_aside",
            "Records that their destination has.",
            *place,
            "condition",
            cloudwatch="OnFailureDestinationDeliveredEventCount",
            counts="record",
        )
        self._set_elsewhere = registry.counter(
            "streamfaas_set_aside_elsewhere",
            "Of them, records in the local file, since that destination could not have them.",
            *place,
            counts="record",
        )
        self._destination_failures = registry.counter(
            "streamfaas_destination_failures",
            "Times that a destination did not take what was sent.",
            *place,
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
        for about, read in _watched(per_partition=per_partition):
            registry.watch(about, read)
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
            place = _place(source)
            for condition in CONDITIONS:
                self._set_aside.cell(*place, condition)
            self._set_elsewhere.cell(*place)
            for reason in sorted(WORKER_REASONS):
                self._ended.cell(place[0], reason)
            self._cut.cell(place[0])

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
            place = _place(source)
            found = self._meters[source] = _Meter(
                successes=self._successes.cell(*place),
                failures={
                    fault: (self._not_run if fault in NOT_RUN else self._errors).cell(
                        *place, fault.value
                    )
                    for fault in Fault
                },
                timeouts=self._timeouts.cell(*place),
                coldstarts=self._coldstarts.cell(*place),
                retries=self._retries.cell(*place),
                splits=self._splits.cell(*place),
                destination_failures=self._destination_failures.cell(*place),
                duration=self._duration.cell(*place),
                batch_size=self._batch_size.cell(*place),
                memory=self._memory.cell(*place),
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
        place = _place(signal.lane.source)
        self._set_aside.cell(*place, signal.condition).value += signal.records
        if signal.elsewhere:
            self._set_elsewhere.cell(*place).value += signal.records

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


def _place(source: str) -> tuple[str, str]:
    function, _, trigger = source.partition("/")
    return function, trigger


# -- what is read off the view


def _watched(*, per_partition: bool) -> Iterator[tuple[Instrument, Callable[[View], Any]]]:
    place = ("function", "trigger")
    lane = (*place, "partition") if per_partition else place

    def gauge(
        name: str,
        text: str,
        *labels: str,
        unit: str = "",
        cloudwatch: str = "",
        kind: Kind = "gauge",
        otel: str = "",
        counts: str = "",
    ) -> Instrument:
        return Instrument(name, kind, unit, text, labels, cloudwatch, otel, counts)

    yield (
        gauge(
            "messaging_client_consumed_messages",
            "Records that came from the source: those below, and those in flight.",
            *place,
            kind="counter",
            cloudwatch="PolledEventCount",
            otel="messaging.client.consumed.messages",
            counts="message",
        ),
        _of_triggers(lambda trigger: trigger["received"]),
    )
    yield (
        gauge(
            "streamfaas_records",
            "Records that something has become of.",
            *place,
            "outcome",
            kind="counter",
            cloudwatch='FilteredOutEventCount (outcome="filtered")',
            counts="record",
        ),
        _records,
    )
    yield (
        gauge(
            "streamfaas_records_in_flight",
            "Records that nothing has become of yet.",
            *place,
            counts="record",
        ),
        _of_triggers(_in_flight),
    )
    yield (
        gauge(
            "streamfaas_source_lag",
            "Records of the source that are not finished with.",
            *lane,
            cloudwatch="OffsetLag",
            otel="streamfaas.source.lag",
            counts="record",
        ),
        _of_lanes("lag", sum, per_partition=per_partition),
    )
    yield (
        gauge(
            "streamfaas_source_age_seconds",
            "Age of the oldest record in flight.",
            *lane,
            unit="seconds",
            cloudwatch="IteratorAge",
            otel="streamfaas.source.age",
        ),
        _of_lanes("age_seconds", max, per_partition=per_partition),
    )
    yield (
        gauge(
            "streamfaas_lane_blocked",
            "Lanes that are blocked.",
            *lane,
            otel="streamfaas.lane.blocked",
            counts="lane",
        ),
        _of_lanes("blocked", sum, per_partition=per_partition),
    )
    yield (
        gauge("streamfaas_lanes", "Lanes that are held.", *place, counts="lane"),
        _of_triggers(lambda trigger: sum(not lane["by_key"] for lane in trigger["lanes"])),
    )
    yield (
        gauge(
            "streamfaas_trigger_up",
            "1 while the source is read.",
            *place,
            otel="streamfaas.trigger.up",
        ),
        _of_triggers(lambda trigger: int(trigger["state"] not in {"connecting", "degraded"})),
    )
    yield (
        gauge(
            "streamfaas_trigger_paused",
            "1 while a person wants it to rest.",
            *place,
            otel="streamfaas.trigger.paused",
        ),
        _of_triggers(lambda trigger: int(trigger["paused"] is not None)),
    )
    yield (
        gauge(
            "streamfaas_backlog_events",
            "Asynchronous invocations that were accepted and are not over with.",
            "function",
            otel="streamfaas.backlog.events",
            counts="event",
        ),
        _backlog,
    )
    yield (
        gauge(
            "streamfaas_workers",
            "Workers by state.",
            "function",
            "state",
            cloudwatch='ConcurrentExecutions (state="busy")',
            counts="worker",
        ),
        _workers,
    )
    yield (
        gauge(
            "streamfaas_calls_waiting",
            "Invocations that wait for a worker.",
            "function",
            otel="streamfaas.calls.waiting",
            counts="invocation",
        ),
        lambda view: (((name,), each["waiting"]) for name, each in view["functions"].items()),
    )
    yield (
        gauge(
            "streamfaas_export_dropped",
            "Spans, log records and exports of metrics that no collector has.",
            "signal",
            kind="counter",
            otel="streamfaas.export.dropped",
        ),
        lambda view: [((name,), each["dropped"]) for name, each in view["export"].items()],
    )
    yield (
        gauge(
            "streamfaas_build",
            "What runs.",
            "version",
            "python",
            kind="info",
            otel="streamfaas.build.info",
        ),
        lambda view: [((view["version"], view["process"]["python"]), 1)],
    )
    for name, text, unit, kind, otel in _OF_THE_PROCESS:
        yield gauge(name, text, unit=unit, kind=kind, otel=otel), _of_process(name)


_OF_THE_PROCESS: tuple[tuple[str, str, str, Kind, str], ...] = (
    (
        *("process_cpu_seconds", "CPU of the daemon, without its workers."),
        *("seconds", "counter", "process.cpu.time"),
    ),
    (
        *("process_resident_memory_bytes", "Resident set of the daemon."),
        *("bytes", "gauge", "process.memory.usage"),
    ),
    (
        *("process_start_time_seconds", "When the daemon began, in epoch seconds."),
        *("seconds", "gauge", "process.start_time"),
    ),
    (
        *("process_open_fds", "Open descriptors of the daemon."),
        *("", "gauge", "process.unix.file_descriptor.count"),
    ),
    (
        *("process_max_fds", "Descriptors that the daemon may open."),
        *("", "gauge", "process.unix.file_descriptor.limit"),
    ),
)

Read = Callable[[View], Iterable[Reading]]


def _of_triggers(number: Callable[[Any], Number]) -> Read:
    def read(view: View) -> Iterator[Reading]:
        for name, trigger in view["triggers"].items():
            yield _place(name), number(trigger)

    return read


def _of_lanes(key: str, together: Callable[[list[Number]], Number], *, per_partition: bool) -> Read:
    """One number of each lane that is known, or of all lanes of a trigger together. What a queue
    holds by key (a file, a request) is no lane, and has no label of its own."""

    def read(view: View) -> Iterator[Reading]:
        for name, trigger in view["triggers"].items():
            known: dict[Labels, list[Number]] = {}
            for lane in trigger["lanes"]:
                if (value := _of_lane(lane, key)) is not None:
                    partition = ("" if lane["by_key"] else lane["name"],) if per_partition else ()
                    known.setdefault((*_place(name), *partition), []).append(value)
            yield from ((labels, together(values)) for labels, values in known.items())

    return read


def _of_lane(lane: Any, key: str) -> Number | None:
    value: Number | None = lane["state"] == "blocked" if key == "blocked" else lane[key]
    return int(value) if isinstance(value, bool) else value


def _in_flight(trigger: Any) -> Number:
    done = trigger["records"] + trigger["set_aside"] + trigger["filtered"] + trigger["given_back"]
    left: int = trigger["received"] - done
    return left


def _records(view: View) -> Iterator[Reading]:
    for name, trigger in view["triggers"].items():
        outcomes = {
            "succeeded": trigger["records"],
            "failed": trigger["set_aside"] - trigger["expired"],
            "filtered": trigger["filtered"],
            "expired": trigger["expired"],
            "given_back": trigger["given_back"],
        }
        for outcome, count in outcomes.items():
            yield (*_place(name), outcome), count


def _backlog(view: View) -> Iterator[Reading]:
    for name, trigger in view["triggers"].items():
        function, trigger_name = _place(name)
        if trigger_name == "asynchronous":
            yield (function,), sum(lane["lag"] or 0 for lane in trigger["lanes"])


def _workers(view: View) -> Iterator[Reading]:
    for name, function in view["functions"].items():
        for state, count in function["workers"].items():
            if state != "waiting":  # those are calls
                yield (name, state), count


def _of_process(name: str) -> Read:
    return lambda view: [((), view["process"][name])]
