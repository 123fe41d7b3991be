"""Where reading goes on when a shard comes with a lease, and what its row says at first: pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from streamfaas.flow.leases import AT_TIMESTAMP, BEGINNINGS, LATEST, SHARD_END, Lease
from streamfaas.sources.sharded.reading import AFTER, AT, FIRST, SINCE
from streamfaas.store.shards import Mark

EPOCH_BITS = 32
EPOCH = 1 << EPOCH_BITS
"""What positions leap by where records may have been lost, read by another, or of another stream:
what was written down about records of an earlier life must not be taken to be about others."""


def epoch(marks: Iterable[Mark], later: int = 0) -> int:
    """The position that an epoch begins at: the newest of marks, or one that is so much later."""
    newest = max((mark.position >> EPOCH_BITS for mark in marks), default=0)
    return newest + later << EPOCH_BITS


def resumed(lease: Lease, mark: Mark | None, *, base: int, timestamps: bool) -> Mark:
    """The mark that a shard is read on from. `mark` is what we remember of it: where it says the
    same, positions go on; where somebody else has moved the checkpoint, or we have and could not
    write it down here, they leap. `base`: where positions begin where nothing is remembered;
    `timestamps`: reading can begin at a time."""
    if mark is not None and mark.stream == lease.stream and not mark.ended and _same(lease, mark):
        return mark
    position = base if mark is None else epoch((mark,), 1)
    if lease.begun:
        kind, sequence, sub, at_ms = AT, lease.checkpoint, lease.sub + 1, 0
    else:
        at_ms = lease.since_ms or 0
        kind = SINCE if at_ms and timestamps else FIRST
        sequence, sub = "", 0
    return Mark(lease.key, lease.stream, position, kind, sequence, sub, at_ms, ended=False)


def _same(lease: Lease, mark: Mark) -> bool:
    """Whether nobody has finished with anything of the shard since the mark was written."""
    if lease.checkpoint in BEGINNINGS:
        return True  # where the mark is further, the row was lost meanwhile, and made anew
    if mark.kind == AT:
        return (mark.sequence, mark.sub) == (lease.checkpoint, lease.sub + 1)
    return (mark.kind, mark.sequence) == (AFTER, lease.checkpoint)


def remembered(lease: Lease, mark: Mark) -> Lease:
    """A new row that goes on where a daemon that was alone stood."""
    if mark.ended:
        return replace(lease, checkpoint=SHARD_END)
    if mark.kind == AFTER or mark.sub:
        return replace(lease, checkpoint=mark.sequence, sub=max(0, mark.sub - 1))
    if mark.at_ms:
        return replace(lease, checkpoint=AT_TIMESTAMP, since_ms=mark.at_ms)
    return lease


def begun_at(lease: Lease, start: str | float, now_ms: int) -> Lease:
    """A new row where a trigger begins. The library has no place for when that was: it would go on
    from LATEST by its own clock."""
    if start == "trim_horizon":
        return lease
    if start == "latest":
        return replace(lease, checkpoint=LATEST, since_ms=now_ms)
    return replace(lease, checkpoint=AT_TIMESTAMP, since_ms=int(float(start) * 1000))
