"""How a call that got no answer is told, in Lambda's words."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

import orjson

from streamfaas.flow.outcome import NO_REPORT, Failure, Fault, Report

MESSAGE_CHARS_MAX = 64 * 1024
TIMED_OUT = "Sandbox.Timedout"
_TYPE_CHARS_MAX = 256
_FRAMES_MAX = 256
_KINDS = {1: Fault.FUNCTION, 2: Fault.OVERSIZE, 3: Fault.CORRUPT}


@dataclass(frozen=True, slots=True)
class Ending:
    """A failure without the call it ends: what Lambda's message says of the request is added
    where `names_request`."""

    fault: Fault
    type: str
    text: str
    stack: tuple[str, ...] = ()
    names_request: bool = True

    def of(self, request_id: str, report: Report = NO_REPORT) -> Failure:
        text = f"RequestId: {request_id} Error: {self.text}" if self.names_request else self.text
        return Failure(self.fault, self.type, text, self.stack, report=report)


def timed_out(seconds: float) -> Ending:
    """The handler ran into the function's timeout."""
    return Ending(Fault.TIMEOUT, TIMED_OUT, f"Task timed out after {seconds:.2f} seconds")


def init_timed_out(seconds: float) -> Ending:
    """The import of the handler's module ran into the limit for it."""
    return Ending(Fault.INIT, TIMED_OUT, f"Init timed out after {seconds:.2f} seconds")


def exited(fault: Fault, status: int | None) -> Ending:
    """A process that ended by itself, with the status that `wait` gave (None: not known)."""
    return Ending(fault, "Runtime.ExitError", exit_text(status))


def too_large(bytes_max: int) -> Ending:
    """The answer is larger than Lambda takes."""
    text = f"Response payload size exceeded maximum allowed payload size ({bytes_max} bytes)."
    return Ending(Fault.FUNCTION, "Function.ResponseSizeTooLarge", text, names_request=False)


def throttled() -> Ending:
    """Too many wait for a worker already."""
    return Ending(
        Fault.THROTTLED, "TooManyRequestsException", "Rate Exceeded.", names_request=False
    )


def aborted(text: str) -> Ending:
    """The call was ended by us."""
    return Ending(Fault.ABORTED, "Sandbox.Failure", text)


def exit_text(status: int | None) -> str:
    """How a process ended, as Lambda words it."""
    if status is None or status == 0:
        return "Runtime exited without providing a reason"
    if os.WIFSIGNALED(status):
        name = signal.strsignal(os.WTERMSIG(status)) or str(os.WTERMSIG(status))
        return f"Runtime exited with error: signal: {name.lower()}"
    return f"Runtime exited with error: exit status {os.WEXITSTATUS(status)}"


def killed(status: int | None) -> bool:
    """Whether the process was ended by SIGKILL, which where we did not send it ourselves is the
    kernel out of memory."""
    return status is not None and os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def raised(text: bytes, kind: int, until: int, report: Report) -> Failure:
    """What an ERROR of a worker says. It is the function's own text: anything may be in it."""
    ending = told(text, _KINDS.get(kind, Fault.FUNCTION))
    return Failure(
        ending.fault,
        ending.type,
        ending.text,
        ending.stack,
        until=until if until >= 0 else None,
        report=report,
    )


def told(text: bytes, fault: Fault) -> Ending:
    """An error as a worker describes it: `errorType`, `errorMessage`, `stackTrace`."""
    try:
        said = orjson.loads(text)
    except orjson.JSONDecodeError:
        said = None
    if not isinstance(said, dict):
        said = {}
    stack = said.get("stackTrace")
    frames = stack[:_FRAMES_MAX] if isinstance(stack, list) else []
    return Ending(
        fault,
        _string(said.get("errorType"), _TYPE_CHARS_MAX) or "Runtime.Unknown",
        _string(said.get("errorMessage"), MESSAGE_CHARS_MAX),
        tuple(_string(frame, MESSAGE_CHARS_MAX) for frame in frames),
        names_request=False,
    )


def _string(value: object, chars_max: int) -> str:
    return value[:chars_max] if isinstance(value, str) else ""
