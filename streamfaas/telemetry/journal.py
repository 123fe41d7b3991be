"""Signals as entries of systemd's journal, by its native protocol, with a field for each thing."""

from __future__ import annotations

import errno
import fcntl
import functools
import os
import socket
import stat
import struct
import uuid
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

from streamfaas.flow.outcome import Failure
from streamfaas.flow.record import Lane
from streamfaas.telemetry import signals
from streamfaas.telemetry.behind import Behind
from streamfaas.telemetry.console import Console
from streamfaas.telemetry.losses import Losses
from streamfaas.telemetry.severity import level_of
from streamfaas.telemetry.signals import LogsDropped, LogWritten, Signal

SOCKET = Path("/run/systemd/journal/socket")
PLACE = "journal"
IDENTIFIER = "streamfaas"

ERROR, WARNING, INFO, DEBUG = 3, 4, 6, 7
"""Priorities of syslog."""

_NAMESPACE = uuid.UUID("7f0c5bd2-51c5-4a0e-9a0b-0f5a4bd0a9e2")
_LEVELS = {
    "TRACE": DEBUG,
    "DEBUG": DEBUG,
    "INFO": INFO,
    "WARN": WARNING,
    "ERROR": ERROR,
    "FATAL": 2,
}
_PRIORITIES = {
    signals.LaneRetrying: WARNING,
    signals.BatchSplit: WARNING,
    signals.LaneFarAhead: WARNING,
    signals.BatchSetAside: WARNING,
    signals.WindowLost: WARNING,
    signals.DestinationFailed: ERROR,
    signals.DestinationUnready: WARNING,
    signals.LogsDropped: ERROR,
    signals.WorkerEnded: WARNING,
}
_TOO_LARGE = frozenset({errno.EMSGSIZE, errno.ENOBUFS})
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
_LENGTH = struct.Struct("<Q")


def is_ours(environ: Mapping[str, str], stdout: int = 1, stderr: int = 2) -> bool:
    """Whether what is written to these goes to the journal anyway, as systemd says it does."""
    asked = environ.get("JOURNAL_STREAM", "")
    if not asked or not stat.S_ISSOCK(os.fstat(stdout).st_mode):
        return False
    return asked in {f"{s.st_dev}:{s.st_ino}" for s in map(os.fstat, (stdout, stderr))}


@functools.cache
def message_id(kind: str) -> str:
    """The MESSAGE_ID of a kind of signal."""
    return uuid.uuid5(_NAMESPACE, kind).hex


class Journal:
    """Listens to signals. What it says of them is what a console says."""

    def __init__(
        self, tell: Callable[[LogsDropped], None], *, quiet: bool = False, path: Path = SOCKET
    ) -> None:
        self._path = str(path)
        self._losses = Losses(PLACE, tell)
        self._said = ""
        self._console = Console(self._say, quiet=quiet, stamped=False)
        self._quiet = quiet
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._behind = Behind(self._write, "journal")

    def __call__(self, signal: Signal) -> None:
        if type(signal) is LogWritten:
            if not self._quiet:
                self._put(signal, len(signal.line))
            return
        self._said = ""
        self._console(signal)
        if self._said:
            self._put(_entry(signal, self._said), len(self._said))

    def note(self, text: str) -> None:
        """Something of ours that is no signal."""
        self._put({"MESSAGE": text, "PRIORITY": str(INFO)}, len(text))

    def close(self) -> None:
        """Writes what is left, within two seconds."""
        self._behind.close()
        self._socket.close()

    def _say(self, text: str) -> None:
        self._said = f"{self._said}\n{text}" if self._said else text

    def _put(self, entry: Mapping[str, str] | LogWritten, size: int) -> None:
        if not self._behind.put(entry, size):
            self._losses.lost(1, "journald is too slow")

    def _write(self, entries: Sequence[Mapping[str, str] | LogWritten]) -> None:
        lost = 0
        for each in entries:
            entry = _line(each) if isinstance(each, LogWritten) else each
            data = datagram({**entry, "SYSLOG_IDENTIFIER": IDENTIFIER})
            try:
                self._send(data)
            except OSError as error:
                lost += 1
                self._losses.lost(1, f"{error.strerror or error} ({self._path})")
        if not lost:
            self._losses.fine()

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendto(data, self._path)
        except OSError as error:
            if error.errno not in _TOO_LARGE:
                raise
        else:
            return
        # as the protocol has it: what is too large for a datagram comes in a sealed file
        memory = os.memfd_create("streamfaas-journal", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            with open(memory, "wb", closefd=False) as file:
                file.write(data)
            fcntl.fcntl(memory, fcntl.F_ADD_SEALS, _SEALS)
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [memory]))
            self._socket.sendmsg([], [rights], 0, self._path)
        finally:
            os.close(memory)


def datagram(entry: Mapping[str, str]) -> bytes:
    """Fields in the journal's form: a value of several lines has its length before it."""
    parts = []
    for name, value in entry.items():
        data = value.encode("utf-8", "backslashreplace")
        if b"\n" in data:
            parts += [name.encode(), b"\n", _LENGTH.pack(len(data)), data, b"\n"]
        elif data:
            parts += [name.encode(), b"=", data, b"\n"]
    return b"".join(parts)


def _line(signal: LogWritten) -> dict[str, str]:
    level = level_of(signal.line, platform=signal.platform)
    return {
        "MESSAGE": signal.line or " ",
        "PRIORITY": str(_LEVELS.get(level, INFO)),
        "MESSAGE_ID": message_id("LogWritten"),
        "STREAMFAAS_EVENT": "LogWritten",
        "STREAMFAAS_FUNCTION": signal.function,
        "STREAMFAAS_WORKER": signal.worker,
        "STREAMFAAS_REQUEST_ID": signal.request_id,
        "STREAMFAAS_LINE": "platform" if signal.platform else "function",
        "TRACE_ID": signal.trace_id,
    }


def _entry(signal: Signal, text: str) -> dict[str, str]:
    kind = type(signal).__name__
    entry = {
        "MESSAGE": text,
        "PRIORITY": str(_priority(signal)),
        "MESSAGE_ID": message_id(kind),
        "STREAMFAAS_EVENT": kind,
    }
    for each in fields(signal):
        value = getattr(signal, each.name)
        match each.name, value:
            case "lane", Lane(source, name):
                entry["STREAMFAAS_TRIGGER"], entry["STREAMFAAS_LANE"] = source, name
                entry["STREAMFAAS_FUNCTION"] = source.partition("/")[0]
            case "source", str():
                entry["STREAMFAAS_TRIGGER"] = value
                entry["STREAMFAAS_FUNCTION"] = value.partition("/")[0]
            case "function" | "worker" | "request_id" | "destination", str():
                entry[f"STREAMFAAS_{each.name.upper()}"] = value
            case _:
                pass
    return entry


def _priority(signal: Signal) -> int:
    match signal:
        case signals.InvocationEnded(outcome=Failure()):
            return ERROR
        case signals.LaneRetrying(blocked=True):
            return ERROR
        case signals.ConfigReloaded(state="invalid" | "refused" | "rolled back"):
            return WARNING
        case signals.SourceChanged(state="degraded" | "rebuilt"):
            return WARNING
        case (
            signals.FunctionIsolated(missing=[_, *_])
            | signals.DaemonStepped(step="stuck" | "refused")
        ):
            return WARNING
        case _:
            return _PRIORITIES.get(type(signal), INFO)
