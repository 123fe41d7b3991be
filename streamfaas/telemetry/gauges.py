"""Which metrics are read off the daemon's view when somebody asks, and how."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from streamfaas.telemetry.instruments import (
    PLACE,
    Kind,
    Labels,
    Number,
    Read,
    Reading,
    Registry,
    View,
    place,
)


def watch(registry: Registry, *, per_partition: bool) -> None:
    """Adds all of them. A number of a lane has a label for it only if that is wanted."""
    lane = (*PLACE, "partition") if per_partition else PLACE

    registry.watch(
        "messaging_client_consumed_messages",
        "Records that came from the source: those below, and those in flight.",
        *PLACE,
        kind="counter",
        cloudwatch="PolledEventCount",
        otel="messaging.client.consumed.messages",
        counts="message",
        read=_of_triggers(lambda trigger: trigger["received"]),
    )
    registry.watch(
        "streamfaas_records",
        "Records that something has become of.",
        *PLACE,
        "outcome",
        kind="counter",
        cloudwatch='FilteredOutEventCount (outcome="filtered")',
        counts="record",
        read=_records,
    )
    registry.watch(
        "streamfaas_records_in_flight",
        "Records that nothing has become of yet.",
        *PLACE,
        counts="record",
        read=_of_triggers(_in_flight),
    )
    registry.watch(
        "streamfaas_source_lag",
        "Records of the source that are not finished with.",
        *lane,
        cloudwatch="OffsetLag",
        otel="streamfaas.source.lag",
        counts="record",
        read=_of_lanes("lag", sum, per_partition=per_partition),
    )
    registry.watch(
        "streamfaas_source_age_seconds",
        "Age of the oldest record in flight.",
        *lane,
        unit="seconds",
        cloudwatch="IteratorAge",
        otel="streamfaas.source.age",
        read=_of_lanes("age_seconds", max, per_partition=per_partition),
    )
    registry.watch(
        "streamfaas_lane_blocked",
        "Lanes that are blocked.",
        *lane,
        otel="streamfaas.lane.blocked",
        counts="lane",
        read=_of_lanes("blocked", sum, per_partition=per_partition),
    )
    registry.watch(
        "streamfaas_lanes",
        "Lanes that are held.",
        *PLACE,
        counts="lane",
        read=_of_triggers(lambda trigger: sum(not lane["by_key"] for lane in trigger["lanes"])),
    )
    registry.watch(
        "streamfaas_trigger_up",
        "1 while the source is read.",
        *PLACE,
        otel="streamfaas.trigger.up",
        read=_of_triggers(lambda trigger: int(trigger["state"] not in {"connecting", "degraded"})),
    )
    registry.watch(
        "streamfaas_trigger_paused",
        "1 while a person wants it to rest.",
        *PLACE,
        otel="streamfaas.trigger.paused",
        read=_of_triggers(lambda trigger: int(trigger["paused"] is not None)),
    )
    registry.watch(
        "streamfaas_backlog_events",
        "Asynchronous invocations that were accepted and are not over with.",
        "function",
        otel="streamfaas.backlog.events",
        counts="event",
        read=_backlog,
    )
    registry.watch(
        "streamfaas_workers",
        "Workers by state.",
        "function",
        "state",
        cloudwatch='ConcurrentExecutions (state="busy")',
        counts="worker",
        read=_workers,
    )
    registry.watch(
        "streamfaas_calls_waiting",
        "Invocations that wait for a worker.",
        "function",
        otel="streamfaas.calls.waiting",
        counts="invocation",
        read=lambda view: (((name,), each["waiting"]) for name, each in view["functions"].items()),
    )
    registry.watch(
        "streamfaas_export_dropped",
        "Spans, log records and exports of metrics that no collector has.",
        "signal",
        kind="counter",
        otel="streamfaas.export.dropped",
        read=lambda view: [((name,), each["dropped"]) for name, each in view["export"].items()],
    )
    registry.watch(
        "streamfaas_build",
        "What runs.",
        "version",
        "python",
        kind="info",
        otel="streamfaas.build.info",
        read=lambda view: [((view["version"], view["process"]["python"]), 1)],
    )
    for name, text, unit, kind, otel in _OF_THE_PROCESS:
        registry.watch(name, text, read=_of_process(name), kind=kind, unit=unit, otel=otel)


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


def _of_triggers(number: Callable[[Any], Number]) -> Read:
    def read(view: View) -> Iterator[Reading]:
        for name, trigger in view["triggers"].items():
            yield place(name), number(trigger)

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
                    known.setdefault((*place(name), *partition), []).append(value)
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
            yield (*place(name), outcome), count


def _backlog(view: View) -> Iterator[Reading]:
    for name, trigger in view["triggers"].items():
        function, trigger_name = place(name)
        if trigger_name == "asynchronous":
            yield (function,), sum(lane["lag"] or 0 for lane in trigger["lanes"])


def _workers(view: View) -> Iterator[Reading]:
    for name, function in view["functions"].items():
        for state, count in function["workers"].items():
            if state != "waiting":  # those are calls
                yield (name, state), count


def _of_process(name: str) -> Read:
    return lambda view: [((), view["process"][name])]
