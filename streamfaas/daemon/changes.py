"""What the daemon answers to whoever wants another configuration, or asks what it would change."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread
from pydantic import BaseModel, ValidationError

from streamfaas.api.server import Request, Response
from streamfaas.daemon.effects import effects
from streamfaas.daemon.loading import Invalid, load_text
from streamfaas.daemon.watching import CONFIG

if TYPE_CHECKING:
    from streamfaas.daemon.main import Daemon

STATUSES = {"reloaded": 200, "unchanged": 200, "invalid": 422, "refused": 409, "rolled back": 500}


class Changes:
    """Routes: `POST /reload`, which is answered once it is over; `POST /diff` with the `text` of a
    file and its `path`, where relative paths in it start from."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    async def handle(self, request: Request) -> Response:
        match request.method, request.path.partition("?")[0]:
            case "POST", "/reload":
                return await self._reload()
            case "POST", "/diff":
                return await self._differences(request.body)
            case _:
                return Response.json(405, {"error": f"{request.method} is not for {request.path}"})

    async def _reload(self) -> Response:
        told = await self._daemon.reloads.ask(CONFIG).wait()
        if told is None:
            return Response.json(503, {"error": "the daemon is stopping: nothing was reloaded"})
        return Response.json(STATUSES[told.state], {**told.view(), "error": told.reason})

    async def _differences(self, body: bytes) -> Response:
        try:
            asked = _Asked.model_validate_json(body)
        except ValidationError as error:
            return Response.json(400, {"error": str(error.errors(include_url=False)[0]["msg"])})
        running = self._daemon.loaded
        found = await anyio.to_thread.run_sync(load_text, asked.text, asked.path, running.environ)
        if isinstance(found, Invalid):
            return Response.json(422, {"error": found.reason, "report": found.report})
        meant = await anyio.to_thread.run_sync(
            effects,
            running.plan.config,
            found.plan.config,
            found.renewed_since(running),
            found.recoded_since(running),
        )
        waiting = await self._daemon.waiting()
        return Response.json(200, meant.view(meant.unclaimed(waiting)))


class _Asked(BaseModel, extra="forbid"):
    path: Path
    text: str
