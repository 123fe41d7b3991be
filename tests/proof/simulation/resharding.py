"""Shards that are split and merged while records come, and which record lies in which: pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf

from proof.simulation.plan import Plan

SHARDS_MAX = 12


@dataclass(slots=True)
class Entry:
    """A record of the service: several that were put together, or one. `first` is the offset of
    the first of them, `names` are theirs."""

    sequence: int
    at: float
    key: str
    first: int
    data: str = ""
    names: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class Shard:
    """Takes keys whose hash is in `low`..`high`, from when it opens until it closes."""

    number: int
    low: float
    high: float
    opens: float = -1.0
    parents: tuple[Shard, ...] = ()
    closes: float = inf
    entries: list[Entry] = field(default_factory=list)

    @property
    def id(self) -> str:
        return f"shardId-{self.number:012d}"

    @property
    def end(self) -> int:
        """The offset after its last record."""
        last = self.entries[-1] if self.entries else None
        return last.first + len(last.names) if last else 0


def shards_of(plan: Plan) -> list[Shard]:
    """All that there ever are."""
    count = plan.lanes
    found = [Shard(n, n / count, (n + 1) / count) for n in range(count)]
    for fault in plan.faults:
        open_ = sorted((one for one in found if one.closes == inf), key=lambda one: one.low)
        which, room = fault.count % len(open_), SHARDS_MAX - len(found)
        if fault.kind == "split" and room >= 2:
            parents, parts = open_[which : which + 1], 2
        elif fault.kind == "merge" and room >= 1 and which + 1 < len(open_):
            parents, parts = open_[which : which + 2], 1
        else:
            continue
        low, high = parents[0].low, parents[-1].high
        for parent in parents:
            parent.closes = fault.at
        bounds = [low + (high - low) * n / parts for n in range(parts + 1)]
        for part in range(parts):
            child = Shard(len(found), bounds[part], bounds[part + 1], fault.at, tuple(parents))
            found.append(child)
    return found


@dataclass(frozen=True, slots=True)
class Put:
    """A record on its way into a stream."""

    at: float
    key: bytes


def puts_of(plan: Plan) -> Iterator[Put]:
    """What producers put, in the order of time."""
    chance, count = plan.chance, plan.lanes * plan.records
    for number in range(count):
        own = chance.happens(plan.keyless, "keyless", number)
        which = int(chance.between(0, plan.keys, "key", number))
        key = b"alone-%d" % number if own else b"key-%d" % which
        yield Put(round(plan.spread * number / count, 3), key)


def shard_for(shards: list[Shard], put: Put, hash_: float) -> Shard:
    return next(
        one for one in shards if one.opens <= put.at < one.closes and one.low <= hash_ < one.high
    )
