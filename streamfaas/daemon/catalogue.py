"""What the daemon answers about what was put aside."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import parse_qsl, unquote

import orjson
from pydantic import BaseModel, Field, ValidationError

from streamfaas.api.server import Request, Response
from streamfaas.flow.errors import StoreError
from streamfaas.flow.letters import Letter
from streamfaas.store.intents import Intent
from streamfaas.store.outbox import LIST_MAX, Outbox
from streamfaas.telemetry.signals import DaemonStepped, Emit

LIST_DEFAULT = 100


class Catalogue:
    """Routes: `GET /dlq?mapping=&limit=&before=`, `GET /dlq/<id>`, `POST /dlq/purge` with
    `ids`, `mapping`, `older_than_seconds` and `force`."""

    def __init__(
        self, outbox: Outbox, *, emit: Emit, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._outbox = outbox
        self._emit = emit
        self._wall_clock = wall_clock

    async def handle(self, request: Request) -> Response:
        path, _, query = request.path.partition("?")
        try:
            match request.method, path.split("/")[2:]:
                case "GET", []:
                    asked = dict(parse_qsl(query, keep_blank_values=True))
                    return await self._list(_Listing.model_validate(asked))
                case "POST", ["purge"]:
                    return await self._purge(_Purging.model_validate_json(request.body))
                case "GET", [id_]:
                    return await self._show(unquote(id_))
                case _:
                    return Response.json(405, {"error": f"{request.method} is not for {path}"})
        except ValidationError as error:
            return Response.json(400, {"error": _told(error)})
        except StoreError as error:
            return Response.json(503, {"error": error.line})

    async def _list(self, asked: _Listing) -> Response:
        made_ms, _, id_ = asked.before.partition(".")
        before = (int(made_ms), id_) if asked.before else None
        found = await self._outbox.list(asked.mapping, limit=asked.limit, before=before)
        last = f"{found[-1].made_ms}.{found[-1].id}" if len(found) == asked.limit else None
        return Response.json(200, {"entries": list(map(_entry, found)), "next": last})

    async def _show(self, id_: str) -> Response:
        found = await self._outbox.show(id_)
        if found is None:
            return Response.json(404, {"error": f"there is no entry {id_!r}"})
        event = None if found.event is None else _embedded(found.event)
        letters = list(map(_letter, found.letters))
        return Response.json(200, {**_entry(found), "event": event, "letters": letters})

    async def _purge(self, asked: _Purging) -> Response:
        age, older = asked.older_than_seconds, None
        if age is not None:
            older = int((self._wall_clock() - age) * 1000)
        elif asked.ids is None and asked.mapping is None:
            told = "which ones? give ids, mapping or older_than_seconds"
            return Response.json(400, {"error": told})
        count = await self._outbox.purge(
            ids=asked.ids, mapping=asked.mapping, older_than_ms=older, force=asked.force
        )
        if count:
            self._emit(DaemonStepped("catalogue purged", f"{count} entries, as was asked"))
        return Response.json(200, {"purged": count})


class _Listing(BaseModel, extra="forbid"):
    """`before` is what an earlier list gave as `next`."""

    mapping: str | None = None
    limit: Annotated[int, Field(ge=1, le=LIST_MAX)] = LIST_DEFAULT
    before: Annotated[str, Field(pattern=r"^([0-9]{1,15}\..+)?$")] = ""


class _Purging(BaseModel, extra="forbid", strict=True):
    ids: list[str] | None = None
    mapping: str | None = None
    older_than_seconds: Annotated[float, Field(ge=0, le=1e9)] | None = None
    force: bool = False


def _told(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else first["msg"]


def _entry(intent: Intent) -> dict[str, Any]:
    return {
        "id": intent.id,
        "mapping": intent.mapping,
        "lane": intent.lane,
        "ranges": intent.ranges,
        "records": intent.count,
        "kind": intent.kind,
        "condition": intent.condition,
        "state": intent.state,
        "destination": intent.destination,
        "made_ms": intent.made_ms,
        "hops": intent.hops,
        "replays": intent.replays,
        "bytes": intent.stored_bytes,
    }


def _letter(letter: Letter) -> dict[str, Any]:
    key = None if letter.key is None else letter.key.decode("utf-8", "backslashreplace")
    return {
        "id": letter.id,
        "key": key,
        "attributes": {each.name: each.value for each in letter.attributes},
        "document": _embedded(letter.document),
    }


def _embedded(data: bytes) -> object:
    """JSON as it is, anything else as a text."""
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError:
        return data.decode("utf-8", "backslashreplace")
    return orjson.Fragment(data)
