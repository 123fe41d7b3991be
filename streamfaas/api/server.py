"""HTTP/1.1 for whoever comes by a socket that listens, within bounds."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import anyio
import h11
import orjson

BODY_BYTES_MAX = 6 * 1024 * 1024
CONNECTIONS_MAX = 64
"""Connections at the same time. For one more, who has been idle longest is sent away."""

PATIENCE_SECONDS = 0.25
"""Whoever came so shortly ago is about to ask, and is not sent away for another."""

PLACE_SECONDS = 0.5
"""How often an idle one is looked for while all places are taken."""

IDLE_SECONDS = 30.0
"""How long a client may take for a request, and for reading its answer."""

STREAMS_MAX = 16
"""Streams at the same time, which have places of their own: who listens keeps nobody out."""

STREAM_SECONDS = 300.0
"""How long who listens to a stream may read nothing of what was sent to him."""

HEARD_SECONDS = 1.0
HEARD_BYTES = 16 * 1024 * 1024
"""So much is read of a body that nobody wants, so that the answer to it is."""


PLAIN: Mapping[str, str] = {"content-type": "text/plain; charset=utf-8"}
JSON: Mapping[str, str] = {"content-type": "application/json"}
LINES: Mapping[str, str] = {"content-type": "application/jsonl"}
"""Of a stream of JSON values, each in a line; lines without any keep it alive."""


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked; `path` is the target as sent, query included. Names of `headers` are in small
    letters; of those that came more than once there is the last."""

    method: str
    path: str
    body: bytes
    accept: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


