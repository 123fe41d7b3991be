"""HTTP/1.1 on an address of its own, for whoever measures or asks whether we live: GET only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from streamfaas.api.addresses import Listener
from streamfaas.api.server import PLAIN, Bounds, Door, Request, Response

BOUNDS = Bounds(connections_max=16, idle_seconds=10.0, body_bytes_max=0)
WAITING_MAX = 64
"""Connections that wait to be taken."""

Answer: TypeAlias = Callable[[Request], Response]


def probes(address: str, routes: Mapping[str, Answer]) -> Listener:
    """Answers the routes it is given, and nothing else: 405 for what is no GET, 404 for what is no
    route. Who asks, and by what name of ours, makes no difference."""

    async def handle(request: Request) -> Response:
        if request.method != "GET":
            return Response(405, b"GET only\n", {**PLAIN, "allow": "GET"})
        answer = routes.get(request.path.partition("?")[0])
        if answer is None:
            return Response(404, f"there is {', '.join(routes)}\n".encode(), PLAIN)
        return answer(request)

    return Listener(
        address,
        Door(handle, BOUNDS),
        waiting_max=WAITING_MAX,
        code="metrics-listen",
        asked="telemetry.metrics.listen",
    )
