"""A Unix socket that only its owner may open, with a door that listens there."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
from pathlib import Path

from streamfaas.api.server import Bounds, Door, Handle
from streamfaas.flow.errors import StoreError

WAITING_MAX = 1_024
"""Connections that wait to be taken: one more is told to try again, and few clients do."""


class Server:
    """Serves one handler. The peer's user must be ours (or root), whatever the file's mode says."""

    def __init__(self, path: Path, handle: Handle, bounds: Bounds = Bounds()) -> None:
        self._path = path
        self._door = Door(handle, bounds, _peer_allowed)
        self._listener: socket.socket | None = None

    def open(self) -> None:
        """Binds. `StoreError` where a daemon already answers there, or the place is unsafe."""
        _clear(self._path)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            before = os.umask(0o177)
            try:
                listener.bind(os.fspath(self._path))
            finally:
                os.umask(before)
            listener.listen(WAITING_MAX)
        except OSError as error:
            listener.close()
            raise StoreError(
                f"cannot listen on {self._path}: {error.strerror or error}",
                "choose a shorter or writable place with `state: {path: …}`",
            ) from error
        self._listener = listener

    async def serve(self) -> None:
        """Until cancelled."""
        assert self._listener is not None
        await self._door.serve(self._listener)

    async def finish(self, seconds: float) -> None:
        """Waits until what its streams were given last has been read, so long at most."""
        await self._door.finish(seconds)

    def close(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            with contextlib.suppress(OSError):
                self._path.unlink()


def _peer_allowed(connection: socket.socket) -> bool:
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", raw)
    return uid in {0, os.getuid()}


def _clear(path: Path) -> None:
    """Takes away the socket of a daemon that is gone; refuses where one still answers."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise StoreError(f"{path} is in the way and is no socket", "move it elsewhere")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
    raise StoreError(
        f"another daemon answers on {path}",
        "stop it, or give this one a state directory of its own with `state: {path: …}`",
    )
