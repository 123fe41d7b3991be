"""HTTP/1.1 on an address where stores post what has happened: one desk a path."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import TypeAlias

from streamfaas.api import addresses
from streamfaas.api.server import Bounds, Door, Request, Response
from streamfaas.flow.errors import ConfigError, Problem
from streamfaas.wire.inbound import Answer, Desk, Head

BOUNDS = Bounds(connections_max=256, idle_seconds=30.0, streams_max=0)
WAITING_MAX = 1_024
"""Connections that wait to be taken."""

PLAIN: Mapping[str, str] = {"content-type": "text/plain; charset=utf-8"}

Find: TypeAlias = Callable[[str], Desk | Answer]
"""The desk of a path, or what is answered where there is none."""


class Webhooks:
    """Gives each request to the desk of its path. Who asks is judged by the head alone: a body that
    nobody wants is not read."""

    def __init__(self, address: str, find: Find) -> None:
        self._address = address
        self._find = find
        self._door = Door(self._handle, BOUNDS, admit=self._admit)
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

    def _admit(self, request: Request) -> Response | int:
        head, found = self._found(request)
        admitted = found if isinstance(found, Answer) else found.admit(head)
        return _response(admitted) if isinstance(admitted, Answer) else admitted

    async def _handle(self, request: Request) -> Response:
        head, found = self._found(request)
        if isinstance(found, Answer):  # it has gone while the body came
            return _response(found)
        return _response(await found.take(head, request.body))

    def _found(self, request: Request) -> tuple[Head, Desk | Answer]:
        path, _, query = request.path.partition("?")
        return Head(request.method, query, request.headers), self._find(path)


def _response(answer: Answer) -> Response:
    headers = dict(PLAIN)
    if answer.again is not None:
        headers["retry-after"] = str(answer.again)
    if answer.allow:
        headers["allow"] = answer.allow
    return Response(answer.status, f"{answer.told}\n".encode() if answer.told else b"", headers)


def _cannot_listen(address: str, error: OSError) -> Problem:
    return Problem(
        "webhook-listen",
        "functions.….triggers.….listen",
        0,
        0,
        f"cannot listen on {address}: {error.strerror or error}",
        "end who listens there, or choose another address or port",
    )
