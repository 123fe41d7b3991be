"""One call of one function: what, with which event, for how long, for whom."""

from __future__ import annotations

import enum

from streamfaas.flow.event import Event
from streamfaas.flow.record import Lane
from streamfaas.flow.trace import Context
from streamfaas.flow.value import value


class Manner(enum.Enum):
    """Who waits for the answer."""

    SYNC = "sync"
    ASYNC = "async"
    STREAM = "stream"


@value
class Invocation:
    """`id` is the request id that the handler sees. The timeout runs from the hand-over to a
    worker, not from here: waiting for a worker is no fault of the function. `context` is what the
    function's own spans belong to."""

    id: str
    function: str
    event: Event
    manner: Manner = Manner.STREAM
    lane: Lane | None = None
    attempt: int = 0
    client_context: bytes = b""
    context: Context | None = None
