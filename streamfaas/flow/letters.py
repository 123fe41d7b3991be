"""What goes to a destination, and how far a chain of functions may go."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from streamfaas.flow.record import Headers, Record

HOPS_MAX = 16
"""Destinations that one chain of functions may pass: the next call of it is given up instead, so
that a loop ends, as Lambda ends it."""

HOPS_HEADER = "streamfaas-hops"
ID_HEADER = "streamfaas-id"
REPLAYS_HEADER = "streamfaas-replays"


Payload: TypeAlias = Literal["json", "text", "none"]
"""How a document has the event of a batch in it: as JSON, as a text that is JSON, or not at all."""


class Attribute(NamedTuple):
    """What goes beside a document; `type` is SQS's word for it (`String`, `Number`)."""

    name: str
    type: str
    value: str


@dataclass(frozen=True, slots=True)
class Letter:
    """One document on its way. `id` is the same for the same records however often it is sent;
    `document` is JSON on one line; `key` the original record's, where there is one; `hops` counts
    the destinations that this chain has passed, this one included. `attributes` are for kinds that
    can carry some beside the document."""

    id: str
    document: bytes
    key: bytes | None = None
    hops: int = 1
    attributes: tuple[Attribute, ...] = ()

    def __post_init__(self) -> None:
        assert self.id
        assert b"\n" not in self.document
        assert self.hops >= 1

    def attribute(self, name: str) -> str:
        """The value of an attribute, empty where there is none."""
        return next((each.value for each in self.attributes if each.name == name), "")


def hops_of(records: Iterable[Record]) -> int:
    """The destinations that the farthest travelled of these records has passed, 0 for none."""
    return max((_hops(record.headers) for record in records), default=0)


def _hops(headers: Headers) -> int:
    told = [value for name, value in headers if name == HOPS_HEADER]
    # anybody may write such a header: what is no small number tells nothing
    return max((int(value) for value in told if value.isdigit() and len(value) <= 4), default=0)
