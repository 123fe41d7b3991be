"""A server whose answers are streams, and those who listen to it, in one process."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import anyio

from daemon_process import UnixConnection
from streamfaas.api.addresses import Listener
from streamfaas.api.server import Bounds, Handle
from streamfaas.api.unix_socket import Server

T = TypeVar("T")


@contextlib.contextmanager
def listening(path: Path, target: str = "/stream") -> Iterator[http.client.HTTPResponse]:
    """The answer to a request, as it comes."""
    connection = UnixConnection(path)
    connection.request("GET", target)
    try:
        yield connection.getresponse()
    finally:
        connection.close()


def served(path: Path, handle: Handle, bounds: Bounds, client: Callable[[], T]) -> T:
    """Runs `client()` in a thread while `handle` answers at `path`; gives back its result."""
    server = Server(path, handle, bounds)
    return beside(server, client, lambda: server.finish(5.0))


async def _at_once() -> None:
    """Nothing is waited for."""


def beside(
    server: Server | Listener,
    client: Callable[[], T],
    finish: Callable[[], Awaitable[None]] = _at_once,
) -> T:
    """Runs `client()` in a thread while a server answers; gives back its result."""

    async def main() -> T:
        server.open()
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(server.serve)
                result = await anyio.to_thread.run_sync(client)
                await finish()
                tasks.cancel_scope.cancel()
        finally:
            server.close()
        return result

    return anyio.run(main)
