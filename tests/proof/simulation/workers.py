"""The way to the workers, and functions that keep account of what they are given."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson

from proof.recorder.handler import stretches
from proof.simulation.books import digest_of
from proof.simulation.faces import Row
from proof.simulation.world import TOPIC, Process
from streamfaas.flow.invocation import Invocation
from streamfaas.flow.outcome import Failure, Fault, Outcome, Success

FAULTS = {
    "fail": (Fault.FUNCTION, "RuntimeError", "bad luck", "failure"),
    "poison": (Fault.FUNCTION, "ValueError", "poison", "failure"),
    "crash": (Fault.CRASH, "Runtime.ExitError", "signal: killed", "crash"),
    "init": (Fault.INIT, "Runtime.ImportModuleError", "no module", "init"),
    "hang": (Fault.TIMEOUT, "Sandbox.Timedout", "timed out", "timeout"),
}


class Workers:
    """Runs a process's invocations, each as the seed would have it."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._world = process.world

    async def __call__(self, invocation: Invocation) -> Outcome:
        world, process = self._world, self._process
        process.cross("invoke")
        assert process.paused is None, "it is run although it is paused"
        rows = world.face.rows(b"".join(invocation.event.parts))
        assert invocation.lane is not None
        n = world.time_of(("run", rows[0].value))
        if self._draw("throttle", rows[0].offset, n):
            await asyncio.sleep(0.01)
            return Failure(Fault.THROTTLED, "TooManyRequestsException", "no room")
        taken = self._fitting(rows, n)
        left = rows[max(1, len(taken)) :]
        until = left[0].offset if left and world.face.cuts else None
        if not taken or (left and not world.face.cuts):
            return Failure(Fault.OVERSIZE, "MaximumPayloadSizeExceeded", "too large", until=until)
        return await self._run(invocation, taken, until, n)

    def _draw(self, kind: str, *purpose: object) -> bool:
        world = self._world
        rate = getattr(world.plan.trouble, kind)
        return not world.calm and world.chance.happens(rate, kind, *purpose)

    def _fitting(self, rows: list[Row], n: int) -> list[Row]:
        """As many as the event has room for."""
        name = rows[0].value
        if len(rows) > 1 and self._world.face.cuts and self._draw("short", name, n):
            rows = rows[: 1 + int(self._world.chance("short to", name, n) * (len(rows) - 1))]
        size, taken = 0, []
        for row in rows:
            size += len(row.value)
            if size > self._world.plan.event_bytes:
                break
            taken.append(row)
        return taken

    async def _run(
        self, invocation: Invocation, rows: Sequence[Row], until: int | None, n: int
    ) -> Outcome:
        world, process = self._world, self._process
        name, kind = rows[0].value, self._kind(rows, n)
        execution = self._begin(invocation, rows)
        try:
            await asyncio.sleep(self._seconds(kind, name, n))
            outcome = self._ended(invocation, rows, execution, kind, n)
            world.story.tell(
                process.name, "{} ends: {}", execution["execution"], execution["outcome"]
            )
            if latency := world.latency():
                await asyncio.sleep(latency)
        except asyncio.CancelledError:
            if process.alive:
                world.story.tell(process.name, "{} is cut off", execution["execution"])
                world.books.kill_worker(execution)
            raise
        process.cross("answer")
        return replace(outcome, until=until)

    def _ended(
        self,
        invocation: Invocation,
        rows: Sequence[Row],
        execution: dict[str, Any],
        kind: str,
        n: int,
    ) -> Outcome:
        """Writes down how it ended, and what the daemon hears of it."""
        books = self._world.books
        if kind in FAULTS:
            fault, type_, message, outcome = FAULTS[kind]
            books.end(execution, outcome)
            return Failure(fault, type_, message)
        answer: bytes = b"null"
        if kind == "garble":
            books.end(execution, "garbage")
            answer = self._nonsense(rows, n)
        elif failed := self._failed_items(rows, n):
            books.end(execution, "partial", failed=self._undone(rows, failed))
            answer = self._reported(invocation, failed, n)
        else:
            books.end(execution, "success")
        if kind == "unheard":
            books.kill_worker(execution)
            return Failure(Fault.CRASH, "Runtime.ExitError", "died")
        return Success(answer)

    # -- partial answers

    def _failed_items(self, rows: Sequence[Row], n: int) -> list[Row]:
        if not self._world.plan.partial:
            return []
        return [row for row in rows if self._poisonous(row) or self._draw("items", row.value, n)]

    def _undone(self, rows: Sequence[Row], failed: Sequence[Row]) -> tuple[int, ...]:
        """A function over a stream stops where it fails; one over a list goes on."""
        if self._world.plan.lowest:
            failed = self._world.face.undone(rows, failed[0])
        return tuple(row.offset for row in failed)

    def _reported(self, invocation: Invocation, failed: Sequence[Row], n: int) -> bytes:
        assert invocation.lane is not None
        lane, face = invocation.lane.name, self._world.face
        items = [{"itemIdentifier": face.item(lane, row)} for row in failed]
        if self._world.chance("order", failed[0].offset, n) < 0.5:
            items.reverse()
        return orjson.dumps({"batchItemFailures": items})

    def _nonsense(self, rows: Sequence[Row], n: int) -> bytes:
        """What must not move the checkpoint, nor be taken for anything."""
        place = {"partition": f"{TOPIC}-0", "offset": rows[-1].offset + 1000}
        answers: list[Any] = [
            {"batchItemFailures": [{"itemIdentifier": place}]},
            {"batchItemFailures": [{"itemIdentifier": ""}]},
            {"batchItemFailures": [{"itemIdentifier": rows[0].offset}]},
            {"batchItemFailures": [{"id": place}]},
            {"batchItemFailures": "all"},
            {"failures": []},
            [1, 2],
            7,
        ]
        which = int(self._world.chance("nonsense", rows[0].value, n) * (len(answers) + 1))
        return b"{half" if which == len(answers) else orjson.dumps(answers[which])

    def _kind(self, rows: Sequence[Row], n: int) -> str:
        name = rows[0].value
        for kind in ("init", "crash", "hang"):
            if self._draw(kind, name, n):
                return kind
        if not self._world.plan.partial and any(self._poisonous(row) for row in rows):
            return "poison"
        for kind in ("fail", "unheard", "garble", "slow"):
            if self._draw(kind, name, n):
                return kind
        return "success"

    def _poisonous(self, row: Row) -> bool:
        world = self._world
        if world.calm and world.plan.retries is None:
            return False  # somebody has mended the function
        return world.poisonous(row.name)

    def _seconds(self, kind: str, *purpose: object) -> float:
        plan, chance = self._world.plan, self._world.chance
        if kind == "hang":
            return plan.timeout
        if kind == "slow":
            return chance.between(0.5, plan.timeout, "seconds", *purpose)
        return chance.between(0.002, 0.4, "seconds", *purpose) ** 2 * 4 + 0.001

    def _begin(self, invocation: Invocation, rows: Sequence[Row]) -> dict[str, Any]:
        world, process = self._world, self._process
        prints = [row.print for row in rows]
        ranges = stretches(row.offset for row in rows)
        place = rows[0].lane.rpartition("-")[2]
        life = process.lives[invocation.lane.name] if invocation.lane else 0
        execution = world.books.begin(
            invocation=invocation.id,
            worker=process.name,
            topic=TOPIC,
            partition=int(place),
            stretches=tuple((first, last) for first, last in ranges),
            digest=digest_of(prints),
            wall=world.wall,
            owner=f"{process.seat}/{life}" if life else process.seat,
        )
        world.story.tell(
            process.name,
            "{} runs {} {} (attempt {})",
            execution["execution"],
            f"{TOPIC}-{place}",
            " ".join(f"{first}..{last}" for first, last in ranges),
            invocation.attempt,
        )
        return execution
