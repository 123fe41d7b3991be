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


@dataclass(slots=True)
class _Account:
    maximum: int
    reserved: int
    busy: int = 0


class Admission:
    """Counts invocations in flight. Never over a function's maximum, never over the limit, and
    what is reserved for one function is never used by another."""

    __slots__ = ("_accounts", "common_free", "limit")

    def __init__(self, limit: int, shares: Mapping[str, Share]) -> None:
        reserved = sum(share.reserved for share in shares.values())
        assert limit >= 1
        assert reserved <= limit, "more is reserved than there is"
        self.limit = limit
        self.common_free = limit - reserved
        """How many more may start beyond what is reserved for anybody."""
        assert self.common_free or all(s.reserved for s in shares.values()), "no room for some"
        self._accounts = {
            name: _Account(limit if share.maximum is None else share.maximum, share.reserved)
            for name, share in shares.items()
        }

    def busy(self, function: str) -> int:
        return self._accounts[function].busy

    def free(self, function: str) -> int:
        """How many more invocations of the function may start, if no other function's do."""
        account = self._accounts[function]
        own = max(0, account.reserved - account.busy)
        return min(account.maximum - account.busy, own + self.common_free)

    def room(self, function: str) -> bool:
        """Whether one more invocation of the function may start."""
        return self.free(function) > 0

    def admit(self, function: str) -> bool:
        """Enters if there is room."""
        account = self._accounts[function]
        busy = account.busy
        if busy >= account.maximum:
            return False
        if busy >= account.reserved:
            if not self.common_free:
                return False
            self.common_free -= 1
        account.busy = busy + 1
        return True

    def enter(self, function: str) -> None:
        admitted = self.admit(function)
        assert admitted, f"no room for {function}"

    def leave(self, function: str) -> None:
        account = self._accounts[function]
        busy = account.busy
        assert busy > 0
        account.busy = busy - 1
        if busy > account.reserved:
            self.common_free += 1
