"""What MinIO's ListenNotification answers, as documented: there is no MinIO to be had.

One JSON document a line, a single space each half second in between, no end. Signatures are not
checked; what was asked is kept, for tests to look at.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

KEEP_ALIVE_SECONDS = 0.05
"""Of MinIO, ten times as long."""


@dataclass(slots=True)
class MinioStream:
    """`asked` are heads of requests. `refuse` answers the next ones, if it is given."""

    port: int = 0
    refuse: bytes = b""
    asked: list[str] = field(default_factory=list)
    listeners: list[asyncio.StreamWriter] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def tell(self, *parts: bytes) -> None:
        """Sends bytes to whoever listens, each part a chunk of its own."""
        for writer in self.listeners:
            for part in parts:
                writer.write(b"%x\r\n%s\r\n" % (len(part), part))

    def cut(self) -> None:
        """Ends all streams, without a word."""
        for writer in self.listeners:
            writer.transport.abort()
        self.listeners.clear()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            self.asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
            if self.refuse:
                writer.write(self.refuse)
                await writer.drain()
            else:
                await self._stream(writer)
        writer.close()

    async def _stream(self, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        self.listeners.append(writer)
        while not writer.is_closing():
            writer.write(b"1\r\n \r\n")
            await asyncio.sleep(KEEP_ALIVE_SECONDS)


@asynccontextmanager
async def minio_stream() -> AsyncIterator[MinioStream]:
    stream = MinioStream()
    server = await asyncio.start_server(stream.serve, "127.0.0.1", 0)
    stream.port = server.sockets[0].getsockname()[1]
    async with server:
        try:
            yield stream
        finally:
            stream.cut()
            await asyncio.sleep(2 * KEEP_ALIVE_SECONDS)
