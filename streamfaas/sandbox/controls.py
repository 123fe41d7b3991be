"""Which controls hold, which do not, and what would help."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

_CONTAINER = (
    "in a container, allow it in the seccomp profile (Docker's default forbids it) or "
    "run with --security-opt seccomp=unconfined"
)
_REMEDIES = {
    "filesystem": "Linux 5.12 or newer is needed; " + _CONTAINER,
    "pid": _CONTAINER,
    "ipc": _CONTAINER,
    "uts": _CONTAINER,
    "network": "set network: host, or allow network namespaces; " + _CONTAINER,
    "proc": "the container masks /proc: run it with --security-opt systempaths=unconfined "
    "(Docker) or --security-opt unmask=ALL (Podman)",
    "tmp": "allow tmpfs mounts; " + _CONTAINER,
    "mounts": "check that the directory exists and that the service's user may enter it",
    "code": "check that the directory exists and that the service's user may enter it",
    "venv": "make it with the Python that runs the service",
    "libraries": "install streamfaas again: its compiled libraries are part of it",
}
_APPARMOR = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"
_SYSCTLS = (
    ("/proc/sys/user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=15000"),
    (
        "/proc/sys/kernel/unprivileged_userns_clone",
        "0",
        "sysctl -w kernel.unprivileged_userns_clone=1",
    ),
    (
        _APPARMOR,
        "1",
        "allow userns in an AppArmor profile of the service's Python, or run the service as root",
    ),
)


class Refused(Exception):
    """A control that was asked for cannot be had."""

    def __init__(self, control: str, reason: str) -> None:
        super().__init__(f"{control}: {reason}")
        self.control = control
        self.reason = reason

    def packet(self) -> dict[str, Any]:
        """What the daemon is told."""
        return {
            "type": "refused",
            "control": self.control,
            "reason": self.reason,
            "remedy": remedy(self.control),
        }


class Controls:
    """The tally of one function's controls. Each is performed before it is counted."""

    def __init__(self, *, enforce: bool) -> None:
        self.enforce = enforce
        self.states: dict[str, str] = {}
        self.missing: list[dict[str, str]] = []

    def holds(self, control: str) -> None:
        """The control was performed and works."""
        self.states[control] = "enforced"

    def is_soft(self, control: str) -> None:
        """The control holds for code that means well, and can be escaped."""
        self.states[control] = "soft"

    def lacks(self, control: str, reason: str) -> None:
        """The control cannot be had: refused, or noted where the function may start without."""
        if self.enforce:
            raise Refused(control, reason)
        self.states[control] = f"missing: {reason}"
        self.missing.append({"control": control, "reason": reason, "remedy": remedy(control)})

    @contextlib.contextmanager
    def attempt(self, control: str) -> Iterator[None]:
        """Counts the control by whether the block works."""
        try:
            yield
        except OSError as error:
            self.lacks(control, explain(error))
        else:
            self.holds(control)

    def has(self, control: str) -> bool:
        return self.states.get(control) == "enforced"

    def packet(self) -> dict[str, Any]:
        """What the daemon is told when the zygote is ready."""
        level = "full"
        if self.missing:
            level = "reduced" if self.has("user") else "none"
        return {
            "type": "ready",
            "level": level,
            "controls": self.states,
            "missing": self.missing,
        }


def explain(error: OSError) -> str:
    """An operating system's refusal in words: what was called, and what came back."""
    return f"{error.filename or 'system call'}: {error.strerror or error}"


def remedy(control: str) -> str:
    """What the operator can do about a missing control."""
    if control != "user":
        return _REMEDIES.get(control, "")
    for path, culprit, advice in _SYSCTLS:
        with contextlib.suppress(OSError), open(path, encoding="ascii") as file:
            if file.read().strip() == culprit:
                return advice
    return _CONTAINER + "; or run the service as root: it then runs workers as other users"
