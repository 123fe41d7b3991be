"""A TCP address of this machine, with a door that listens there."""

from __future__ import annotations

import socket

from streamfaas.api.server import Door
from streamfaas.flow.errors import ConfigError, Problem


class Listener:
    """Opens a door at `host:port`. `code` and `asked` are what a problem with it is called, and the
    key of the configuration that asks for it; more than `waiting_max` do not wait to be taken."""

    def __init__(
        self, address: str, door: Door, *, waiting_max: int, code: str, asked: str
    ) -> None:
        self._address = address
        self._door = door
        self._waiting_max = waiting_max
        self._code = code
        self._asked = asked
        self._socket: socket.socket | None = None

    def open(self) -> None:
        """Binds. `ConfigError` where that cannot be."""
        try:
            self._socket = bound(self._address, self._waiting_max)
        except OSError as error:
            message = f"cannot listen on {self._address}: {error.strerror or error}"
            hint = "end who listens there, or choose another address or port"
            raise ConfigError((Problem(self._code, self._asked, 0, 0, message, hint),)) from error

    async def serve(self) -> None:
        """Until cancelled."""
        assert self._socket is not None
        await self._door.serve(self._socket)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def bound(address: str, waiting_max: int) -> socket.socket:
    """A socket that listens at `host:port`; `OSError` where that cannot be."""
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host.strip("[]").replace("localhost", "127.0.0.1"), int(port)))
        made.listen(waiting_max)
    except BaseException:
        made.close()
        raise
    return made