class Stream(Protocol):
    """A body that is told bit by bit, in chunks, for as long as somebody listens; an asynchronous
    generator is one. What it holds while nobody reads, it must bound itself. It is closed by who
    tells it, also where it was never begun."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def __anext__(self) -> bytes: ...

    async def aclose(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Response:
    """What is answered; the length is added, where there is one."""

    status: int
    body: bytes | Stream = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, status: int, value: object) -> Response:
        return cls(status, orjson.dumps(value), JSON)


Handle = Callable[[Request], Awaitable[Response]]
Admit = Callable[[Request], Response | int]
"""Judges who asks by the head alone, before a body is read: an answer, or how many bytes of a body
may follow."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a door lets in: connections at the same time (for one more, who has been idle longest
    is sent away), seconds for a request and for reading its answer, bytes of a body, streams."""

    connections_max: int = CONNECTIONS_MAX
    idle_seconds: float = IDLE_SECONDS
    body_bytes_max: int = BODY_BYTES_MAX
    streams_max: int = STREAMS_MAX
    stream_seconds: float = STREAM_SECONDS


class Door:
    """Answers whoever comes by a socket that listens, within bounds. `allowed` says who may."""

    def __init__(
        self,
        handle: Handle,
        bounds: Bounds,
        allowed: Callable[[socket.socket], bool] = lambda _connection: True,
        *,
        admit: Admit | None = None,
    ) -> None:
        self._handle = handle
        self._bounds = bounds
        self._allowed = allowed
        self._admit = admit or (lambda _request: bounds.body_bytes_max)
        self._places = _Places(bounds)

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
                    await self._places.find()
                except BaseException:
                    connection.close()
                    raise
                tasks.start_soon(self._converse, connection, name="api connection")

    async def finish(self, seconds: float) -> None:
        """Waits until no stream is told any more, so long at most."""
        with anyio.move_on_after(seconds):
            while self._places.streams:
                self._places.left.clear()
                await self._places.left.wait()

    async def _converse(self, connection: socket.socket) -> None:
        talk = _Conversation(connection, self._handle, self._admit, self._bounds, self._places)
        try:
            connection.setblocking(False)
            if self._allowed(connection):
                with contextlib.suppress(OSError, h11.RemoteProtocolError):
                    await talk.run()
        finally:
            connection.close()
            self._places.leave(talk)


class _Places:
    """Who is in: those that talk, and those that listen to a stream, which has places apart."""

    def __init__(self, bounds: Bounds) -> None:
        self._free = anyio.Semaphore(bounds.connections_max)
        self._streams_max = bounds.streams_max
        self._idle_seconds = bounds.idle_seconds
        self.idle: dict[_Conversation, anyio.CancelScope] = {}  # wants nothing now, longest first
        self.streams: set[_Conversation] = set()
        self.left = asyncio.Event()
        """Set when a stream has ended."""

    async def find(self) -> None:
        """Waits until there is a place for one more that talks."""
        while True:
            longest = next(iter(self.idle.values()), None)
            if self._free.value == 0 and longest is not None:
                since = longest.deadline - self._idle_seconds
                if anyio.current_time() - since >= PATIENCE_SECONDS:
                    longest.cancel()
            with anyio.move_on_after(PLACE_SECONDS):
                await self._free.acquire()
                return

    def move(self, talk: _Conversation) -> bool:
        """One that talked will listen; not so where there is no place for that."""
        if len(self.streams) >= self._streams_max:
            return False
        self.streams.add(talk)
        self._free.release()
        return True

    def leave(self, talk: _Conversation) -> None:
        if talk in self.streams:
            self.streams.remove(talk)
            self.left.set()
        else:
            self._free.release()


class _Conversation:
    """One connection: requests one after another, until either side has enough; or until one of
    them is answered by a stream."""

    def __init__(
        self,
        connection: socket.socket,
        handle: Handle,
        admit: Admit,
        bounds: Bounds,
        places: _Places,
    ) -> None:
        self._socket = connection
        self._handle = handle
        self._admit = admit
        self._bounds = bounds
        self._places = places
        self._asks_for_body = True
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=16 * 1024)
        self._loop = asyncio.get_running_loop()

    async def run(self) -> None:
        while True:
            with anyio.move_on_after(self._bounds.idle_seconds) as waiting:
                self._places.idle[self] = waiting
                try:
                    request = await self._request()
                except h11.RemoteProtocolError as error:
                    await self._refuse(400, str(error))
                    await self._hear_out()
                    return
                finally:
                    self._places.idle.pop(self, None)
            if waiting.cancelled_caught or request is None:
                return
            response = request if isinstance(request, Response) else await self._handle(request)
            if not isinstance(response.body, bytes):
                await self._stream(response, response.body)
                return
            with anyio.move_on_after(self._bounds.idle_seconds) as sending:
                await self._answer(response, response.body)
            if sending.cancelled_caught:
                return
            if self._http.their_state is h11.SEND_BODY:
                await self._hear_out()
            if self._http.states != {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}:
                return
            self._http.start_next_cycle()

    async def _request(self) -> Request | Response | None:
        head: Request | None = None
        body, most = bytearray(), 0
        while True:
            match event := self._http.next_event():
                case h11.NEED_DATA:
                    if self._http.they_are_waiting_for_100_continue:
                        await self._send(h11.InformationalResponse(status_code=100, headers=[]))
                    self._http.receive_data(await self._loop.sock_recv(self._socket, 65536))
                case h11.Request():
                    self._asks_for_body = event.method != b"HEAD"
                    head = _request(event)
                    admitted = self._admitted(head)
                    if isinstance(admitted, Response):
                        return admitted
                    most = admitted
                case h11.Data():
                    body += event.data
                    if len(body) > most:
                        return _too_long(most)
                case h11.EndOfMessage():
                    assert head is not None
                    return replace(head, body=bytes(body))
                case _:  # closed
                    return None

    def _admitted(self, head: Request) -> Response | int:
        """Why its body is not read, or how long it may be."""
        if head.headers.keys() >= _LENGTHS:  # a proxy in front may go by the other one
            return Response.json(400, {"error": "two lengths of one body"})
        most = self._admit(head)
        if isinstance(most, int) and int(head.headers.get("content-length", 0)) > most:
            return _too_long(most)
        return most

    async def _answer(self, response: Response, whole: bytes) -> None:
        headers = [(name, value) for name, value in response.headers.items()]
        headers.append(("content-length", str(len(whole))))
        if self._http.their_state in {h11.SEND_BODY, h11.ERROR}:
            headers.append(("connection", "close"))
        head = h11.Response(status_code=response.status, headers=headers)
        body = [h11.Data(data=whole)] if self._asks_for_body else []
        await self._send(head, *body, h11.EndOfMessage())

    async def _stream(self, response: Response, body: Stream) -> None:
        """Tells it until it ends, or who listens goes or reads nothing for very long."""
        try:
            if not self._places.move(self):
                await self._refuse(503, "too many listen already: end another stream first")
                return
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._until_gone, tasks.cancel_scope, name="api listener")
                with contextlib.suppress(OSError):
                    await self._tell(response, body)
                tasks.cancel_scope.cancel()
        finally:
            await body.aclose()

    async def _tell(self, response: Response, body: Stream) -> None:
        head = h11.Response(status_code=response.status, headers=list(response.headers.items()))
        await self._send(head)
        if self._asks_for_body:
            async for data in body:
                with anyio.move_on_after(self._bounds.stream_seconds) as sending:
                    await self._send(h11.Data(data=data))
                if sending.cancelled_caught:
                    return
        await self._send(h11.EndOfMessage())

    async def _until_gone(self, telling: anyio.CancelScope) -> None:
        """Whatever else is said meanwhile is not heard."""
        with contextlib.suppress(OSError):
            while await self._loop.sock_recv(self._socket, 4096):
                pass
        telling.cancel()

    async def _hear_out(self) -> None:
        """A connection that is closed while something is unread may lose the answer that was sent:
        some of it is read, for nothing."""
        with anyio.move_on_after(HEARD_SECONDS), contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
            left = HEARD_BYTES
            while left > 0 and (data := await self._loop.sock_recv(self._socket, 65536)):
                left -= len(data)

    async def _refuse(self, status: int, reason: str) -> None:
        if self._http.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            with anyio.move_on_after(1):
                body = orjson.dumps({"error": reason})
                await self._answer(Response(status, headers=JSON), body)

    async def _send(self, *events: h11.Event) -> None:
        data = b"".join(self._http.send(event) or b"" for event in events)
        await self._loop.sock_sendall(self._socket, data)


_LENGTHS = {"content-length", "transfer-encoding"}


def _request(head: h11.Request) -> Request:
    """Without its body."""
    accept = b",".join(value for name, value in head.headers if name == b"accept")
    words = (part.decode("latin-1") for part in (head.method, head.target, accept))
    method, path, accepted = words
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
    return Request(method, path, b"", accepted, headers)


def _too_long(most: int) -> Response:
    return Response.json(413, {"error": f"body over {most} bytes"})
