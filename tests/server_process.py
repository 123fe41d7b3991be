"""Servers that tests start: an address for each, and a process that ends with whoever started it."""

from __future__ import annotations

import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

START_SECONDS = 60
STOP_SECONDS = 10


def free_port(host: str = "127.0.0.1") -> int:
    """For the moment."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as found:
        port: int = found.getsockname()[1]
        return port


@contextmanager
def started(*command: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """One that ends when its input does, and so with us, however we end."""
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, **{"stderr": subprocess.DEVNULL, **options}
    )
    assert process.stdin is not None
    try:
        yield process
    finally:
        process.stdin.close()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def wait_answering(
    url: str,
    process: subprocess.Popen[bytes],
    *,
    seconds: float = START_SECONDS,
    said: Callable[[], object] = lambda: "",
) -> None:
    """Until anything is answered there, an error too. `said` is what its logs have to tell."""
    until = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except urllib.error.HTTPError as answered:
            answered.close()
            return
        except OSError:
            assert process.poll() is None, f"it ended: {process.returncode} {said()}"
            assert time.monotonic() < until, f"{url} does not answer {said()}"
            time.sleep(0.05)
