"""HTTP/1.1 on an address where stores post what has happened: one desk a path."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from streamfaas.api.addresses import Listener
from streamfaas.api.server import PLAIN, Bounds, Door, Request, Response
from streamfaas.wire.inbound import Answer, Desk, Head

BOUNDS = Bounds(connections_max=256, idle_seconds=30.0, streams_max=0)
WAITING_MAX = 1_024
"""Connections that wait to be taken."""

Find: TypeAlias = Callable[[str], Desk | Answer]
"""The desk of a path, or what is answered where there is none."""


def webhooks(address: str, find: Find) -> Listener:
    """Gives each request to the desk of its path. Who asks is judged by the head alone: a body that
    nobody wants is not read."""

    def found(request: Request) -> tuple[Head, Desk | Answer]:
        path, _, query = request.path.partition("?")
        return Head(request.method, query, request.headers), find(path)

    def admit(request: Request) -> Response | int:
        head, desk = found(request)
        admitted = desk if isinstance(desk, Answer) else desk.admit(head)
        return _response(admitted) if isinstance(admitted, Answer) else admitted

    async def handle(request: Request) -> Response:
        head, desk = found(request)
        if isinstance(desk, Answer):  # it has gone while the body came
            return _response(desk)
        return _response(await desk.take(head, request.body))

    return Listener(
        address,
        Door(handle, BOUNDS, admit=admit),
        waiting_max=WAITING_MAX,
        code="webhook-listen",
        asked="functions.….triggers.….listen",
    )


def _response(answer: Answer) -> Response:
    headers = dict(PLAIN)
    if answer.again is not None:
        headers["retry-after"] = str(answer.again)
    if answer.allow:
        headers["allow"] = answer.allow
    return Response(answer.status, f"{answer.told}\n".encode() if answer.told else b"", headers)
