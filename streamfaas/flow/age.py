"""Records that have grown too old to be run (`MaximumRecordAgeInSeconds`)."""

from __future__ import annotations

from collections.abc import Iterable

from streamfaas.flow.batch import Batch
from streamfaas.flow.partial import stretches
from streamfaas.flow.record import Record


def has_overdue(batch: Batch, seconds_max: float | None, wall: float) -> bool:
    """Whether any record may be older than that, told without looking at one. `wall` is epoch
    seconds; a record without a timestamp has no age."""
    return seconds_max is not None and 0.0 < batch.oldest < wall - seconds_max


def overdue(
    batch: Batch, records: Iterable[Record], seconds_max: float, wall: float
) -> tuple[Batch | None, Batch | None]:
    """What is too old, and what may still run: old records are split off their batch, and their
    young neighbours are delivered."""
    before_ms = (wall - seconds_max) * 1000
    old = [r.position for r in records if 0 <= r.timestamp_ms < before_ms]
    return batch.pick(stretches(old))
