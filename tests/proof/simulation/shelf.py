"""Where what was given up goes: a destination that is down, slow, deaf, or refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, ClassVar

import anyio
import orjson

from proof import ledgers
from proof.simulation.reducer import parting_of
from proof.simulation.world import Process, World
from streamfaas.destinations import Letter, Payload
from streamfaas.flow.errors import Refused, Unreachable
from streamfaas.wire.documents import SUCCESS

SEND_SECONDS = 6.0


class Shelf:
    """What has arrived, whoever sent it."""

    def __init__(self, world: World) -> None:
        self._world = world

    def put(self, letters: Sequence[Letter]) -> None:
        """All of them, or what of them there is when it goes wrong."""
        world = self._world
        if world.wrong("destination-down"):
            raise Unreachable("nobody answers")
        if world.wrong("destination-refuses"):
            raise Refused("401")
        for letter in letters:
            self._take(orjson.loads(letter.document))
        if world.wrong("destination-deaf"):
            world.books.harm("ack-lost", "destination")
            raise Unreachable("connection reset")

    def _take(self, document: dict[str, Any]) -> None:
        books, now = self._world.books, self._world.now
        if (parting := parting_of(now, document)) is not None:
            books.partings.append(parting)
            self._world.story.tell("destination", "has {}", parting)
            return
        row = self._world.face.document(now, document)
        (books.answered if row.condition == SUCCESS else books.set_aside).append(row)
        self._world.story.tell(
            "destination", "has {}-{} {}..{}: {}",
            row.topic, row.partition, row.first, row.last, row.condition,
        )  # fmt: skip


class Sender:
    """A process's way there."""

    kind: ClassVar[str] = "simulated"
    notes: ClassVar[bool] = False
    payload: Payload = "json"
    name = "shelf"

    def __init__(self, process: Process, shelf: Shelf) -> None:
        self.per_record = process.world.plan.singly
        self._process = process
        self._shelf = shelf

    async def open(self) -> None:
        """Nothing is held open."""

    async def send(self, letters: Sequence[Letter]) -> None:
        world = self._process.world
        seconds = world.latency()
        if world.wrong("destination-slow"):
            seconds += 10 * world.chance("slow", world.asked)
        start = world.now
        try:
            with anyio.fail_after(SEND_SECONDS):
                await self._process.ask("send", lambda: self._shelf.put(letters), seconds)
        except TimeoutError:
            self._never_heard(start, seconds)
            raise Unreachable(f"no answer in {SEND_SECONDS:.0f} s") from None
        except asyncio.CancelledError:  # the lane is cut off, and never hears whether it is there
            self._never_heard(start, seconds)
            raise

    def _never_heard(self, start: float, seconds: float) -> None:
        """It may still be on its way."""
        world = self._process.world
        end = max(world.now, start + seconds / 2)
        world.books.harmed.append(ledgers.Harmed("ack-lost", "destination", start, end))

    async def close(self) -> None:
        """Nothing is open."""
