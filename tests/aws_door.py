"""A door before a server that fails on command: what it lets through is the server's own."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
from aiohttp import web

RESET = "reset"
"""In place of an error's name: the connection is cut before there is an answer."""

TORN = "torn"
"""… or in the middle of it."""


@dataclass
class Door:
    """`next` has, by operation, what becomes of the next requests: an error's name, RESET or TORN;
    whatever is beyond that is let through. `asked` counts requests."""

    behind: Any  # with an `url`
    url: str = ""
    asked: Counter[str] = field(default_factory=Counter)
    next: dict[str, deque[str]] = field(default_factory=dict)

    @property
    def server(self) -> Any:
        """The server as it is seen through the door."""
        return replace(self.behind, url=self.url)

    def fail(self, operation: str, *faults: str) -> None:
        self.next.setdefault(operation, deque()).extend(faults)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        operation = request.headers.get("X-Amz-Target", "").partition(".")[2]
        self.asked[operation] += 1
        body = await request.read()
        waiting = self.next.get(operation)
        fault = waiting.popleft() if waiting else ""
        if fault == RESET:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if fault and fault != TORN:
            status = 500 if fault == "InternalFailure" else 400
            told = json.dumps({"__type": fault, "message": "as was asked for"})
            return web.Response(status=status, text=told, content_type="application/x-amz-json-1.1")
        headers = {
            name: value
            for name, value in request.headers.items()
            if name.lower() not in {"host", "content-length", "connection"}
        }
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.behind.url + "/", data=body, headers=headers) as answer,
        ):
            whole = await answer.read()
            kind = answer.headers.get("Content-Type", "application/json")
            if fault == TORN:
                torn = web.StreamResponse(headers={"Content-Type": kind})
                torn.content_length = len(whole)
                await torn.prepare(request)
                await torn.write(whole[: len(whole) // 2])
                assert request.transport is not None
                request.transport.abort()
                return torn
            return web.Response(
                status=answer.status,
                body=whole,
                headers={"Content-Type": kind, "Date": answer.headers.get("Date", "")},
            )


@asynccontextmanager
async def door(server: Any) -> AsyncIterator[Door]:
    """One that is open, on loopback."""
    made = Door(server)
    app = web.Application(client_max_size=64 << 20)
    app.router.add_post("/", made.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield made
    finally:
        await runner.cleanup()
