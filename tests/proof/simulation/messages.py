"""The real source of SQS queues over a simulated queue, and a process's way to that."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from proof.simulation.mailbox import Mailbox
from proof.simulation.world import MAPPING, Process
from streamfaas.flow.batch import BatchPolicy
from streamfaas.flow.errors import Busy, Unreachable
from streamfaas.flow.record import Instant, Lane
from streamfaas.sources import Arrival, Arrived, Spawn
from streamfaas.sources.sqs import Sqs, SqsOptions
from streamfaas.wire.aws import AwsAccess
from streamfaas.wire.sqs import Attributes, Undone

T = TypeVar("T")


class Post:
    """A client of the queue, as `wire.sqs` has one."""

    def __init__(self, process: Process, mailbox: Mailbox, seat: str) -> None:
        self._process = process
        self._world = process.world
        self._mailbox = mailbox
        self._seat = seat
        self.name = self.short_name = mailbox.name
        self.url = "http://localhost/orders"
        self.fifo = mailbox.fifo

    async def open(self) -> None:
        """Nothing is held open."""

    async def close(self) -> None:
        """Nothing is open."""

    async def attributes(self) -> Attributes:
        return await self._ask("attributes", self._mailbox.attributes)

    async def receive(
        self, messages_max: int, wait_seconds: int = 0, visibility_seconds: int | None = None
    ) -> Sequence[Mapping[str, Any]]:
        until = self._world.now + wait_seconds
        while True:
            found = await self._ask(
                "receive",
                lambda: self._mailbox.receive(self._seat, messages_max, visibility_seconds),
            )
            next_at, now = self._mailbox.next_at, self._world.now
            if found or now >= until:
                return found
            await self._mailbox.wait(
                until if next_at is None else min(until, max(next_at, now + 0.2))
            )

    async def delete_batch(self, receipts: Sequence[str]) -> tuple[Undone, ...]:
        return await self._ask("delete", lambda: self._mailbox.delete(receipts))

    async def change_visibility_batch(
        self, changes: Sequence[tuple[str, int]]
    ) -> tuple[Undone, ...]:
        return await self._ask("hide", lambda: self._mailbox.hide(changes))

    async def _ask(self, what: str, act: Callable[[], T]) -> T:
        world, ill, seconds = self._world, self._ill(), self._world.latency()
        if ill == "late" or world.wrong("slow-service"):
            seconds += 4 * world.chance("late", world.asked)

        def served() -> T:
            world.reach("source")
            if ill == "busy" or (
                world.wrong("throttled") and world.chance("busy", world.asked) < 0.7
            ):
                raise Busy(f"{what}: rate exceeded")
            if ill == "reset":
                raise Unreachable(f"{what}: connection reset")
            answer = act()
            if ill == "unheard":
                raise Unreachable(f"{what}: no answer")
            return answer

        return await self._process.ask(what, served, seconds)

    def _ill(self) -> str:
        world = self._world
        world.asked += 1
        if world.calm or not world.chance.happens(world.plan.wire, "ill", world.asked):
            return ""
        return ILLS[int(world.chance.between(0, len(ILLS), "ill of", world.asked))]


ILLS = ("busy", "reset", "unheard", "late", "late")


class Messages(Sqs):
    """Receives like any other; what it hands over is counted."""

    post: ClassVar[type[Post]] = Post

    def __init__(self, process: Process, mailbox: Mailbox) -> None:
        self._process = process
        world, plan = process.world, process.world.plan
        self._seat = f"{process.name}/{world.time_of(('source', process.name)) + 1}"
        options = SqsOptions(
            AwsAccess("local"),
            mailbox.name,
            batch=BatchPolicy(plan.batch, plan.batch_bytes, plan.window),
            parallel=plan.lanes,
            wait_seconds=plan.wait,
            retries_max=plan.retries,
        )
        super().__init__(
            MAPPING,
            options,
            room=lambda: plan.lanes,
            clock=lambda: Instant(world.now),
            emit=process.emit,
            make_queue=lambda _, __: self.post(process, mailbox, self._seat),  # type: ignore[arg-type,return-value]
            jitter=lambda: world.chance("poll", world.time_of("poll")),
        )

    async def open(self, spawn: Spawn) -> None:
        self._process.seat = self._seat
        await super().open(spawn)

    async def next(self, ready: Collection[Lane]) -> Arrival:
        arrival = await super().next(ready)
        if isinstance(arrival, Arrived):
            self._process.cross("records")
            self._process.received += arrival.run.count
        return arrival
