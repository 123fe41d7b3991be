"""Every signal that the daemon gives about itself, as frozen values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from streamfaas.flow.outcome import Outcome
from streamfaas.flow.record import Lane
from streamfaas.flow.trace import Context
from streamfaas.flow.value import value


@value
class InvocationEnded:
    """One attempt at one batch (or one direct call, `lane` None) has ended. `context` is its span
    where that is kept."""

    request_id: str
    function: str
    lane: Lane | None
    records: int
    first: int
    last: int
    attempt: int
    outcome: Outcome
    context: Context | None = None


@dataclass(frozen=True, slots=True)
class LaneOpened:
    """A lane is read from now on."""

    lane: Lane


@dataclass(frozen=True, slots=True)
class LaneClosed:
    """A lane is not read any more; `unfinished` positions of it will come again."""

    lane: Lane
    unfinished: int


@dataclass(frozen=True, slots=True)
class LaneRetrying:
    """A batch will run again in `wait_seconds`; `blocked` from the fifth failure on where nothing
    else can become of it."""

    lane: Lane
    first: int
    last: int
    attempt: int
    wait_seconds: float
    blocked: bool
    reason: str


@dataclass(frozen=True, slots=True)
class BatchSplit:
    """A failing batch goes on in parts of so many records, to find the ones that make it fail."""

    lane: Lane
    first: int
    last: int
    records: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LaneFarAhead:
    """Strands of a lane have run so many positions ahead of its oldest unfinished one that no more
    is read until that one is finished with; `unfinished` of them are."""

    lane: Lane
    positions: int
    unfinished: int


@dataclass(frozen=True, slots=True)
class LaneHealed:
    """A lane that was blocked goes on."""

    lane: Lane


@dataclass(frozen=True, slots=True)
class WindowEnded:
    """A tumbling window of a lane (epoch milliseconds) has had its last invocation, which was given
    a state of so many bytes; `early`: before its time, for the size of that."""

    lane: Lane
    start_ms: int
    end_ms: int
    state_bytes: int
    early: bool


@dataclass(frozen=True, slots=True)
class WindowLost:
    """The state of a tumbling window that was open cannot be gone on with; a new one begins."""

    lane: Lane
    start_ms: int
    end_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class BatchSetAside:
    """A batch was given up and a destination has it: `elsewhere`, not the one that was asked for,
    which did not take it or where it would have gone round."""

    lane: Lane
    first: int
    last: int
    records: int
    condition: str
    destination: str
    elsewhere: bool = False


@dataclass(frozen=True, slots=True)
class DestinationFailed:
    """A destination does not take a batch; its lane waits."""

    lane: Lane
    destination: str
    reason: str
    wait_seconds: float


@dataclass(frozen=True, slots=True)
class DestinationUnready:
    """A destination could not be opened at the start. What goes there is tried all the same."""

    destination: str
    reason: str


@dataclass(frozen=True, slots=True)
class SourceChanged:
    """A source is `connecting`, `running`, `degraded` or `rebuilt`, and why, in one line."""

    source: str
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class TriggerPaused:
    """Nothing more is read or run of a trigger, as `by` has asked; it may be so from an earlier
    life on."""

    source: str
    by: str


@dataclass(frozen=True, slots=True)
class TriggerResumed:
    """A trigger that was paused goes on, as `by` has asked."""

    source: str
    by: str


@dataclass(frozen=True, slots=True)
class LaneSought:
    """A lane that stood at `stood` is read on from `position`, as `by` has asked."""

    lane: Lane
    stood: int | str
    position: int | str
    by: str


@dataclass(frozen=True, slots=True)
class WorkerStarted:
    """A worker has imported its handler and is ready."""

    function: str
    worker: str
    init_seconds: float


@dataclass(frozen=True, slots=True)
class WorkerEnded:
    """`reason` is `idle`, `drained`, `timeout`, `crash`, `protocol`, `init` or `aborted`."""

    function: str
    worker: str
    reason: str


@dataclass(frozen=True, slots=True)
class FunctionIsolated:
    """At which level (`full`, `reduced`, `none`) a function is isolated, and what is missing."""

    function: str
    level: str
    missing: tuple[str, ...]


@value
class LogWritten:
    """One line of a function's own output, or a platform line of ours about it. A record of many
    lines is one all the same, with newlines in it. `time_ns` is when the daemon had it, since the
    epoch; what the line itself says of its level is for `severity.level_of`."""

    function: str
    worker: str
    request_id: str
    line: str
    platform: bool
    time_ns: int = 0
    trace_id: str = ""


@dataclass(frozen=True, slots=True)
class ConfigReloaded:
    """A reload was asked for, and is over: `reloaded`, `unchanged`, `invalid` (the file is not),
    `refused` (it needs a restart) or `rolled back` (it failed on the way)."""

    state: str
    detail: str
    seconds: float


@dataclass(frozen=True, slots=True)
class OutputCut:
    """So much of a function's output was thrown away: it was more than it may write."""

    function: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class LogsDropped:
    """Lines of functions could not be written to a place: `files` or `journal`."""

    place: str
    lines: int
    reason: str


@dataclass(frozen=True, slots=True)
class ExportChanged:
    """A collector does not take traces, metrics or logs, for that reason; or, where there is none,
    takes them again. `dropped` of them were lost since it took them last."""

    signal: str
    endpoint: str
    reason: str
    dropped: int


@dataclass(frozen=True, slots=True)
class DaemonStepped:
    """The daemon is `ready`, `draining`, `drained`, …"""

    step: str
    detail: str = ""


Signal: TypeAlias = (
    InvocationEnded
    | LaneOpened
    | LaneClosed
    | LaneRetrying
    | BatchSplit
    | LaneFarAhead
    | LaneHealed
    | WindowEnded
    | WindowLost
    | BatchSetAside
    | DestinationFailed
    | DestinationUnready
    | SourceChanged
    | TriggerPaused
    | TriggerResumed
    | LaneSought
    | WorkerStarted
    | WorkerEnded
    | FunctionIsolated
    | LogWritten
    | ConfigReloaded
    | OutputCut
    | LogsDropped
    | ExportChanged
    | DaemonStepped
)

Emit = Callable[[Signal], None]
"""Tells whoever listens. Never raises, never waits."""
