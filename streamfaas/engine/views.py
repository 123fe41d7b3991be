"""How the lanes of a mapping look to people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from streamfaas.engine.lane import LanePolicy, LaneRunner
from streamfaas.flow.record import Instant, Lane
from streamfaas.sources import Held, LaneView, SourceView


def lanes(
    runners: Mapping[Lane, LaneRunner], source: SourceView | None, now: Instant, *, paused: bool
) -> list[dict[str, Any]]:
    """Those that are run, and what a queue holds itself: by key, not by lane."""
    seen = {} if source is None else source.lanes
    blocked = {} if source is None else source.blocked
    held = {} if source is None else source.held
    unseen = LaneView()
    found = [
        _running(runner, seen.get(lane, unseen), blocked.get(lane, ""), now, paused=paused)
        for lane, runner in sorted(runners.items())
    ]
    found += [_held(lane, each, now, blocked=lane in blocked) for lane, each in held.items()]
    found += [
        _held(lane, Held(0, why, None), now, blocked=True)
        for lane, why in blocked.items()
        if lane not in runners and lane not in held
    ]
    return found


def standing(
    state: str, reason: str, source: SourceView | None, lanes: Iterable[Mapping[str, Any]]
) -> tuple[str, str]:
    """The state of a mapping, and why: once it runs, that of its source, or of its worst lane."""
    if state != "running" or source is None:
        return state, reason
    if source.state != "running":
        return source.state, source.reason
    states = {lane["state"] for lane in lanes}
    for worse in ("blocked", "retrying"):
        if worse in states:
            return worse, reason
    return state, source.reason or reason


def policy(asked: LanePolicy) -> dict[str, Any]:
    """What is asked of the lanes."""
    return {
        "batch": asdict(asked.batch),
        "retries": asdict(asked.retry),
        "on_failure": asked.set_aside.name,
        "on_success": None if asked.on_success is None else asked.on_success.name,
        "dead_letter": None if asked.dead_letter is None else asked.dead_letter.name,
        "strands": asked.strands,
        "partial": asked.partial,
    }


def _running(
    runner: LaneRunner, seen: LaneView, blocked: str, now: Instant, *, paused: bool
) -> dict[str, Any]:
    status = runner.view()
    again_at = None if paused else status.again_at
    position = runner.status.position
    return {
        "name": runner.lane.name,
        "by_key": False,
        "state": "blocked" if blocked else status.state,
        "position": position if seen.position is None else seen.position,
        "lag": seen.lag,
        "age_seconds": runner.age_seconds,
        "held_records": runner.held_records,
        "held_bytes": runner.held_bytes,
        "window": None if runner.panes is None else runner.panes.view(),
        "in_flight": sum(strand.status.in_flight for strand in runner.strands),
        "held_up_by": status.held_up_by,
        "attempt": status.attempt,
        "reason": blocked or status.reason,
        "next_in_seconds": None if again_at is None else max(0.0, again_at - now),
    }


def _held(lane: Lane, held: Held, now: Instant, *, blocked: bool) -> dict[str, Any]:
    return {
        "name": lane.name,
        "by_key": True,
        "state": "blocked" if blocked else "retrying",
        "position": None,
        "lag": None,
        "age_seconds": None,
        "held_records": 0,
        "held_bytes": 0,
        "window": None,
        "in_flight": 0,
        "held_up_by": "",
        "attempt": held.attempt,
        "reason": held.reason,
        "next_in_seconds": None if held.at is None else max(0.0, held.at - now),
    }
