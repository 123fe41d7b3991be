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
    what is reserved for one function is never used by another.

    Where shares are replaced while invocations are in flight, more of them may run than the new
    shares allow. Then nothing enters that would not fit beside them, until enough have left."""

    __slots__ = ("_accounts", "common_free", "limit", "strained")

    def __init__(self, limit: int, shares: Mapping[str, Share]) -> None:
        self._accounts: dict[str, _Account] = {}
        self.replace(limit, shares)

    def replace(self, limit: int, shares: Mapping[str, Share]) -> None:
        """Other shares from now on, for other functions perhaps. Who is in flight stays counted."""
        reserved = sum(share.reserved for share in shares.values())
        assert limit >= 1
        assert reserved <= limit, "more is reserved than there is"
        common = limit - reserved
        assert common or all(share.reserved for share in shares.values()), "no room for some"
        accounts = {
            name: _Account(limit if share.maximum is None else share.maximum, share.reserved)
            for name, share in shares.items()
        }
        for name, account in self._accounts.items():
            if account.busy:
                accounts.setdefault(name, _Account(0, 0)).busy = account.busy
        self._accounts = accounts
        self.limit = limit
        self.common_free = common - sum(max(0, a.busy - a.reserved) for a in accounts.values())
        """How many more may start beyond what is reserved for anybody; below nothing while more
        are in flight than should be."""
        self.strained = self._strained()
        """Whether somebody has more in flight than the shares allow."""

    def busy(self, function: str) -> int:
        return self._accounts[function].busy

    def free(self, function: str) -> int:
        """How many more invocations of the function may start, if no other function's do."""
        account = self._accounts[function]
        own = max(0, account.reserved - account.busy)
        free = min(account.maximum - account.busy, own + max(0, self.common_free))
        if self.common_free < 0:
            free = min(free, self.limit - self._all_busy())
        return max(0, free)

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
            if self.common_free <= 0:
                return False
            self.common_free -= 1
        elif self.common_free < 0 and self._all_busy() >= self.limit:
            return False
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
        if self.strained:
            self.strained = self._strained()

    def _all_busy(self) -> int:
        return sum(account.busy for account in self._accounts.values())

    def _strained(self) -> bool:
        over = any(account.busy > account.maximum for account in self._accounts.values())
        return over or self.common_free < 0
