"""Who may run now: concurrency shares of the functions under one limit of the daemon."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Share:
    """What a function may use. `reserved` is kept free for it by all others; `maximum` is its
    ceiling (None: only the daemon's limit); `warm` workers are kept started; `memory_bytes` is
    what one worker counts for."""

    maximum: int | None = None
    reserved: int = 0
    warm: int = 0
    memory_bytes: int = 128 * 1024 * 1024

    def __post_init__(self) -> None:
        assert self.maximum is None or self.maximum >= max(1, self.reserved, self.warm)
        assert self.reserved >= 0
        assert self.warm >= 0
        assert self.memory_bytes > 0


class Admission:
    """Counts invocations in flight. Never over a function's maximum, never over the limit, and
    what is reserved for one function is never used by another."""

    __slots__ = ("_busy", "_common", "_common_busy", "_shares", "limit")

    def __init__(self, limit: int, shares: Mapping[str, Share]) -> None:
        reserved = sum(share.reserved for share in shares.values())
        assert limit >= 1
        assert reserved <= limit, "more is reserved than there is"
        self.limit = limit
        self._shares = dict(shares)
        self._busy = dict.fromkeys(shares, 0)
        self._common = limit - reserved
        self._common_busy = 0

    def busy(self, function: str) -> int:
        return self._busy[function]

    def room(self, function: str) -> bool:
        """Whether one more invocation of the function may start."""
        share, busy = self._shares[function], self._busy[function]
        if share.maximum is not None and busy >= share.maximum:
            return False
        return busy < share.reserved or self._common_busy < self._common

    def enter(self, function: str) -> None:
        assert self.room(function)
        if self._busy[function] >= self._shares[function].reserved:
            self._common_busy += 1
        self._busy[function] += 1

    def leave(self, function: str) -> None:
        assert self._busy[function] > 0
        self._busy[function] -= 1
        if self._busy[function] >= self._shares[function].reserved:
            self._common_busy -= 1
