"""Where outcomes go. One file a kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol

from streamfaas.flow.letters import HOPS_MAX, Letter, Payload

__all__ = ["HOPS_MAX", "KINDS", "Destination", "Letter", "Payload"]

KINDS: Mapping[str, str] = {
    "file": "streamfaas.destinations.file:File",
    "function": "streamfaas.destinations.function:Function",
    "http": "streamfaas.destinations.http:Http",
    "kafka": "streamfaas.destinations.kafka:Kafka",
    "s3": "streamfaas.destinations.s3:S3",
    "sns": "streamfaas.destinations.sns:Sns",
    "sqs": "streamfaas.destinations.sqs:Sqs",
}
"""Loaded only when a destination of the kind is configured."""


class Destination(Protocol):
    """One protocol to write to. Everything that waits has a deadline of its own, and what leaves
    `open` and `send` are `WorldError`s."""

    kind: ClassVar[str]
    per_record: ClassVar[bool]
    """Whether it takes a letter for each record of a batch, as Lambda's Kafka topics do, or one
    for them all."""
    notes: ClassVar[bool]
    """Whether it is told, without its payload, of a letter that is too large for it."""
    payload: Payload
    """How the documents of batches have the event in them."""
    name: str
    """For people: where letters go."""

    async def open(self) -> None:
        """Connects, where there is something to connect to. May be tried again after an error,
        and must be safe to `close()` after one."""

    async def send(self, letters: Sequence[Letter]) -> None:
        """Returns once the other side has them all for good. After an error all of them are to be
        sent again, for some may be there."""

    async def close(self) -> None: ...
