"""A table of leases that daemons share, and a process's way to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import anyio

from proof.simulation.service import Service
from proof.simulation.world import Process
from streamfaas.flow.errors import Unreachable
from streamfaas.flow.leases import Lease
from streamfaas.wire.lease_table import Lost

T = TypeVar("T")

SILENT = 0.3


class Tenants:
    """Each write names the owner and the counter that it was decided by."""

    def __init__(self, process: Process, service: Service, call_seconds: float) -> None:
        self.name = "leases"
        self._process = process
        self._world = process.world
        self._service = service
        self._rows = service.leases
        self._call_seconds = call_seconds

    async def open(self) -> None:
        """Nothing is held open."""

    async def close(self) -> None:
        """Nothing is open."""

    async def ensure(self) -> bool:
        return False

    async def scan(self) -> list[Lease]:
        return await self._ask("scan", lambda: list(self._rows.values()))

    async def get(self, key: str) -> Lease | None:
        """So an owner finds out why its write was refused."""
        row = await self._ask("get", lambda: self._rows.get(key))
        self._service.heard(key, f"{self._process.name}/")
        return row

    async def make(self, lease: Lease) -> None:
        def act() -> None:
            if lease.key in self._rows:
                raise Lost
            self._rows[lease.key] = lease
            self._tell("makes {} at {}", lease.key, lease.checkpoint)
            self._service.leased(lease)

        await self._ask("make", act)

    async def take(self, lease: Lease, worker: str) -> Lease:
        # some do not say that they give way, as the library's do not: others take from them
        silent = self._world.chance.happens(SILENT, "silent", worker)
        gives_way = lease.gives_way if silent else worker

        def act() -> Lease:
            self._expected(lease)
            self._service.changed_hands(lease, worker)
            return self._written(
                lease, owner=worker, gives_way=gives_way, wanted_by="",
                stream=lease.stream, since_ms=lease.since_ms,
            )  # fmt: skip

        return await self._ask("take", act)

    async def renew(self, lease: Lease) -> Lease:
        return await self._ask("renew", lambda: self._written(lease))

    async def checkpoint(
        self, lease: Lease, sequence: str, sub: int, *, children: frozenset[str] = frozenset()
    ) -> Lease:
        def act() -> Lease:
            written = self._written(
                lease, checkpoint=sequence, sub=sub, since_ms=None,
                children=children or lease.children,
            )  # fmt: skip
            self._service.leased(written)
            return written

        return await self._ask("checkpoint", act)

    async def release(self, lease: Lease) -> Lease:
        return await self._ask("release", lambda: self._written(lease, owner="", wanted_by=""))

    async def want(self, lease: Lease, worker: str) -> Lease:
        return await self._ask("want", lambda: self._written(lease, moves=0, wanted_by=worker))

    async def remove(self, lease: Lease) -> None:
        def act() -> None:
            self._expected(lease)
            del self._rows[lease.key]
            self._tell("removes {}", lease.key)

        await self._ask("remove", act)

    def _tell(self, what: str, *more: object) -> None:
        self._world.story.tell("table", "{} " + what, self._process.name, *more)

    def _expected(self, lease: Lease) -> Lease:
        row = self._rows.get(lease.key)
        if row is None or (row.owner, row.counter) != (lease.owner, lease.counter):
            raise Lost
        return row

    def _written(self, lease: Lease, *, moves: int = 1, **values: Any) -> Lease:
        row = self._expected(lease)
        self._rows[lease.key] = row = replace(row, counter=row.counter + moves, **values)
        if moves:
            self._service.written_at[lease.key] = self._world.now
        return row

    async def _ask(self, what: str, act: Callable[[], T]) -> T:
        world = self._world
        world.asked += 1
        seconds = world.latency() + 2 * world.right_in("cut-off", self._process.slot)
        ill = "" if world.calm else world.chance("table", world.asked) / (world.plan.wire or 1e-9)

        def served() -> T:
            world.reach("table")
            if ill and 0.0 < ill < 0.3:
                raise Unreachable(f"{what}: connection reset")
            answer = act()
            if ill and 0.3 <= ill < 1.0:
                raise Unreachable(f"{what}: no answer")
            return answer

        try:
            with anyio.fail_after(self._call_seconds):
                return await self._process.ask(what, served, seconds)
        except TimeoutError:
            raise Unreachable(f"{what}: no answer in {self._call_seconds} s") from None
