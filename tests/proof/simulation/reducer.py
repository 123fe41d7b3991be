"""A function that keeps in the state of a window which records it has seen, and who looks at it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

import orjson

from proof.ledgers import LeftOpen, Pane, Parting
from proof.simulation.broker import Broker
from proof.simulation.world import TOPIC, World
from streamfaas.flow.record import Lane
from streamfaas.flow.window import STATE_BYTES_MAX


def pane_of(event: Mapping[str, Any] | list[Any]) -> Pane | None:
    """What an event tells of its window, if it is in one."""
    if not isinstance(event, Mapping) or "window" not in event:
        return None
    window, state = event["window"], event["state"]
    return Pane(
        start_ms=_ms(window["start"]),
        end_ms=_ms(window["end"]),
        seen=tuple(state.get("seen", ())),
        after=state.get("by", ""),
        size=len(orjson.dumps(state)),
        final=event["isFinalInvokeForWindow"],
        early=event["isWindowTerminatedEarly"],
    )


def _ms(moment: str) -> int:
    return round(datetime.fromisoformat(moment).timestamp() * 1000)


def state_after(pane: Pane, done: Iterable[int], execution: str, *, bulky: bool) -> dict[str, Any]:
    """What the function hands on that has done these offsets."""
    state = {"seen": [*pane.seen, *done], "by": execution}
    return state | {"large": "x" * STATE_BYTES_MAX} if bulky else state


def parting_of(at: float, document: Mapping[str, Any]) -> Parting | None:
    """A document about the last invocation in a window, if it is one."""
    payload = document.get("payload") or document.get("requestPayload") or {}
    pane = pane_of(payload)
    if pane is None or not pane.final:
        return None
    number = int(payload["shardId"].rpartition("-")[2])
    condition = document["requestContext"]["condition"]
    return Parting(at, TOPIC, number, pane.window, pane.seen, condition)


def open_windows(world: World) -> Iterator[tuple[int, Lane, tuple[int, ...]]]:
    """What stands on the machines' disks: whose, of which lane, and what is in the state."""
    query = "SELECT mapping, lane, state FROM windows WHERE start_ms IS NOT NULL"
    for slot, drive in world.stores.items():
        connection: sqlite3.Connection = drive.connection
        for mapping, lane, state in connection.execute(query):
            yield slot, Lane(mapping, lane), tuple(orjson.loads(state).get("seen", ()))


def reads(world: World, slot: int, lane: Lane) -> bool:
    """Whether a machine is to go on with a lane, or nobody is known to be."""
    backing = world.backing
    return not isinstance(backing, Broker) or backing.reader(lane) in {slot, None}


def all_ended(world: World) -> bool:
    """No window is open any more where its lane is read."""
    return not any(reads(world, slot, lane) for slot, lane, _ in open_windows(world))


def left_open(world: World) -> list[LeftOpen]:
    return [
        LeftOpen(TOPIC, world.partition(lane), seen)
        for slot, lane, seen in open_windows(world)
        if not reads(world, slot, lane)
    ]
