"""A server whose answers are streams, and those who listen to it, in one process."""

from __future__ import annotations

import contextlib
import http.client
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import anyio

from streamfaas.api.server import Bounds, Handle, Server

T = TypeVar("T")


class UnixConnection(http.client.HTTPConnection):
    """A connection to a server on a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self.path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(10)
        self.sock.connect(self.path)


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

    async def main() -> T:
        server = Server(path, handle, bounds)
        server.open()
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(server.serve)
                result = await anyio.to_thread.run_sync(client)
                await server.finish(5.0)
                tasks.cancel_scope.cancel()
        finally:
            server.close()
        return result

    return anyio.run(main)
