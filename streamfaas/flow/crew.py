"""The workers of one definition of a function, as the roster counts them."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto

from streamfaas.flow.admission import Share
from streamfaas.flow.handshake import State
from streamfaas.flow.record import Instant

NEVER = Instant(math.inf)


class Standing(Enum):
    """A definition is prepared, is in force, and is replaced by the next one."""

    COMING = auto()
    IN_FORCE = auto()
    REPLACED = auto()


@dataclass(slots=True, eq=False)
class Member:
    """One worker."""

    number: int
    crew: Crew
    state: State = State.STARTING
    fresh: bool = True  # it has not been given an invocation yet
    since: Instant = Instant(0.0)  # idle from then on


@dataclass(slots=True, eq=False)
class Crew:
    """All of them, and the tickets that wait for one."""

    name: str
    share: Share
    standing: Standing = Standing.IN_FORCE
    idle: list[Member] = field(default_factory=list)  # last used on top
    waiting: deque[int] = field(default_factory=deque)  # tickets, oldest first
    unnumbered: int = 0  # planned starts that the pool has not numbered yet
    starting: int = 0  # these included
    alive: int = 0  # starting, idle and busy; not those told to leave
    failures: int = 0  # starts that failed in a row
    not_before: Instant = Instant(0.0)  # the next start
    used: Instant = Instant(-math.inf)  # when an invocation last ended
    short: Instant = NEVER  # since when there is no memory for its first worker

    @property
    def oldest(self) -> int:
        """Of the tickets; there must be one."""
        return self.waiting[0]
