"""A message in our hands: who it is, whose receipt is good, and until when it is hidden; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from zlib import crc32

from streamfaas.flow.record import Instant, Lane, Record

_EPOCH_MS = 1_577_836_800_000
"""2020-01-01: what positions count from."""

_BITS = 23
_POSITIONS = 1 << 63


@dataclass(slots=True)
class Message:
    """`deliveries`: how often the queue has handed it out before, but for those times that nothing
    was run of it; `receives`: as the queue counts, this time included. `alone`: it is to be in no
    batch with others, which would be counted with it. `since` and `until` (our clock): when it was
    received, and until when it is hidden from others. `lost`: it was not hidden any more, and may
    be somewhere else, too."""

    id: str
    receipt: str
    record: Record
    group: str | None
    deliveries: int
    receives: int
    wanted: bool
    alone: bool
    since: Instant
    until: Instant
    lost: bool = False
    lane: Lane | None = None

    @property
    def position(self) -> int:
        return self.record.position


def position_of(told: Mapping[str, Any]) -> int:
    """Where a message stands: the same number each time that it comes, to whomever, so that what
    was written down about it is known to be about it; rising with the time of sending, in a FIFO
    queue as the queue itself has the order. Below 2**63, as the store has numbers."""
    attributes = told.get("Attributes") or {}
    sequence = str(attributes.get("SequenceNumber", ""))
    if sequence.isdigit():
        return int(sequence) % _POSITIONS
    sent = max(0, int(attributes.get("SentTimestamp", _EPOCH_MS)) - _EPOCH_MS)
    return (sent << _BITS | crc32(told["MessageId"].encode()) >> 32 - _BITS) % _POSITIONS


def receives_of(told: Mapping[str, Any]) -> int:
    """How often it was handed out, this time included."""
    return max(1, int((told.get("Attributes") or {}).get("ApproximateReceiveCount", 1)))
