"""How a call ended. A function's failure is a value here, never an exception."""

from __future__ import annotations

import enum
from typing import TypeAlias

from streamfaas.flow.value import value


class Fault(enum.Enum):
    """Whose fault a failure was, which decides what becomes of the batch."""

    FUNCTION = "function"
    TIMEOUT = "timeout"
    CRASH = "crash"
    MEMORY = "memory"
    INIT = "init"
    OVERSIZE = "oversize"  # one record alone makes an event that is too large
    CORRUPT = "corrupt"  # the bytes from the source do not match their checksum
    REPORT = "report"  # it answered that records of the batch failed, or reported that badly
    THROTTLED = "throttled"
    ABORTED = "aborted"  # we ended the call: shutdown, a lane given away, a fault of ours


@value
class Report:
    """What the worker's run cost: the REPORT line. `init_seconds` only where the call waited
    for a cold start, `memory_bytes` the largest resident set of the worker so far. `producers` are
    the trace contexts that it found in raw records, where it was asked: see `trace.handed_back`."""

    worker: str = ""
    duration_seconds: float = 0.0
    init_seconds: float | None = None
    memory_bytes: int = 0
    producers: bytes = b""


NO_REPORT = Report()


@value
class Success:
    """The function answered. `until` is set where the worker ran only the records before that
    position, since more would have made the event too large: the rest has not run."""

    answer: bytes
    until: int | None = None
    report: Report = NO_REPORT


@value
class Failure:
    """The call failed. `type` and `message` as Lambda reports them (`Sandbox.Timedout`, …);
    `until` as in `Success`: only the records before it took part."""

    fault: Fault
    type: str
    message: str
    stack: tuple[str, ...] = ()
    until: int | None = None
    report: Report = NO_REPORT


Outcome: TypeAlias = Success | Failure
