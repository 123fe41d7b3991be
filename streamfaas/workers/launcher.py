"""A function's launcher: the process from which its workers are forked."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import orjson

from streamfaas.runtimes import Command
from streamfaas.workers.logs import printable

SPAWNS_MAX = 8
"""Workers asked for and not yet there: descriptors on their way count against the daemon's own."""

READY_SECONDS = 30.0
SPAWN_SECONDS = 10.0
END_SECONDS = 1.0

_SIGNALLED = 128  # as in a shell, above it: the signal that ended the process within
_TAIL_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Ready:
    """The launcher stands, with this isolation. `missing` are controls with reason and remedy."""

    level: str
    controls: Mapping[str, str]
    missing: tuple[Mapping[str, str], ...]


@dataclass(frozen=True, slots=True)
class Denied:
    """A control that the function asked for cannot be had here."""

    control: str
    reason: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Spawned:
    """A worker was forked; the descriptor is the receiver's to close."""

    worker: int
    pidfd: int


@dataclass(frozen=True, slots=True)
class SpawnFailed:
    """A worker could not be forked."""

    worker: int
    reason: str


@dataclass(frozen=True, slots=True)
class Exited:
    """A worker was reaped."""

    worker: int
    status: int
    memory_bytes: int
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Ended:
    """The launcher itself is gone, and with it every worker."""

    reason: str


Message: TypeAlias = Ready | Denied | Spawned | SpawnFailed | Exited | Ended


