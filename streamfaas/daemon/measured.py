"""What the daemon answers to whoever measures it, or asks whether it lives and is ready."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from streamfaas.api.probes import Answer
from streamfaas.api.server import PLAIN, Request, Response
from streamfaas.telemetry.console import printable
from streamfaas.telemetry.exposition import OPENMETRICS, exposition, wanted
from streamfaas.telemetry.metrics import Metrics
from streamfaas.telemetry.process import usage

if TYPE_CHECKING:
    from streamfaas.daemon.main import Daemon

PATIENCE_SECONDS = 15.0
"""A source that ran may be away for so long before nothing is expected of the daemon: who asks
again and again must not be told of each blip."""

REASONS_MAX = 100
"""Triggers that an answer names."""


def routes(daemon: Daemon, metrics: Metrics) -> Mapping[str, Answer]:
    """Each is answered at once, by what is so at this moment: one view, taken between two steps
    of everything else, so that its numbers belong together."""

    def measured(request: Request) -> Response:
        kind = wanted(request.accept)
        view = {**daemon.view(), "process": usage()}
        body = exposition(metrics.registry, view, openmetrics=kind == OPENMETRICS)
        return Response(200, body, {"content-type": kind})

    return {
        "/metrics": measured,
        "/livez": lambda _request: Response(200, b"ok\n", PLAIN),  # the loop moves, or nobody says
        "/readyz": lambda _request: _answer(unready(daemon.view())),
        "/startupz": lambda _request: _answer(
            () if daemon.life.ready.is_set() else ("the daemon is starting",)
        ),
    }


def unready(view: Mapping[str, Any]) -> tuple[str, ...]:
    """Why nothing should be expected of a daemon that looks like that; nothing if it is ready."""
    if view["state"] in {"starting", "draining"}:
        return (f"the daemon is {view['state']}",)
    return tuple(
        f"{name} is {trigger['state']}: {_why(trigger)}"
        for name, trigger in view["triggers"].items()
        # one that has only begun (the first asynchronous invocation of a function) is given time,
        # and one that is paused is as it should be
        if trigger["connected"] and (_blocked(trigger) or _is_away(trigger))
    )


def _blocked(trigger: Mapping[str, Any]) -> tuple[str, ...]:
    """Lanes that go no further, and why. What a queue keeps for later by itself (a message, a key)
    is none: nothing waits for it, and the queue may have moved it elsewhere by now."""
    return tuple(
        f"{lane['name']}: {lane['reason']}"
        for lane in trigger["lanes"]
        if trigger["state"] == lane["state"] == "blocked" and not lane["by_key"]
    )


def _is_away(trigger: Mapping[str, Any]) -> bool:
    """The source has never run, or not for some time."""
    seconds = trigger["unwell_seconds"]
    patient = seconds is not None and seconds < PATIENCE_SECONDS
    return trigger["state"] in {"connecting", "degraded"} and not patient


def _why(trigger: Mapping[str, Any]) -> str:
    return next(iter(_blocked(trigger)), trigger["reason"] or "no reason is known")


def _answer(reasons: tuple[str, ...]) -> Response:
    if not reasons:
        return Response(200, b"ok\n", PLAIN)
    lines = [printable(reason) for reason in reasons[:REASONS_MAX]]
    if len(reasons) > REASONS_MAX:
        lines.append(f"and {len(reasons) - REASONS_MAX} more")
    text = "\n".join(lines) + "\n"
    return Response(503, text.encode("utf-8", "backslashreplace"), PLAIN)
