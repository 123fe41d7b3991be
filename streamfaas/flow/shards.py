"""Which shards of a stream may be read: parents before their children, whoever was split or merged.

The order across resharding: a child begins when all of its parents are finished with. A parent
that the stream has forgotten is; one that it still knows is read first, however old it is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

Parents = Mapping[str, Collection[str]]
"""Shards that the stream still knows, each with those it came from."""


def readable(known: Parents, ended: Collection[str]) -> list[str]:
    """Shards that may be read now, in the order of `known`. `ended`: all of them is finished
    with."""
    return [
        shard
        for shard, parents in known.items()
        if shard not in ended and all(parent in ended or parent not in known for parent in parents)
    ]


def descendants(known: Parents, shards: Collection[str]) -> list[str]:
    """What came out of shards, and out of those, in the order of `known`."""
    found = set[str]()
    new = set(shards)
    while new:
        new = {name for name, parents in known.items() if not new.isdisjoint(parents)} - found
        found |= new
    return [name for name in known if name in found.difference(shards)]
