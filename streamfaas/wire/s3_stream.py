"""MinIO's ListenNotification: a request whose answer never ends, and tells a bucket's events."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from urllib.parse import quote, urlencode

import aiohttp

from streamfaas.flow.errors import Gone, Refused, Unreachable, WorldError
from streamfaas.wire import aws
from streamfaas.wire.aws import AwsAccess
from streamfaas.wire.http import security

CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 30.0
"""The stream is kept alive every half second: one that is silent for so long is dead."""

LINE_BYTES_MAX = 1 << 20
"""Of one line: a record is about one kilobyte."""

_TOLD_BYTES = 2_000


@asynccontextmanager
async def listening(
    access: AwsAccess, url: str, filters: Iterable[tuple[str, str]]
) -> AsyncIterator[AsyncIterator[bytes]]:
    """Lines as they come, without those that keep the stream alive. Errors are `WorldError`s:
    `Refused` where a store does not speak this."""
    asked = f"{url}?{urlencode(sorted(filters), quote_via=quote)}"
    headers = await aws.signed("s3", access, asked)
    limits = aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS)
    connector = aiohttp.TCPConnector(ssl=security(access.ca))
    async with aiohttp.ClientSession(
        connector=connector, timeout=limits, auto_decompress=False
    ) as session:
        try:
            async with session.get(asked, headers=headers, allow_redirects=False) as answer:
                if answer.status != 200:
                    raise _refused(url, answer.status, await answer.content.read(_TOLD_BYTES))
                yield _lines(url, await _begun(url, answer.content), answer.content)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            told = " ".join(str(error).split()) or "it is silent"
            raise Unreachable(f"listening to {url}: {told}") from error


async def _begun(url: str, content: aiohttp.StreamReader) -> bytes:
    """What comes first: a space, if nothing happens. Before that it is not known whether the store
    understands what it is asked for."""
    first = await content.readany()
    if first.lstrip().startswith(b"<"):
        raise Refused(
            f"{url}: the store answers a listing: it does not know MinIO's ListenNotification"
        )
    return first


async def _lines(url: str, chunk: bytes, content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    held = b""
    while chunk:
        *whole, held = (held + chunk).split(b"\n")
        held = held.lstrip()  # spaces keep the stream alive
        for line in whole:
            if line := line.strip():
                yield line
        if len(held) > LINE_BYTES_MAX:
            raise Refused(f"{url}: a line of its events is over {LINE_BYTES_MAX} bytes")
        chunk = await content.readany()
    raise Unreachable(f"listening to {url}: the store has ended the stream")


def _refused(url: str, status: int, body: bytes) -> WorldError:
    text = f"listening to {url}: HTTP {status}" + (f": {told}" if (told := _said(body)) else "")
    if status == 404:
        return Gone(text)
    return Unreachable(text) if status >= 500 and status != 501 else Refused(text)


def _said(body: bytes) -> str:
    """The error alone: what names the request is another one each time."""
    text = " ".join(body.decode(errors="replace").split())
    parts = (found.strip() for found in re.findall("<(?:Code|Message)>([^<]*)", text))
    return (": ".join(filter(None, parts)) or text)[:300]
