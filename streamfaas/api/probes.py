"""HTTP/1.1 on an address of its own, for whoever measures or asks whether we live: GET only."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import TypeAlias

from streamfaas.api import addresses
from streamfaas.api.server import Bounds, Door, Request, Response
from streamfaas.flow.errors import ConfigError, Problem

BOUNDS = Bounds(connections_max=16, idle_seconds=10.0, body_bytes_max=0)
WAITING_MAX = 64
"""Connections that wait to be taken."""

PLAIN: Mapping[str, str] = {"content-type": "text/plain; charset=utf-8"}

Answer: TypeAlias = Callable[[Request], Response]


class Probes:
    """Answers the routes it is given, and nothing else: 405 for what is no GET, 404 for what is no
    route. Who asks, and by what name of ours, makes no difference."""

    def __init__(self, address: str, routes: Mapping[str, Answer]) -> None:
        self._address = address
        self._routes = routes
        self._door = Door(self._handle, BOUNDS)
        self._listener: socket.socket | None = None

    def open(self) -> None:
        """Binds. `ConfigError` where that cannot be."""
        try:
            self._listener = addresses.listener(self._address, WAITING_MAX)
        except OSError as error:
            raise ConfigError((_cannot_listen(self._address, error),)) from error

    async def serve(self) -> None:
        """Until cancelled."""
        assert self._listener is not None
        await self._door.serve(self._listener)

    def close(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def _handle(self, request: Request) -> Response:
        if request.method != "GET":
            return Response(405, b"GET only\n", {**PLAIN, "allow": "GET"})
        answer = self._routes.get(request.path.partition("?")[0])
        if answer is None:
            return Response(404, f"there is {', '.join(self._routes)}\n".encode(), PLAIN)
        return answer(request)


def _cannot_listen(address: str, error: OSError) -> Problem:
    return Problem(
        "metrics-listen",
        "telemetry.metrics.listen",
        0,
        0,
        f"cannot listen on {address}: {error.strerror or error}",
        "end who listens there, or choose another address or port",
    )
