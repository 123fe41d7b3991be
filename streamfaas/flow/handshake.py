"""One worker's life as a table: which word may be said in which state, and what follows."""

from __future__ import annotations

import enum
from collections.abc import Mapping

from streamfaas.flow.errors import ProtocolError


class State(enum.Enum):
    """Where a worker stands."""

    STARTING = "starting"  # forked, jailing itself, importing the handler
    IDLE = "idle"
    BUSY = "busy"
    DRAINING = "draining"  # told to leave
    DEAD = "dead"

    # an enum hashes its name in Python, which is most of what a look-up in the table would cost
    __hash__ = object.__hash__


class Word(enum.IntEnum):
    """What is said on a worker's channel; the numbers are the frame types on the wire.

    Below 16 the daemon speaks, from 16 on the worker, and LOST is the end of the channel itself.
    """

    INVOKE = 1
    EXIT = 2
    READY = 16
    INIT_ERROR = 17
    RESULT = 18
    ERROR = 19
    LOST = 255


TABLE: Mapping[tuple[State, Word], State] = {
    (State.STARTING, Word.READY): State.IDLE,
    (State.STARTING, Word.INIT_ERROR): State.DRAINING,
    (State.STARTING, Word.EXIT): State.DRAINING,
    (State.IDLE, Word.INVOKE): State.BUSY,
    (State.IDLE, Word.EXIT): State.DRAINING,
    (State.BUSY, Word.RESULT): State.IDLE,
    (State.BUSY, Word.ERROR): State.IDLE,
    # a worker that is told to leave may have spoken before it heard
    (State.DRAINING, Word.READY): State.DRAINING,
    (State.DRAINING, Word.INIT_ERROR): State.DRAINING,
    **{(state, Word.LOST): State.DEAD for state in State},
}


class Handshake:
    """The state of one worker. A word that the table does not allow is refused."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state = State.STARTING

    def said(self, word: Word) -> State:
        """Moves on by a word; `ProtocolError` where the table has no such move."""
        try:
            self.state = TABLE[self.state, word]
        except KeyError:
            raise ProtocolError(f"{word.name} while {self.state.value}") from None
        return self.state
