"""Messages that were received become batches: of one message group, or of equal past; pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from streamfaas.flow.batch import BatchPolicy
from streamfaas.flow.record import Instant
from streamfaas.sources.sqs.message import Message

APART_MAX = 16
"""What has failed once goes in batches of less than this, …"""

ALONE = -1

Key: TypeAlias = "str | int"
"""A message group of a FIFO queue; of another, how often its messages have failed, or `ALONE`."""


@dataclass(slots=True)
class _Pile:
    held: deque[tuple[Message, Instant]] = field(default_factory=deque)
    wanted: int = 0
    weight: int = 0

    def add(self, message: Message, now: Instant) -> None:
        self.held.append((message, now))
        self.wanted += message.wanted
        self.weight += message.record.weight

    def take(self) -> Message:
        message, _ = self.held.popleft()
        self.wanted -= message.wanted
        self.weight -= message.record.weight
        return message


class Gathering:
    """Everything added comes out again in one batch, in rising positions. The caller brings time.

    Messages of a standard queue that have failed before go with those that failed as often, and
    (`apart`) in smaller batches each time, down to one: what makes a batch fail is then known
    before its neighbours have been handed out too often. Those of a FIFO queue go by their groups,
    as they were received. What is `alone` goes so.
    """

    def __init__(self, policy: BatchPolicy, *, fifo: bool, apart: bool) -> None:
        self._policy = policy
        self._fifo = fifo
        self._apart = apart
        self._piles: dict[Key, _Pile] = {}

    def __len__(self) -> int:
        return sum(len(pile.held) for pile in self._piles.values())

    def __iter__(self) -> Iterator[Message]:
        return (message for pile in self._piles.values() for message, _ in pile.held)

    @property
    def batches(self) -> int:
        """How many there are, with those that are not full yet."""
        return sum(-(-len(pile.held) // self.limit(key)) for key, pile in self._piles.items())

    @property
    def shortfall(self) -> int:
        """How many more messages fit into the batch that is being gathered."""
        pile = self._piles.get(0)
        if pile is None or self._fifo or pile.weight >= self._policy.event_bytes_max:
            return 0
        return max(0, self._policy.records_max - pile.wanted)

    def limit(self, key: Key) -> int:
        """Messages of a batch."""
        most = self._policy.records_max
        if key == ALONE:
            return 1
        if not isinstance(key, int) or not key or not self._apart:
            return most
        return max(1, min(most, APART_MAX) >> min(key, APART_MAX))

    def add(self, message: Message, now: Instant) -> None:
        key: Key = ALONE if message.alone else message.deliveries
        key = message.group or "" if self._fifo else key
        self._piles.setdefault(key, _Pile()).add(message, now)

    def due(self, busy: Container[Key]) -> Instant | None:
        """From when on `take` gives a batch; None while nothing can come of what is there."""
        times = [self._due(key, pile) for key, pile in self._piles.items() if key not in busy]
        return min(times, default=None)

    def take(self, now: Instant, busy: Container[Key]) -> tuple[Message, ...]:
        """The batch that was due first; none where none is. Groups that are `busy` have to wait:
        what is before them is not finished with."""
        due = self.due(busy)
        if due is None or due > now:
            return ()
        key, pile = next(
            (key, pile)
            for key, pile in self._piles.items()
            if key not in busy and self._due(key, pile) == due
        )
        batch = self._filled(pile, self.limit(key))
        if not pile.held:
            del self._piles[key]
        return tuple(sorted(batch, key=_position))

    def clear(self) -> list[Message]:
        """All that is there; nothing is any more."""
        left = list(self)
        self._piles.clear()
        return left

    def drop(self, key: Key) -> list[Message]:
        """What there is of it; it is there no more."""
        pile = self._piles.pop(key, _Pile())
        return [message for message, _ in pile.held]

    def _due(self, key: Key, pile: _Pile) -> Instant:
        policy, (_, arrived) = self._policy, pile.held[0]
        full = pile.wanted >= self.limit(key) or pile.weight >= policy.event_bytes_max
        waits = not (full or self._fifo)
        return Instant(arrived + policy.window_seconds) if waits else arrived

    def _filled(self, pile: _Pile, limit: int) -> list[Message]:
        if self._fifo:
            pile.held = deque(sorted(pile.held, key=lambda each: each[0].position))
        batch = [pile.take()]
        wanted, weight = int(batch[0].wanted), batch[0].record.weight
        while pile.held and not (batch[0].alone or pile.held[0][0].alone):
            message, _ = pile.held[0]
            weight += message.record.weight
            wanted += message.wanted
            if wanted > limit or weight > self._policy.event_bytes_max:
                break
            batch.append(pile.take())
        return batch


def _position(message: Message) -> int:
    return message.position