class Launcher:
    """The process that forks a function's workers. Whatever it does is told as a `Message`;
    `Ended` comes once, last, and always."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        command: Command,
        buffer: bytearray,
        tell: Callable[[Launcher, Message], None],
    ) -> None:
        """Starts it; `OSError` where the machine cannot."""
        self.alive = True
        self._buffer = buffer
        self._loop = loop
        self._tell = tell
        self._ready = False
        self._asked: set[int] = set()
        self._reason = ""  # why we ended it
        self._tail = b""
        self._process, self._pidfd, self._control, self._log = _start(command)
        loop.add_reader(self._control.fileno(), self._read)
        loop.add_reader(self._log, self._read_log)
        loop.add_reader(self._pidfd, self._ended)
        self._patience = loop.call_later(READY_SECONDS, self.kill, "does not get ready")
        self._send(command.spec)

    @property
    def room(self) -> bool:
        """Whether one more worker may be asked for now."""
        there = self._ready and not self._reason and self._control.fileno() >= 0
        return there and len(self._asked) < SPAWNS_MAX

    def spawn(self, worker: int, log_stream: str, ends: tuple[int, int, int]) -> None:
        """Asks for a worker at these ends of its channel (where it is told, and where it answers)
        and of its log pipe, which the caller closes."""
        assert self.room
        self._asked.add(worker)
        packet = {"type": "spawn", "worker": worker, "log_stream": log_stream}
        self._send(orjson.dumps(packet), *ends)
        self._wait_for_spawned()

    def close(self) -> None:
        """Lets it end by itself: it does so when nobody holds the other end of its control."""
        self._reason = self._reason or "closed"
        self._patience.cancel()
        self._patience = self._loop.call_later(END_SECONDS, self.kill, "does not end")
        self._hang_up()

    def kill(self, reason: str) -> None:
        self._reason = self._reason or reason
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def wait(self, seconds: float) -> None:
        """Blocks until it is gone: only where the loop may not be waited with any more."""
        if self.alive:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
                self._ended()

    def _send(self, packet: bytes, *descriptors: int) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))]
        try:
            self._control.sendmsg([packet], rights if descriptors else [])
        except (BrokenPipeError, ConnectionResetError):
            self._lost()
        except OSError as error:
            self.kill(f"cannot be told anything: {error.strerror}")

    def _wait_for_spawned(self) -> None:
        self._patience.cancel()
        if self._asked:
            reason = "does not answer"
            self._patience = self._loop.call_later(SPAWN_SECONDS, self.kill, reason)

    def _read(self) -> bool:
        """One packet. False: nothing was there."""
        rights = socket.CMSG_SPACE(array("i").itemsize)
        try:
            size, said, _, _ = self._control.recvmsg_into(
                [self._buffer], rights, socket.MSG_CMSG_CLOEXEC
            )
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            size, said = 0, []
        descriptors = array("i")
        for _, _, data in said:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
        if not size:
            self._lost()
            return False
        message = _message(bytes(self._buffer[:size]), descriptors)
        if message is None:
            for descriptor in descriptors:
                os.close(descriptor)
            self.kill("speaks nonsense")
            return True
        self._note(message)
        self._tell(self, message)
        return True

    def _lost(self) -> None:
        """It ends, and its exit status and last words are about to say why."""
        self._hang_up()
        self._patience.cancel()
        self._patience = self._loop.call_later(END_SECONDS, self.kill, "hung up")

    def _note(self, message: Message) -> None:
        match message:
            case Ready():
                self._ready = True
                self._patience.cancel()
            case Denied():
                self._reason = self._reason or message.reason
            case Spawned() | SpawnFailed():
                self._asked.discard(message.worker)
                self._wait_for_spawned()
            case _:
                pass

    def _read_log(self) -> None:
        """Only the end of it is kept, to say why the launcher ended."""
        try:
            data = os.read(self._log, _TAIL_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        if not data:
            self._loop.remove_reader(self._log)
        self._tail = (self._tail + data)[-_TAIL_BYTES:]

    def _hang_up(self) -> None:
        if self._control.fileno() >= 0:
            self._loop.remove_reader(self._control.fileno())
            self._control.close()

    def _ended(self) -> None:
        """The process is there to be reaped; what it said before comes first."""
        if not self.alive:
            return
        while self._control.fileno() >= 0 and self._read():
            pass
        self.alive = False
        self._patience.cancel()
        self._hang_up()
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        status = self._process.wait()
        self._read_log()
        self._loop.remove_reader(self._log)
        os.close(self._log)
        self._tell(self, Ended(self._reason or self._last_words(status)))

    def _last_words(self, status: int) -> str:
        number = -status if status < 0 else status - _SIGNALLED
        how = f"signal {number}" if number > 0 else f"exit status {status}"
        if number > 0 and (name := signal.strsignal(number)):
            how = f"{how} ({name.lower()})"
        lines = self._tail.splitlines()
        return f"ended with {how}" + (f": {printable(lines[-1])}" if lines else "")


def _start(command: Command) -> tuple[subprocess.Popen[bytes], int, socket.socket, int]:
    """The process and its pidfd, our end of its control, and the reading end of its output."""
    with contextlib.ExitStack() as undo:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        undo.callback(ours.close)
        with theirs:
            reading, writing = os.pipe()
            undo.callback(os.close, reading)
            try:
                process = subprocess.Popen(  # noqa: S603 - our own program, and no shell
                    [*command.argv, str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=writing,
                    stderr=writing,
                    cwd="/",
                    env=dict(command.env),
                    pass_fds=[theirs.fileno()],
                )
            finally:
                os.close(writing)
        undo.callback(process.wait)
        undo.callback(process.kill)
        pidfd = os.pidfd_open(process.pid)
        ours.setblocking(False)
        os.set_blocking(reading, False)
        undo.pop_all()
    return process, pidfd, ours, reading


def _message(packet: bytes, descriptors: array[int]) -> Message | None:
    try:
        said = orjson.loads(packet)
    except orjson.JSONDecodeError:
        return None
    match said, list(descriptors):
        case {"type": "ready", "level": str(level), "controls": dict(controls)}, []:
            missing = said.get("missing", [])
            return Ready(level, controls, tuple(m for m in missing if isinstance(m, dict)))
        case {"type": "refused"}, []:
            control, reason, remedy = (
                str(said.get(key, "")) for key in ("control", "reason", "remedy")
            )
            return Denied(control, reason, remedy)
        case {"type": "spawned", "worker": int(worker)}, [pidfd]:
            return Spawned(worker, pidfd)
        case {"type": "spawn-failed", "worker": int(worker), "reason": str(reason)}, []:
            return SpawnFailed(worker, reason)
        case {"type": "exited", "worker": int(worker), "status": int(status)}, []:
            rss, cpu = said.get("max_rss_kb", 0), said.get("cpu_seconds", 0.0)
            return Exited(worker, status, int(rss) * 1024, float(cpu))
        case _:
            return None
