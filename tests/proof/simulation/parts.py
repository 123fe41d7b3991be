"""What a daemon is put together from. A planted fault is another choice of one of these."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from proof.simulation.broker import Broker
from proof.simulation.mailbox import Mailbox
from proof.simulation.messages import Messages
from proof.simulation.queue import Queue, Tray
from proof.simulation.service import Service
from proof.simulation.shards import Shards
from proof.simulation.shelf import Sender, Shelf
from proof.simulation.stream import Stream
from proof.simulation.workers import Workers
from proof.simulation.world import Process
from streamfaas.engine.lane import Dispatch, LanePolicy
from streamfaas.engine.mapping import Mapping
from streamfaas.store.outbox import Outbox
from streamfaas.store.windows import Windows


@dataclass(frozen=True, slots=True)
class Parts:
    """The real engine, and the simulated world's ends of it."""

    mapping: type[Mapping] = Mapping
    stream: Callable[[Process, Broker], Any] = Stream
    tray: Callable[[Process, Queue], Any] = Tray
    shards: Callable[[Process, Service], Any] = Shards
    messages: Callable[[Process, Mailbox], Any] = Messages
    workers: Callable[[Process], Dispatch] = Workers
    sender: Callable[[Process, Shelf], Any] = Sender
    outbox: Callable[..., Any] = Outbox
    windows: Callable[..., Any] = Windows
    policy: Callable[[LanePolicy], LanePolicy] = lambda asked: asked


REAL = Parts()
