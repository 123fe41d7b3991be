"""What systemd is told: one datagram at a time, and nothing where nobody asked."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping


class Notifier:
    """The notify protocol of systemd (`sd_notify(3)`), for a daemon started by `Type=notify`."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        # systemd writes an abstract name with a leading @, the kernel wants a NUL
        self._address = "\0" + address[1:] if address.startswith("@") else address

    @property
    def wanted(self) -> bool:
        return bool(self._address)

    def ready(self, status: str) -> None:
        self._send(f"READY=1\nSTATUS={_one_line(status)}\nMAINPID={os.getpid()}")

    def status(self, status: str) -> None:
        self._send(f"STATUS={_one_line(status)}")

    def stopping(self, grace_seconds: float) -> None:
        """Also asks for the time that the drain may take, so that it is not cut off."""
        microseconds = int((grace_seconds + 10) * 1_000_000)
        self._send(f"STOPPING=1\nEXTEND_TIMEOUT_USEC={microseconds}\nSTATUS=draining")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        # a manager that does not listen must not stop the daemon
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.sendto(text.encode(), self._address)


def _one_line(text: str) -> str:
    return " ".join(text.split())
