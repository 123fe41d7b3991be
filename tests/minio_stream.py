"""What MinIO's ListenNotification answers, as documented: there is no MinIO to be had. MinIO's own
client is the judge of it.

One JSON document a line, a single space each half second in between, no end. Signatures are not
checked; what was asked is kept, for tests to look at. All else that is asked goes to a real store,
where there is one behind.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import quote_plus, urlsplit

KEEP_ALIVE_SECONDS = 0.05
"""Of MinIO, ten times as long."""


@dataclass(slots=True)
class MinioStream:
    """`asked` are heads of requests. `refuse` answers the next ones, if it is given. `behind` is the
    address of the store that answers what is no listening."""

    behind: str = ""
    port: int = 0
    refuse: bytes = b""
    asked: list[str] = field(default_factory=list)
    listeners: list[asyncio.StreamWriter] = field(default_factory=list)
    serving: set[asyncio.Task[None]] = field(default_factory=set)

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

    async def close(self) -> None:
        """Ends what is answered at the moment too."""
        self.cut()
        for task in self.serving:
            task.cancel()
        await asyncio.gather(*self.serving, return_exceptions=True)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.serving.add(task)
        try:
            await self._answer(reader, writer)
        finally:
            writer.close()
            self.serving.discard(task)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            if self.refuse:
                self.asked.append(head.decode())
                writer.write(self.refuse)
                await writer.drain()
            elif self.behind and b"events=" not in head.partition(b"\r\n")[0]:
                await self._hand_on(head, writer)
            else:
                self.asked.append(head.decode())
                await self._stream(writer)

    async def _hand_on(self, head: bytes, writer: asyncio.StreamWriter) -> None:
        """A request without a body, and its answer as it comes."""
        place = urlsplit(self.behind)
        answering, asking = await asyncio.open_connection(place.hostname, place.port)
        alone = re.sub(rb"(?im)^connection:[^\n]*\n", b"", head)
        asking.write(alone.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
        try:
            while part := await answering.read(1 << 16):
                writer.write(part)
                await writer.drain()
        finally:
            asking.close()

    async def _stream(self, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        self.listeners.append(writer)
        while not writer.is_closing():
            writer.write(b"1\r\n \r\n")
            await asyncio.sleep(KEEP_ALIVE_SECONDS)


def line(
    bucket: str,
    key: str,
    name: str = "s3:ObjectCreated:Put",
    sequencer: str = "18A5B2C3D4E5F607",
    etag: str = "e",
    time: str = "2026-11-01T00:00:00.000Z",
) -> bytes:
    """As MinIO writes it."""
    described: dict[str, object] = {"key": quote_plus(key), "sequencer": sequencer}
    if "Created" in name:
        described |= {"size": 1, "eTag": etag, "contentType": "x", "userMetadata": {}}
    record = {
        "eventVersion": "2.0",
        "eventSource": "minio:s3",
        "awsRegion": "",
        "eventTime": time,
        "eventName": name,
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "Config",
            "bucket": {"name": bucket, "arn": f"arn:aws:s3:::{bucket}"},
            "object": described,
        },
        "source": {"host": "127.0.0.1", "port": "", "userAgent": "MinIO"},
    }
    return json.dumps({"Records": [record]}).encode() + b"\n"


@asynccontextmanager
async def minio_stream(behind: str = "") -> AsyncIterator[MinioStream]:
    stream = MinioStream(behind)
    server = await asyncio.start_server(stream.serve, "127.0.0.1", 0)
    stream.port = server.sockets[0].getsockname()[1]
    async with server:
        try:
            yield stream
        finally:
            await stream.close()
