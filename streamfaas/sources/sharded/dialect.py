"""What one kind of sharded log has of its own: its limits, and what its records look like."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from streamfaas.flow.batch import Batch
from streamfaas.flow.record import Lane, Record
from streamfaas.wire.shards import Origin

Told: TypeAlias = Mapping[str, Any]
"""A record as the service gives it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the service allows for a shard: the pause between two reads, the bytes of a second, and
    the records of one read. `timestamps`: reading can begin at a time; `ends_untold`: those who
    speak like the service may never say that a closed shard is at its end. A sequence number has
    so many digits at least."""

    reads_seconds: float
    bytes_a_second: int
    records_max: int
    timestamps: bool
    ends_untold: bool
    sequence_digits: int = 1


class Dialect(Protocol):
    """All of it is pure."""

    @property
    def kind(self) -> str: ...

    @property
    def limits(self) -> Limits: ...

    def weight(self, told: Told) -> int:
        """The bytes of a record that an event repeats."""

    def overhead_bytes(self, origin: Origin) -> int:
        """What an event says of a record beside these, about."""

    def sequence(self, told: Told) -> str: ...

    def sub(self, told: Told) -> int:
        """Which of those with the same sequence number it is."""

    def last(self, told: Told) -> int:
        """Which of those with the same sequence number is the last that is in it."""

    def seconds(self, told: Told) -> float:
        """When it came, by the service's clock (epoch seconds)."""

    def apart(self, records: Sequence[Told]) -> Sequence[Told]:
        """With those that were put together as one in their place."""

    def record(self, lane: Lane, position: int, told: Told) -> Record:
        """The record, looked at."""

    def told(self, record: Record) -> Told:
        """What such a record was."""

    def event(self, origin: Origin, shard: str, records: Iterable[Told]) -> bytes:
        """Lambda's event, as JSON."""

    def face(self, record: Record) -> tuple[Mapping[str, object], bytes | None]: ...

    def batch_info(
        self, origin: Origin, batch: Batch, records: Sequence[Told]
    ) -> Mapping[str, Any]: ...

    def known_by(self, record: Record) -> bytes | None:
        """See `Sendable`."""
