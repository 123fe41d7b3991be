"""What a worker does to itself between its fork and the handler."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
import signal
import socket
from collections.abc import Callable, Iterator

from streamfaas.sandbox import identity, kernel, root
from streamfaas.sandbox.controls import Controls, explain
from streamfaas.sandbox.spec import Spec

Step = Callable[[], None]


class Jail:
    """The steps into one function's jail, each under the name of its control.

    `proc` is a directory descriptor of a proc file system that shows this process: the one
    that workers mount may be missing. `task` is where the code lies.
    """

    def __init__(self, spec: Spec, controls: Controls, *, proc: int, task: str) -> None:
        self._spec = spec
        self._controls = controls
        self._proc = proc
        self._task = task
        self._zygote = os.getpid()

    def enter(self) -> None:
        """Takes every step that is known to work; `OSError` where one does not any more."""
        self._begin()
        for control, step in self._steps():
            if not self._controls.states[control].startswith("missing"):
                step()
        os.chdir(self._task)

    def probe(self) -> dict[str, str]:
        """Takes every step and looks at what came of it; gives back what fails, and why."""
        failures: dict[str, str] = {}
        self._begin()
        for control, step in self._steps():
            try:
                step()
            except OSError as error:
                failures[control] = explain(error)
        for control, works in self._checks():
            if control not in failures and not works():
                failures[control] = "it was set and has no effect"
        return failures

    def controls(self) -> Iterator[str]:
        """The names of the steps."""
        return (control for control, _ in self._steps())

    def _steps(self) -> Iterator[tuple[str, Step]]:
        if self._controls.has("user"):
            yield "tmp", self._take_own_tmp
            yield "proc", root.mount_proc
            yield "processes", self._limit_processes
        yield "descriptors", self._limit_descriptors
        yield "core", _forbid_core_files
        if self._spec.data_bytes is not None:
            yield "data", self._limit_data
        yield "capabilities", kernel.drop_capabilities
        yield "privileges", kernel.forbid_new_privileges

    def _begin(self) -> None:
        """A session of its own, and no life without the zygote: without a pid namespace nothing
        else would end it."""
        os.setsid()
        kernel.die_with_parent(signal.SIGKILL)
        if os.getppid() not in {0, self._zygote}:  # 0: the parent is outside the pid namespace
            os._exit(1)
        if self._controls.states.get("tmp", "missing").startswith("missing"):
            most = self._spec.tmp_bytes
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    def _take_own_tmp(self) -> None:
        flags = kernel.NEW_NAMESPACE_MOUNT
        flags |= kernel.NEW_NAMESPACE_IPC if self._controls.has("ipc") else 0
        flags |= kernel.NEW_NAMESPACE_UTS if self._controls.has("uts") else 0
        kernel.unshare(flags)
        root.mount_tmp(self._spec)

    def _limit_processes(self) -> None:
        """Processes are counted by user and user namespace, so a worker gets one of its own;
        the limit comes after, or it would hold for all workers of the function together."""
        kernel.unshare(kernel.NEW_NAMESPACE_USER)
        identity.map_within(identity.HANDLER_UID, self._proc)
        with contextlib.suppress(OSError):  # where /proc/sys cannot be written
            identity.forbid_user_namespaces(self._proc)
        most = self._spec.processes_max + 1  # the first of the namespace beside the worker
        resource.setrlimit(resource.RLIMIT_NPROC, (most, most))

    def _limit_descriptors(self) -> None:
        most = self._spec.files_max
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    def _limit_data(self) -> None:
        most = self._spec.data_bytes
        assert most is not None
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))

    def _checks(self) -> Iterator[tuple[str, Callable[[], bool]]]:
        """Each looks from inside whether a control does what it is for."""
        if self._controls.has("user"):
            yield "tmp", self._has_small_tmp
            yield "proc", self._sees_itself_only
        if self._controls.has("filesystem"):
            yield "filesystem", self._cannot_write_code
        if self._spec.network == "none" and self._controls.has("network"):
            yield "network", _reaches_nobody
        yield "descriptors", self._gets_no_more_descriptors
        yield "capabilities", lambda: not kernel.has_capabilities()
        yield "privileges", kernel.forbids_new_privileges

    def _has_small_tmp(self) -> bool:
        status = os.statvfs("/tmp")
        return status.f_blocks * status.f_frsize <= self._spec.tmp_bytes + status.f_frsize

    def _sees_itself_only(self) -> bool:
        if not self._controls.has("pid"):
            return True
        return [name for name in os.listdir("/proc") if name.isdigit()] == ["1"]

    def _cannot_write_code(self) -> bool:
        try:
            os.open(f"{self._task}/.probe", os.O_WRONLY | os.O_CREAT, 0o600)
        except OSError as error:
            return error.errno == errno.EROFS
        return False

    def _gets_no_more_descriptors(self) -> bool:
        try:
            fcntl.fcntl(0, fcntl.F_DUPFD, self._spec.files_max)
        except OSError:
            return True
        return False


def _forbid_core_files() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _reaches_nobody() -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address for documentation: nobody has it
        except OSError as error:
            return error.errno == errno.ENETUNREACH
    return False
