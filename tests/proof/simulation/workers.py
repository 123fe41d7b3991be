"""The way to the workers, and functions that keep account of what they are given."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson

from proof.ledgers import Pane
from proof.recorder.handler import stretches
from proof.simulation.books import digest_of
from proof.simulation.faces import Row
from proof.simulation.reducer import pane_of, state_after
from proof.simulation.world import TOPIC, Process
from streamfaas.flow.invocation import Invocation
from streamfaas.flow.outcome import Failure, Fault, Outcome, Success
from streamfaas.flow.record import Lane

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
        event = b"".join(invocation.event.parts)
        rows, pane = world.face.rows(event), pane_of(orjson.loads(event))
        assert invocation.lane is not None
        name = _named(rows, pane, invocation.lane)
        n = world.time_of(("run", name))
        if self._draw("throttle", name, n):
            await asyncio.sleep(0.01)
            return Failure(Fault.THROTTLED, "TooManyRequestsException", "no room")
        cuts = world.face.cuts and pane is None
        taken = self._fitting(rows, n, cuts=cuts)
        left = rows[max(1, len(taken)) :]
        until = left[0].offset if left and cuts else None
        if (rows and not taken) or (left and not cuts):
            return Failure(Fault.OVERSIZE, "MaximumPayloadSizeExceeded", "too large", until=until)
        return await self._run(invocation, taken, pane, until, n)

    def _draw(self, kind: str, *purpose: object) -> bool:
        world = self._world
        rate = getattr(world.plan.trouble, kind)
        return not world.calm and world.chance.happens(rate, kind, *purpose)

    def _fitting(self, rows: list[Row], n: int, *, cuts: bool) -> list[Row]:
        """As many as the event has room for."""
        if len(rows) > 1 and cuts and self._draw("short", rows[0].value, n):
            share = self._world.chance("short to", rows[0].value, n)
            rows = rows[: 1 + int(share * (len(rows) - 1))]
        size, taken = 0, []
        for row in rows:
            size += len(row.value)
            if size > self._world.plan.event_bytes:
                break
            taken.append(row)
        return taken

    async def _run(
        self,
        invocation: Invocation,
        rows: Sequence[Row],
        pane: Pane | None,
        until: int | None,
        n: int,
    ) -> Outcome:
        world, process = self._world, self._process
        assert invocation.lane is not None
        name = _named(rows, pane, invocation.lane)
        kind = self._kind(name, rows, pane, n)
        execution = self._begin(invocation, rows, pane)
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
        books, pane = self._world.books, execution["pane"]
        if kind in FAULTS:
            fault, type_, message, outcome = FAULTS[kind]
            books.end(execution, outcome)
            return Failure(fault, type_, message)
        answer: bytes = b"null"
        undone: tuple[int, ...] = ()
        if kind == "garble":
            books.end(execution, "garbage")
            answer = self._nonsense(rows, n)
        elif kind == "stateless":
            books.end(execution, "garbage")
        elif failed := self._failed_items(rows, n):
            undone = self._undone(rows, failed)
            books.end(execution, "partial", failed=undone)
            answer = self._reported(invocation, failed, n)
        else:
            books.end(execution, "success")
        if pane is not None and execution["outcome"] != "garbage":
            done = [row.offset for row in rows if row.offset not in undone]
            bulky = self._draw("bulky", rows[0].value, n) if done else False
            state = state_after(pane, done, execution["execution"], bulky=bulky)
            answer = orjson.dumps((orjson.loads(answer) or {}) | {"state": state})
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

    def _kind(self, name: str, rows: Sequence[Row], pane: Pane | None, n: int) -> str:
        for kind in ("init", "crash", "hang"):
            if self._draw(kind, name, n):
                return kind
        if not self._world.plan.partial and any(self._poisonous(row) for row in rows):
            return "poison"
        if not rows and any(self._is_poison(f"{name}/{number}") for number in range(5)):
            return "poison"
        for kind in ("fail", "unheard", "garble", "stateless", "slow"):
            if self._draw(kind, name, n) and _may_be(kind, rows, pane):
                return kind
        return "success"

    def _poisonous(self, row: Row) -> bool:
        return self._is_poison(row.name)

    def _is_poison(self, name: str) -> bool:
        world = self._world
        if world.calm and world.plan.retries is None:
            return False  # somebody has mended the function
        return world.poisonous(name)

    def _seconds(self, kind: str, *purpose: object) -> float:
        plan, chance = self._world.plan, self._world.chance
        if kind == "hang":
            return plan.timeout
        if kind == "slow":
            return chance.between(0.5, plan.timeout, "seconds", *purpose)
        return chance.between(0.002, 0.4, "seconds", *purpose) ** 2 * 4 + 0.001

    def _begin(
        self, invocation: Invocation, rows: Sequence[Row], pane: Pane | None
    ) -> dict[str, Any]:
        world, process = self._world, self._process
        prints = [row.print for row in rows]
        ranges = stretches(row.offset for row in rows)
        assert invocation.lane is not None
        place = (rows[0].lane if rows else invocation.lane.name).rpartition("-")[2]
        life = process.lives[invocation.lane.name]
        execution = world.books.begin(
            invocation=invocation.id,
            worker=process.name,
            topic=TOPIC,
            partition=int(place),
            stretches=tuple((first, last) for first, last in ranges),
            digest=digest_of(prints),
            wall=world.wall,
            owner=f"{process.seat}/{life}" if life else process.seat,
            pane=pane,
        )
        world.story.tell(
            process.name,
            "{} runs {} {} (attempt {}){}",
            execution["execution"],
            f"{TOPIC}-{place}",
            " ".join(f"{first}..{last}" for first, last in ranges),
            invocation.attempt,
            "" if pane is None else f" in {pane}",
        )
        return execution


def _may_be(kind: str, rows: Sequence[Row], pane: Pane | None) -> bool:
    """The answer of the last invocation in a window is not read; outside, none has a state."""
    return kind in {"fail", "unheard", "slow"} or bool(rows and (kind == "garble" or pane))


def _named(rows: Sequence[Row], pane: Pane | None, lane: Lane) -> str:
    """What is drawn for: the first record, or the window that ends."""
    assert rows or pane is not None
    return rows[0].value if rows else f"{lane.name}.{pane.start_ms if pane else 0}"
