"""Requests to a running daemon, on its Unix socket."""

from __future__ import annotations

import http.client
import os
import socket
from dataclasses import dataclass
from pathlib import Path

ANSWER_BYTES_MAX = 64 << 20


class Absent(Exception):
    """Nobody answers on the socket."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the daemon said; header names are in small letters."""

    status: int
    headers: dict[str, str]
    body: bytes


def ask(
    path: Path, method: str, target: str, body: bytes | None = None, *, timeout: float = 10.0
) -> Answer:
    """One request. `Absent` where there is no daemon, or it does not answer in time."""
    connection = _Connection(path, timeout)
    try:
        connection.request(method, target, body)
        response = connection.getresponse()
        data = response.read(ANSWER_BYTES_MAX)
    except TimeoutError as cause:
        raise Absent(f"the daemon at {path} does not answer within {timeout:.0f} s") from cause
    except (OSError, http.client.HTTPException) as cause:
        raise Absent(_reason(path, cause)) from cause
    finally:
        connection.close()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, headers, data)


def _reason(path: Path, cause: Exception) -> str:
    if isinstance(cause, FileNotFoundError | ConnectionRefusedError):
        return f"no daemon answers at {path}"
    if isinstance(cause, PermissionError):
        return f"the daemon at {path} belongs to another user"
    return f"the daemon at {path} broke off ({type(cause).__name__})"


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(os.fspath(self._path))
        except OSError as cause:
            self.sock.close()
            if "too long" in str(cause):
                raise FileNotFoundError(str(self._path)) from cause
            raise
