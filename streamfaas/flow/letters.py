"""What goes to a destination, and how far a chain of functions may go."""

from __future__ import annotations

from dataclasses import dataclass

HOPS_MAX = 16
"""Destinations that one chain of functions may pass: the next call of it is given up instead, so
that a loop ends, as Lambda ends it."""


@dataclass(frozen=True, slots=True)
class Letter:
    """One document on its way. `id` is the same for the same records however often it is sent;
    `document` is JSON on one line; `key` the original record's, where there is one; `hops` counts
    the destinations that this chain has passed, this one included."""

    id: str
    document: bytes
    key: bytes | None = None
    hops: int = 1

    def __post_init__(self) -> None:
        assert self.id
        assert b"\n" not in self.document
        assert self.hops >= 1
