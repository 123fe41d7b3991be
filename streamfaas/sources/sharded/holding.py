"""Leases that are ours: renewed, moved on and let go of, each until it is lost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import anyio

from streamfaas.flow.errors import Busy, Unreachable, WorldError
from streamfaas.flow.leases import Lease, Tenure, Terms
from streamfaas.flow.record import Instant
from streamfaas.sources import Spawn
from streamfaas.wire.lease_table import LeaseTable, Lost

HAND_OVER_SECONDS = 30.0
"""How long what is in hand of a shard may take to end, where another daemon wants its lease."""

TRIES = 2
"""Of one write: the first may be refused because one of ours before it was carried out unheard."""


class GiveUp(Protocol):
    """Tells the source to let a shard go."""

    def __call__(self, shard: str, grace_seconds: float, *, lost: bool) -> None:
        """The lane of a shard is to close within the grace. `lost`: it is not ours any more."""


@dataclass(slots=True)
class _Hold:
    """A lease that is ours. Its writes are one after the other."""

    tenure: Tenure
    lock: anyio.Lock = field(default_factory=anyio.Lock)
    giving: bool = False
    over: bool = False

    @property
    def lease(self) -> Lease:
        return self.tenure.lease


class Holds:
    """Keeps leases, by shard. Whoever has lost one writes nothing of it any more: each write names
    the owner and the counter, and none is tried once the lease may be another's."""

    def __init__(
        self, table: LeaseTable, terms: Terms, *, give_up: GiveUp, warn: Callable[[str], None]
    ) -> None:
        self._table = table
        self._terms = terms
        self._give_up = give_up
        self._warn = warn
        self._holds: dict[str, _Hold] = {}

    def __contains__(self, shard: str) -> bool:
        return shard in self._holds

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._holds))

    @property
    def sure_seconds(self) -> float:
        """For so long all of them are surely ours."""
        ends = [hold.tenure.sure_until(self._terms) for hold in self._holds.values()]
        return max(0.0, min(ends, default=Instant(float("inf"))) - _now())

    def sure(self, shard: str) -> bool:
        """Whether it is surely ours, now."""
        hold = self._holds.get(shard)
        return hold is not None and _now() < hold.tenure.sure_until(self._terms)

    def keep(self, taken: Lease, asked_at: Instant, spawn: Spawn) -> None:
        """One that has just been taken."""
        hold = self._holds[taken.key] = _Hold(Tenure(taken, asked_at))
        spawn(partial(self._keep, hold), f"lease of {taken.key}")

    async def checkpoint(
        self, shard: str, sequence: str, sub: int, *, children: frozenset[str]
    ) -> bool:
        """Whether it is known to be written."""
        hold = self._holds.get(shard)
        if hold is None:
            return False
        async with hold.lock:
            write = partial(self._table.checkpoint, sequence=sequence, sub=sub, children=children)
            return await self._written(hold, write)

    async def release(self, shard: str) -> bool:
        """Nothing of it is in hand any more. Whether it is let go of because somebody wants it."""
        hold = self._holds.pop(shard, None)
        if hold is None:
            return False
        async with hold.lock:
            try:
                await self._written(hold, self._table.release)
            except WorldError as error:
                self._warn(f"{shard}: its lease was not let go of, and has to expire: {error}")
            hold.over = True
        return hold.giving

    async def _keep(self, hold: _Hold) -> None:
        """Renews a lease until it is lost, let go of, or wanted by somebody else."""
        pause = self._terms.renew_seconds
        while not hold.over:
            left = hold.tenure.sure_until(self._terms) - _now()
            await anyio.sleep(max(0.0, min(left, pause)))
            pause = self._terms.renew_seconds
            if not await self._renew(hold):
                pause /= 4
            elif hold.lease.wanted_by and not hold.giving:
                hold.giving = True
                self._give_up(hold.lease.key, HAND_OVER_SECONDS, lost=False)

    async def _renew(self, hold: _Hold) -> bool:
        async with hold.lock:
            return await self._written(hold, self._table.renew)

    async def _written(self, hold: _Hold, write: Callable[[Lease], Awaitable[Lease]]) -> bool:
        """Writes as the owner, while we surely are; what is found to be lost is told. False where
        it is not known to be written."""
        for _ in range(TRIES):
            asked_at = _now()
            if hold.over:
                return False
            if asked_at >= hold.tenure.sure_until(self._terms):
                self._lose(hold, f"was not renewed for {self._terms.sure_seconds:g} s")
                return False
            try:
                hold.tenure = hold.tenure.renewed(await write(hold.lease), asked_at)
            except Lost:
                await self._read_back(hold)
            except (Busy, Unreachable):
                return False
            else:
                return True
        return False

    async def _read_back(self, hold: _Hold) -> None:
        try:
            found = await self._table.get(hold.lease.key)
        except (Busy, Unreachable):
            return
        kept = hold.tenure.read_back(found)
        if kept is None:
            owner = found.owner if found is not None else ""
            self._lose(hold, f"was taken by {owner}" if owner else "is gone")
        else:
            hold.tenure = kept

    def _lose(self, hold: _Hold, why: str) -> None:
        shard, hold.over = hold.lease.key, True
        self._holds.pop(shard, None)
        self._warn(f"the lease of {shard} {why}: it is not read here any more")
        self._give_up(shard, 0.0, lost=True)


def _now() -> Instant:
    return Instant(anyio.current_time())
