"""Tumbling windows of a lane: which one a record is in, what is handed on in it, when it ends.

A window is aligned to the epoch and takes the records that arrived in it. The windows of a lane
never overlap and never go back: a record that comes late counts in the one that is open, or, where
that has ended already, in the one after it; one that says it comes from the future arrives now.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from streamfaas.flow import json_text
from streamfaas.flow.batch import Batch
from streamfaas.flow.outcome import Failure, Fault, Success
from streamfaas.flow.pane import Pane, Window
from streamfaas.flow.record import NO_RECORDS, Lane, Record, run_of

STATE_BYTES_MAX = 1024 * 1024
"""What a state may have as JSON; one that grows beyond it ends its window, as on Lambda."""

GRACE_SECONDS = 2.0
"""How long after its end a window still waits for records that arrived in it."""

ERROR_TYPE = "TumblingWindow.NoState"

NO_STATE = b"{}"


@dataclass(frozen=True, slots=True)
class Standing:
    """What of a lane's windows outlives a crash: everything up to `position` is in them. `window`
    is the one that is open (None: there is none), with its `state`, `early` says that it ends
    before its time, and `ending` that its last invocation may have been made. No later one begins
    before `floor_ms`."""

    position: int = -1
    floor_ms: int = 0
    window: Window | None = None
    early: bool = False
    state: bytes = NO_STATE
    ending: bool = False


@dataclass(frozen=True, slots=True)
class Kept:
    """A standing as it was kept: `life` says of which log its positions are, and `durable` which
    checkpoint was known to survive then."""

    standing: Standing
    life: str
    durable: int


def resumed(kept: Kept | None, life: str, checkpoint: int) -> tuple[Standing, str]:
    """How the windows of a lane go on that is read from behind `checkpoint` on; and why the state
    of an open one is lost, where it is. Records up to the standing's position come again, and are
    in the state already."""
    if kept is None:
        return Standing(), ""
    standing, floor_ms = kept.standing, 0
    if kept.life != life:
        why = "the log, or its checkpoint, was made anew"
    elif checkpoint > standing.position:
        floor_ms = standing.floor_ms  # what comes late does not open a window that has ended
        why = f"@{checkpoint} was finished with elsewhere, and the state is of @{standing.position}"
    elif checkpoint < kept.durable:
        why = f"@{kept.durable} was finished with, and it is read from @{checkpoint + 1} on again"
    else:
        return standing, ""
    return Standing(floor_ms=floor_ms), "" if standing.window is None else why


def state_of(answer: Success) -> tuple[bytes, Success] | Failure:
    """The state that an answer hands on, and what else it says; a failure where there is none."""
    try:
        said = json_text.members(answer.answer.decode())
        state = said.pop("state")
    except (ValueError, KeyError) as error:
        told = f"the answer has no state ({error}): return {{'state': {{…}}}}"
        return _no_state(answer, told)
    if not state.startswith("{"):
        return _no_state(answer, "the state of the answer is no JSON object")
    rest = ",".join(f"{json.dumps(key)}:{text}" for key, text in said.items())
    # a line's end is never part of a text in JSON: on one line it can go anywhere
    one_line = state.replace("\r", " ").replace("\n", " ")
    return one_line.encode(), replace(answer, answer=f"{{{rest}}}".encode())


Look = Callable[[Batch], Sequence[Record]]
"""The records of a batch, looked at."""


class Windower:
    """The windows of one lane, one after the other. The caller brings the time, and makes the
    `standing` durable before a checkpoint passes its position."""

    def __init__(self, seconds: float, standing: Standing | None = None) -> None:
        was = standing or Standing()
        self._width_ms = int(seconds * 1000)
        self._position = was.position
        self._floor_ms = was.floor_ms
        self._window = was.window
        self._counts = was.window is not None  # something in it has been finished with
        self._early = was.early
        self._state = was.state
        self._ending = was.ending

    @property
    def standing(self) -> Standing:
        if not self._counts:
            return Standing(self._position, self._floor_ms)
        window, state = self._window, self._state
        return Standing(
            self._position, self._floor_ms, window, self._early, state, ending=self._ending
        )

    @property
    def open(self) -> Window | None:
        """The window that goes on, once anything in it has been finished with."""
        return self._window if self._counts else None

    @property
    def due(self) -> float | None:
        """From when on (epoch seconds) the open window ends by itself."""
        if (window := self.open) is None:
            return None
        now = self._early or self._ending
        return 0.0 if now else window.end_ms / 1000 + GRACE_SECONDS

    def divide(self, batch: Batch, look: Look, now_ms: int) -> tuple[Batch, ...]:
        """What is to be run next, in this order; the first of it knows its pane. Of a batch whose
        records are in several windows that is the part that is in the open one; of one that begins
        in a later window, the last invocation in the open one."""
        batch = replace(batch, pane=None)
        if (self._early or self._ending) and self._counts:
            return self.final(batch.lane), batch
        records = look(batch)
        window = self._opened(records[0], now_ms)
        beyond = _beyond(records, window.end_ms, now_ms)
        if beyond == records[0].position:
            return self.final(batch.lane), batch
        head, tail = (batch, None) if beyond is None else batch.cut(beyond)
        assert head is not None
        laid = replace(head, pane=Pane(window, self._state))
        return (laid,) if tail is None else (laid, tail)

    def final(self, lane: Lane) -> Batch:
        """The last invocation in the open window."""
        assert self.open is not None
        pane = Pane(self.open, self._state, final=True, early=self._early)
        return Batch((run_of(lane, self._position, self._position, NO_RECORDS),), pane=pane)

    def succeeded(self, state: bytes) -> None:
        """The function has answered with a state, to be handed on from here."""
        self._state = state
        self._early = len(state) > STATE_BYTES_MAX

    def settled(self, position: int) -> None:
        """Everything up to there is finished with."""
        self._position = max(position, self._position)
        self._counts = self._window is not None

    def ends(self) -> None:
        """Its last invocation is about to be made: whenever that is made again, it is with the same
        state, and nothing comes into the window any more."""
        assert self.open is not None
        self._ending = True

    def ended(self) -> None:
        """The open window has had its last invocation. One that ended before its time begins
        anew, with a new state."""
        assert self._window is not None
        self._floor_ms = self._window.start_ms if self._early else self._window.end_ms
        self._window, self._counts = None, False
        self._state, self._early, self._ending = NO_STATE, False, False

    def _opened(self, record: Record, now_ms: int) -> Window:
        """The open window, or the one that a record opens."""
        if self._window is None or not self._counts:
            at = max(_arrived(record, now_ms), self._floor_ms)
            start = at - at % self._width_ms
            self._window = Window(max(start, self._floor_ms), start + self._width_ms)
        return self._window


def _beyond(records: Sequence[Record], end_ms: int, now_ms: int) -> int | None:
    """The position of the first record that arrived at `end_ms` or later."""
    if now_ms < end_ms:
        return None
    return next((r.position for r in records if _arrived(r, now_ms) >= end_ms), None)


def _arrived(record: Record, now_ms: int) -> int:
    """When it did; now, where it does not say so, or says what cannot be."""
    return record.timestamp_ms if 0 <= record.timestamp_ms <= now_ms else now_ms


def _no_state(answer: Success, message: str) -> Failure:
    return Failure(Fault.REPORT, ERROR_TYPE, message, until=answer.until, report=answer.report)
