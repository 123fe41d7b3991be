"""HTTP/1.1 on a Unix socket that only its owner may open, and what other doors share with it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import anyio
import h11
import orjson

from streamfaas.flow.errors import StoreError

BODY_BYTES_MAX = 6 * 1024 * 1024
CONNECTIONS_MAX = 64
"""Connections at the same time. For one more, who has been idle longest is sent away."""

WAITING_MAX = 1_024
"""Connections that wait to be taken: one more is told to try again, and few clients do."""

PLACE_SECONDS = 0.5
"""How often an idle one is looked for while all places are taken."""

IDLE_SECONDS = 30.0
"""How long a client may take for a request, and for reading its answer."""


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked; `path` is the target as sent, query included."""

    method: str
    path: str
    body: bytes
    accept: str = ""


@dataclass(frozen=True, slots=True)
class Response:
    """What is answered; the length is added."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, status: int, value: object) -> Response:
        return cls(status, orjson.dumps(value), {"content-type": "application/json"})


Handle = Callable[[Request], Awaitable[Response]]
Idle: TypeAlias = "dict[_Conversation, anyio.CancelScope]"  # who wants nothing now, longest first


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a door lets in: connections at the same time (for one more, who has been idle longest
    is sent away), seconds for a request and for reading its answer, bytes of a body."""

    connections_max: int = CONNECTIONS_MAX
    idle_seconds: float = IDLE_SECONDS
    body_bytes_max: int = BODY_BYTES_MAX


class Server:
    """Serves one handler. The peer's user must be ours (or root), whatever the file's mode says."""

    def __init__(self, path: Path, handle: Handle) -> None:
        self._path = path
        self._door = Door(handle, Bounds(), _peer_allowed)
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

    def close(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            with contextlib.suppress(OSError):
                self._path.unlink()


class Door:
    """Answers whoever comes by a socket that listens, within bounds. `allowed` says who may."""

    def __init__(
        self, handle: Handle, bounds: Bounds, allowed: Callable[[socket.socket], bool]
    ) -> None:
        self._handle = handle
        self._bounds = bounds
        self._allowed = allowed
        self._places = anyio.Semaphore(bounds.connections_max)
        self._idle: Idle = {}

    async def serve(self, listener: socket.socket) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        async with anyio.create_task_group() as tasks:
            while True:
                try:
                    connection, _ = await loop.sock_accept(listener)
                except OSError:  # no descriptor is left, or who came has gone
                    await anyio.sleep(PLACE_SECONDS)
                    continue
                try:
                    await self._find_place()
                except BaseException:
                    connection.close()
                    raise
                tasks.start_soon(self._converse, connection, name="api connection")

    async def _find_place(self) -> None:
        while True:
            if self._places.value == 0 and self._idle:
                next(iter(self._idle.values())).cancel()
            with anyio.move_on_after(PLACE_SECONDS):
                await self._places.acquire()
                return

    async def _converse(self, connection: socket.socket) -> None:
        try:
            connection.setblocking(False)
            if self._allowed(connection):
                with contextlib.suppress(OSError, h11.RemoteProtocolError):
                    talk = _Conversation(connection, self._handle, self._bounds, self._idle)
                    await talk.run()
        finally:
            connection.close()
            self._places.release()


class _Conversation:
    """One connection: requests one after another, until either side has enough."""

    def __init__(
        self, connection: socket.socket, handle: Handle, bounds: Bounds, idle: Idle
    ) -> None:
        self._socket = connection
        self._handle = handle
        self._bounds = bounds
        self._idle = idle
        self._asks_for_body = True
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=16 * 1024)
        self._loop = asyncio.get_running_loop()

    async def run(self) -> None:
        while True:
            with anyio.move_on_after(self._bounds.idle_seconds) as waiting:
                self._idle[self] = waiting
                try:
                    request = await self._request()
                except h11.RemoteProtocolError as error:
                    await self._refuse(400, str(error))
                    return
                finally:
                    self._idle.pop(self, None)
            if waiting.cancelled_caught or request is None:
                return
            response = request if isinstance(request, Response) else await self._handle(request)
            with anyio.move_on_after(self._bounds.idle_seconds) as sending:
                await self._answer(response)
            if sending.cancelled_caught or self._http.our_state is not h11.DONE:
                return
            if self._http.their_state is not h11.DONE:
                return
            self._http.start_next_cycle()

    async def _request(self) -> Request | Response | None:
        head: h11.Request | None = None
        body = bytearray()
        while True:
            match event := self._http.next_event():
                case h11.NEED_DATA:
                    if self._http.they_are_waiting_for_100_continue:
                        await self._send(h11.InformationalResponse(status_code=100, headers=[]))
                    self._http.receive_data(await self._loop.sock_recv(self._socket, 65536))
                case h11.Request():
                    head = event
                    self._asks_for_body = event.method != b"HEAD"
                case h11.Data():
                    body += event.data
                    if len(body) > (most := self._bounds.body_bytes_max):
                        return Response.json(413, {"error": f"body over {most} bytes"})
                case h11.EndOfMessage():
                    assert head is not None
                    accept = b",".join(value for name, value in head.headers if name == b"accept")
                    words = (part.decode("latin-1") for part in (head.method, head.target, accept))
                    method, path, accepted = words
                    return Request(method, path, bytes(body), accepted)
                case _:  # closed
                    return None

    async def _answer(self, response: Response) -> None:
        headers = [(name, value) for name, value in response.headers.items()]
        headers.append(("content-length", str(len(response.body))))
        head = h11.Response(status_code=response.status, headers=headers)
        body = [h11.Data(data=response.body)] if self._asks_for_body else []
        await self._send(head, *body, h11.EndOfMessage())

    async def _refuse(self, status: int, reason: str) -> None:
        if self._http.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            with anyio.move_on_after(1):
                await self._answer(Response.json(status, {"error": reason}))

    async def _send(self, *events: h11.Event) -> None:
        data = b"".join(self._http.send(event) or b"" for event in events)
        await self._loop.sock_sendall(self._socket, data)


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
