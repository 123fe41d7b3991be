"""What systemd is told: one datagram at a time, and nothing where nobody asked."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping

from streamfaas.workers.pool import Motion

END_SECONDS = 30.0
"""After the grace: what closing sources, workers and destinations may take."""

PATIENCE_SECONDS = 90.0
"""How long nothing may move while something should: above the longest start of a worker, and the
longest pause after one that failed."""


class Notifier:
    """The notify protocol of systemd (`sd_notify(3)`), for a daemon started by `Type=notify`."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        # systemd writes an abstract name with a leading @, the kernel wants a NUL
        self._address = "\0" + address[1:] if address.startswith("@") else address

        self.watchdog_seconds = _watchdog_seconds(environ)

    @property
    def wanted(self) -> bool:
        return bool(self._address)

    def ready(self, status: str) -> None:
        self._send(f"READY=1\nSTATUS={_one_line(status)}\nMAINPID={os.getpid()}")

    def reloading(self) -> None:
        """`ready` is owed after it. One datagram, as the manager wants it."""
        microseconds = time.monotonic_ns() // 1_000
        self._send(f"RELOADING=1\nMONOTONIC_USEC={microseconds}\nSTATUS=reloading")

    def status(self, status: str) -> None:
        self._send(f"STATUS={_one_line(status)}")

    def alive(self) -> None:
        """Owed at least once every `watchdog_seconds`, where there are any."""
        self._send("WATCHDOG=1")

    def stopping(self, grace_seconds: float) -> None:
        """Also asks for the time that the drain may take, so that it is not cut off."""
        microseconds = int((grace_seconds + END_SECONDS) * 1_000_000)
        self._send(f"STOPPING=1\nEXTEND_TIMEOUT_USEC={microseconds}\nSTATUS=draining")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        # a manager that does not listen must not stop the daemon
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.sendto(text.encode(), self._address)


class Pulse:
    """Whether the pool of workers moves, or rests by right. A loop that is stuck asks nothing; but
    one that turns may wait for ever for what does not come."""

    def __init__(self, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._patience_seconds = patience_seconds
        self._steps = -1
        self._since = 0.0

    def beats(self, motion: Motion, now: float) -> bool:
        """Asked again and again, with the time."""
        if motion.steps != self._steps or not motion.stalled:
            self._steps, self._since = motion.steps, now
        return max(now - self._since, motion.late_seconds) <= self._patience_seconds


def _watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    """None where nobody asked, or asked another process."""
    asked, whom = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not asked.isdecimal() or int(asked) == 0 or whom not in {"", str(os.getpid())}:
        return None
    return int(asked) / 1_000_000


def _one_line(text: str) -> str:
    return " ".join(text.split())
