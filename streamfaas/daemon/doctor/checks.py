"""Which checks there are for a machine, and for a configuration on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio.to_thread

from streamfaas.config.object_stores import ObjectTopicTrigger
from streamfaas.config.spec import Config
from streamfaas.config.triggers import KafkaTrigger
from streamfaas.daemon.build import memory_bytes
from streamfaas.daemon.doctor import (
    Check,
    Finding,
    aws,
    buckets,
    isolation,
    kafka,
    letters,
    machine,
    places,
    service,
    sqs,
)
from streamfaas.daemon.doctor import functions as starts
from streamfaas.daemon.doctor import state as kept

DESCRIPTORS_OF_THE_DAEMON = 128
"""Its database, sockets, libraries and timers, with what 64 callers have open."""

DESCRIPTORS_A_WORKER = 3  # channel, log, pidfd
DESCRIPTORS_A_CONNECTION = 16  # brokers, each with one for the group and one for fetching


@dataclass(frozen=True, slots=True)
class Units:
    """Where units of systemd lie, each folder with the options that write there, and their first
    line."""

    folders: Mapping[Path, tuple[str, ...]]
    origin: str


def of_machine(config: Config | None) -> list[Check]:
    """What the kernel gives."""
    wanted = _wanted(config)
    return [
        _blocking("clock", machine.clock),
        _blocking("descriptors", lambda: machine.descriptors(need(config))),
        _blocking("inotify", lambda: machine.inotify(_to_watch(config))),
        _blocking("cgroups", machine.groups),
        _blocking("filters", machine.filters),
        Check("isolation", lambda: isolation.controls(wanted), code="SF3010"),
        Check("worker", isolation.worker, seconds=30.0, code="SF3011"),
        Check("killed", isolation.ending, seconds=30.0, code="SF3012"),
    ]


def of_state(folder: Path, view: Mapping[str, Any] | None) -> list[Check]:
    """Where state is kept. `view` is the status of the daemon that runs on it."""
    return [
        _blocking("disk", lambda: kept.disk(folder), "SF3020"),
        _blocking("store", lambda: kept.store(folder, view), "SF3023"),
        _blocking("socket", lambda: kept.door(folder, view), "SF3024"),
    ]


def of_config(config: Config, units: Units) -> list[Check]:
    """What a configuration names."""
    return [
        *online(config),
        Check("functions", lambda: starts.functions(config), seconds=300.0, code="SF3047"),
        _blocking(
            "service",
            lambda: service.service(config.file.absolute(), units.folders, units.origin),
            "SF3030",
            seconds=30.0,
        ),
    ]


def online(config: Config) -> list[Check]:
    """What lies outside of the machine, or of the project."""
    return [
        *kafka.checks(config),
        *aws.checks(config),
        *sqs.checks(config),
        *buckets.checks(config),
        *letters.checks(config),
        _blocking("directories", lambda: places.directories(config), "SF3044"),
        Check("addresses", lambda: places.addresses(config), code="SF3045"),
        Check("webhooks", lambda: places.desks(config), code="SF3054"),
        Check("exports", lambda: places.exports(config), code="SF3048"),
    ]


def need(config: Config | None) -> int:
    """Descriptors, at most, of the daemon of a configuration."""
    if config is None:
        return machine.DESCRIPTORS_AT_LEAST
    most = config.limits.concurrency
    workers = sum(min(each.concurrency.max or most, most) + 1 for each in config.functions.values())
    workers = min(workers, most + len(config.functions), _workers_in_memory(config))
    readers = sum(
        isinstance(each, KafkaTrigger | ObjectTopicTrigger) for _, _, each in config.mappings()
    )
    connections = DESCRIPTORS_A_CONNECTION * (readers + len(config.connections))
    return DESCRIPTORS_OF_THE_DAEMON + connections + DESCRIPTORS_A_WORKER * workers


def _workers_in_memory(config: Config) -> int:
    least = min((each.memory for each in config.functions.values()), default=1 << 27)
    return int(memory_bytes(config) // least)


def _to_watch(config: Config | None) -> int:
    return 0 if config is None else places.directories_to_watch(config)


def _wanted(config: Config | None) -> isolation.Wanted:
    if config is None:
        return isolation.Wanted()
    asked = [each.isolation for each in config.functions.values()]
    return isolation.Wanted(
        enforce=any(each.mode == "enforce" for each in asked),
        no_network=any(each.mode == "enforce" and each.network == "none" for each in asked),
    )


def _blocking(
    name: str, look: Callable[[], Sequence[Finding]], code: str = "", *, seconds: float = 15.0
) -> Check:
    async def perform() -> Sequence[Finding]:
        return await anyio.to_thread.run_sync(look, abandon_on_cancel=True)

    return Check(name, perform, seconds, code)
