"""What outsiders write down while a history goes on: its ledgers, and its story."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from proof.ledgers import (
    Acknowledged,
    Committed,
    Executed,
    Forgone,
    Harmed,
    Ledgers,
    LeftOpen,
    Parting,
    Produced,
    Scraped,
    SetAside,
)


class Story:
    """Lines of who did what at what time. Put into words only when somebody reads them."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._told: list[tuple[float, str, str, tuple[object, ...]]] = []

    def tell(self, who: str, what: str, *more: object) -> None:
        self._told.append((self._clock(), who, what, more))

    def __len__(self) -> int:
        return len(self._told)

    def __str__(self) -> str:
        return "\n".join(
            f"{at:10.3f}  {who:<14} {what.format(*more)}" for at, who, what, more in self._told
        )


@dataclass(slots=True)
class Books:
    """The ledgers while they are being written."""

    clock: Callable[[], float]
    produced: list[Produced] = field(default_factory=list)
    executed: list[dict[str, Any]] = field(default_factory=list)
    committed: list[Committed] = field(default_factory=list)
    acknowledged: list[Acknowledged] = field(default_factory=list)
    set_aside: list[SetAside] = field(default_factory=list)
    answered: list[SetAside] = field(default_factory=list)
    scraped: list[Scraped] = field(default_factory=list)
    harmed: list[Harmed] = field(default_factory=list)
    finals: list[dict[str, Any]] = field(default_factory=list)
    partings: list[Parting] = field(default_factory=list)
    forgone: list[Forgone] = field(default_factory=list)
    left_open: list[LeftOpen] = field(default_factory=list)
    sought: bool = False
    """Somebody wanted lanes to be read from elsewhere: what is in hand of them then is dropped, and
    what daemons say of themselves does not add up any more."""
    _left: dict[int, tuple[int, ...]] = field(default_factory=dict)  # behind, of partitions

    def leave_behind(self, partition: int) -> None:
        """What was done of it so far counts no more: it begins anew."""
        done = (self.executed, self.committed, self.set_aside, self.answered)
        in_windows = (self.finals, self.partings, self.forgone)
        self._left[partition] = tuple(map(len, (*done, *in_windows)))

    def begin(self, **row: Any) -> dict[str, Any]:
        """An execution has begun; its end is written into what is given back."""
        number = len(self.executed) + len(self.finals) + 1
        row |= {"execution": f"x{number}", "start": self.clock()}
        (self.executed if row["stretches"] else self.finals).append(row)
        return row

    def end(self, row: dict[str, Any], outcome: str, **more: Any) -> None:
        row.update(end=self.clock(), outcome=outcome, **more)

    def harm(self, kind: str, component: str, start: float | None = None) -> int:
        """Writes that it was done and has taken effect; the number of the row."""
        now = self.clock()
        self.harmed.append(Harmed(kind, component, now if start is None else start, now))
        return len(self.harmed) - 1

    def kill_worker(self, execution: dict[str, Any]) -> None:
        """Its worker is gone, before anybody heard how it ended."""
        now, name = self.clock(), execution["execution"]
        self.harmed.append(Harmed("worker-kill", execution["worker"], now, now, name))

    def ledgers(self) -> Ledgers:
        executed = [Executed(**row) for row in self.executed]
        return Ledgers(
            tuple(self.produced),
            self._since(0, executed),
            self._since(1, self.committed),
            self._since(2, self.set_aside),
            tuple(self.harmed),
            tuple(self.acknowledged),
            self._since(3, self.answered),
            () if self.sought else tuple(self.scraped),
            self._since(4, [Executed(**row) for row in self.finals]),
            self._since(5, self.partings),
            self._since(6, self.forgone),
            tuple(self.left_open),
        )

    def _since(self, which: int, rows: list[Any]) -> tuple[Any, ...]:
        none = (0,) * 7
        return tuple(
            row for at, row in enumerate(rows) if at >= self._left.get(row.partition, none)[which]
        )


def digest_of(prints: list[bytes]) -> str:
    return hashlib.sha256(b"".join(prints)).hexdigest()
