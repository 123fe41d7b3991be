"""What is remembered of messages that went back: why, and whether they count; pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from streamfaas.flow.record import Instant
from streamfaas.sources import Held
from streamfaas.sources.sqs.message import Message

T = TypeVar("T")

KNOWN_MAX = 10_000
SHOWN_MAX = 1_000
"""How many are remembered; then the oldest are forgotten."""

MARGIN_SECONDS = 60.0
"""For so long after it is to be had again a message that failed is waited for: then it is
elsewhere."""


@dataclass(slots=True)
class _Failed:
    held: Held
    until: Instant


@dataclass(slots=True)
class _Suspect:
    left: int
    until: Instant


class Returned:
    """A queue counts whatever it hands out. What was handed out and not run is remembered here, as
    long as this process lives, so that it does not count as a failure.

    `suspects`: groups of a FIFO queue of which something has failed. As long as there are any,
    messages are received one by one: those behind what fails would be counted with it each time,
    and would end in the dead-letter queue with it, unrun.
    """

    def __init__(self, *, fifo: bool) -> None:
        self._fifo = fifo
        self._unrun: dict[str, int] = {}
        self._failed: dict[str, _Failed] = {}
        self._suspects: dict[str, _Suspect] = {}

    def unrun(self, messages: Sequence[Message]) -> None:
        """They go back as if they had never come."""
        for each in messages:
            self._unrun[each.id] = self._unrun.pop(each.id, 0) + 1
        _bound(self._unrun, KNOWN_MAX)

    def deliveries(self, id_: str, receives: int) -> int:
        """How often a message was run before, which comes now for so many times."""
        return max(0, receives - 1 - self._unrun.get(id_, 0))

    def failed(
        self,
        messages: Sequence[Message],
        at: Instant,
        reason: str,
        until: Instant,
        moved: Collection[str] = (),
    ) -> None:
        """They go back, since they failed, to be tried again from `at` on; are they not here by
        `until` they are elsewhere. Those that are `moved` go to the dead-letter queue instead."""
        for each in messages:
            key = each.group or "" if self._fifo else each.id
            self._failed.pop(key, None)
            known_until = at if each.id in moved else until
            self._failed[key] = _Failed(Held(each.deliveries + 1, reason, at), known_until)
        if self._fifo:
            group = messages[0].group or ""
            known = self._suspects.pop(group, None)
            left = max(len(messages), known.left if known else 0) - len(moved)
            if left > 0:
                self._suspects[group] = _Suspect(left, until)
        _bound(self._failed, SHOWN_MAX)
        _bound(self._suspects, SHOWN_MAX)

    def finished(self, messages: Sequence[Message]) -> None:
        for each in messages:
            self._unrun.pop(each.id, None)
            self._failed.pop(each.group or "" if self._fifo else each.id, None)
        if self._suspects:
            group = messages[0].group or ""
            suspect = self._suspects.get(group)
            if suspect is not None:
                suspect.left -= len(messages)
                if suspect.left <= 0:
                    del self._suspects[group]

    def suspects(self, now: Instant) -> bool:
        """Whether there are any."""
        for group in [group for group, each in self._suspects.items() if each.until <= now]:
            del self._suspects[group]
        return bool(self._suspects)

    def held(self, now: Instant) -> Mapping[str, Held]:
        """What has failed and was not seen since."""
        for key in [key for key, each in self._failed.items() if each.until <= now]:
            del self._failed[key]
        return {key: each.held for key, each in self._failed.items()}


def _bound(known: dict[str, T], most: int) -> None:
    while len(known) > most:
        del known[next(iter(known))]
