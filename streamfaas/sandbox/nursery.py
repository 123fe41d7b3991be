"""Where workers are born and their deaths are told: the loop of a zygote that is ready."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import select
import signal
import socket
from typing import Any, NoReturn, Protocol

from streamfaas.sandbox import kernel
from streamfaas.sandbox.controls import Controls, Refused, explain
from streamfaas.sandbox.jail import Jail

PACKET_BYTES_MAX = 128 * 1024
EXIT_NOT_JAILED = 4

_SIGNALLED = 128  # an exit status above it is a signal
_CHANNEL_SPREAD = 64  # a worker's channel lies about this far below its descriptor limit


class Guest(Protocol):
    """What a language brings along to be run in a worker."""

    def furnish(self) -> None:
        """Prepares in the zygote, in the function's root, what workers then share."""

    def live(self, channel: int, answers: int, log_stream: str) -> NoReturn:
        """A worker's life in its jail: what it is told comes by one, what it says goes by two."""

    def tell_failure(self, answers: int, message: str) -> None:
        """Says why there is no worker."""


class Nursery:
    """Forks a jailed worker for each request, and reaps it."""

    def __init__(
        self, control: socket.socket, jail: Jail, controls: Controls, guest: Guest
    ) -> None:
        self._control = control
        self._jail = jail
        self._controls = controls
        self._guest = guest
        self._workers: dict[int, tuple[int, int]] = {}  # by pidfd: process and worker
        self._poll = select.epoll()
        self._pid_namespace: int | None = None
        if controls.has("pid"):
            self._pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)

    def probe(self) -> None:
        """Jails a throw-away worker and counts which of the steps work."""
        reader, writer = os.pipe()
        process = self._fork()
        if process == 0:
            with contextlib.suppress(OSError):
                os.write(writer, json.dumps(self._jail.probe()).encode())
            os._exit(0)
        os.close(writer)
        with open(reader, "rb") as file:
            answer = file.read()
        os.waitpid(process, 0)
        if not answer:
            raise Refused("user", "a worker ended while it was being isolated")
        failures = json.loads(answer)
        for control in self._jail.controls():
            if control not in failures:
                self._controls.holds(control)
        for control, reason in failures.items():
            self._controls.lacks(control, reason)
        if self._pid_namespace is None:
            self._controls.is_soft("tree")
        else:
            self._controls.holds("tree")

    def serve(self) -> None:
        """Until the daemon closes its end of the control socket."""
        ours = self._control.fileno()
        self._poll.register(ours, select.EPOLLIN)
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor != ours:
                    self._reap(descriptor)
                elif not self._obey():
                    return

    def end_all(self) -> None:
        """Ends workers that no pid namespace takes along, with their process groups."""
        for process, _ in self._workers.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process, signal.SIGKILL)

    def _obey(self) -> bool:
        flags = socket.MSG_CMSG_CLOEXEC
        data, descriptors, *_ = socket.recv_fds(self._control, PACKET_BYTES_MAX, 3, flags)
        if not data:
            return False
        try:
            packet = json.loads(data)
            channel, answers, log = descriptors
            self._spawn(packet["worker"], packet["log_stream"], (channel, answers), log)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return True

    def _spawn(self, worker: int, log_stream: str, ends: tuple[int, int], log: int) -> None:
        try:
            process = self._fork()
        except OSError as error:
            self._send({"type": "spawn-failed", "worker": worker, "reason": explain(error)})
            return
        if process == 0:
            self._grow_up(worker, log_stream, ends, log)
        pidfd = os.pidfd_open(process)
        self._workers[pidfd] = process, worker
        self._poll.register(pidfd, select.EPOLLIN)
        self._send({"type": "spawned", "worker": worker}, pidfd)

    def _fork(self) -> int:
        """The child is the first process of a pid namespace of its own, so that its end is the
        end of all that it started. Then the next one must not be made inside that one."""
        if self._pid_namespace is None:
            return os.fork()
        kernel.unshare(kernel.NEW_NAMESPACE_PID)
        process = -1
        try:
            process = os.fork()
        finally:
            if process != 0:
                kernel.enter_namespace(self._pid_namespace, kernel.NEW_NAMESPACE_PID)
        return process

    def _grow_up(self, worker: int, log_stream: str, ends: tuple[int, int], log: int) -> NoReturn:
        channel, answers = ends
        try:
            os.dup2(log, 1)
            os.dup2(log, 2)
            self._jail.enter()
            most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            place = max(3, most - 2 - worker % _CHANNEL_SPREAD)
            channel = fcntl.fcntl(channel, fcntl.F_DUPFD_CLOEXEC, place)
            answers = fcntl.fcntl(answers, fcntl.F_DUPFD_CLOEXEC, channel + 1)
            kernel.close_range(3, channel - 1)
            kernel.close_range(channel + 1, answers - 1)
            kernel.close_range(answers + 1)
        except OSError as error:
            self._guest.tell_failure(answers, f"the worker could not be isolated: {explain(error)}")
            os._exit(EXIT_NOT_JAILED)
        process = os.fork() if self._pid_namespace is not None else 0
        if process:
            _stay_first(process)
        with contextlib.suppress(PermissionError):  # it leads one already, as the first of all
            os.setsid()
        self._guest.live(channel, answers, log_stream)

    def _reap(self, pidfd: int) -> None:
        process, worker = self._workers.pop(pidfd)
        _, status, usage = os.wait4(process, 0)
        self._poll.unregister(pidfd)
        os.close(pidfd)
        if self._pid_namespace is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process, signal.SIGKILL)
        self._send(
            {
                "type": "exited",
                "worker": worker,
                "status": status if self._pid_namespace is None else _status_of(status),
                "max_rss_kb": usage.ru_maxrss,
                "cpu_seconds": usage.ru_utime + usage.ru_stime,
            }
        )

    def _send(self, packet: dict[str, Any], *descriptors: int) -> None:
        with contextlib.suppress(ConnectionError):  # the daemon is gone: the loop sees it next
            socket.send_fds(self._control, [json.dumps(packet).encode()], descriptors)


def _stay_first(worker: int) -> NoReturn:
    """The first process of a pid namespace hears no signal that it does not handle, so a handler
    that ends itself by one must not be it. Ends as the worker ends, and all others with it."""
    kernel.close_range(0)
    while True:
        process, status = os.wait()
        if process == worker:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else _SIGNALLED - code)


def _status_of(status: int) -> int:
    """The worker's status out of that of its namespace's first process, as a shell tells it."""
    code = os.waitstatus_to_exitcode(status)
    return code - _SIGNALLED if code - _SIGNALLED in signal.valid_signals() else status
