"""Letters handed to another function: each is the event of an asynchronous invocation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

import anyio

from streamfaas.flow.errors import StoreError, TooLarge, Unreachable
from streamfaas.flow.event import EVENT_BYTES_MAX
from streamfaas.flow.letters import Letter, Payload
from streamfaas.flow.trace import TRACEPARENT
from streamfaas.wire.documents import uuid_of

SEND_SECONDS = 30.0


class Accept(Protocol):
    """The durable backlog: returns once the event is kept for good. `hops` are the destinations
    that were passed on the way to the call, `trace` is the context that it goes on from."""

    async def __call__(
        self, function: str, event: bytes, request_id: str, *, hops: int, trace: str
    ) -> object: ...


class Function:
    """A destination of type `function`.

    Delivery: the event is in the backlog, on the disk, before `send` returns. The request id of
    its invocation is the letter's id: what had to be sent again may run twice, but under the same
    one. Errors: `Unreachable` where the backlog cannot be written, `Busy` where it is full,
    `TooLarge` where a document is larger than an event may be. Permissions needed: none.
    """

    kind: ClassVar[str] = "function"
    per_record: ClassVar[bool] = False
    notes: ClassVar[bool] = False
    payload: Payload = "json"

    def __init__(
        self, function: str, accept: Accept, *, send_seconds: float = SEND_SECONDS
    ) -> None:
        self.name = f"function {function}"
        self._function = function
        self._accept = accept
        self._send_seconds = send_seconds

    async def open(self) -> None:
        """Nothing is held open: the backlog is somebody else's."""

    async def send(self, letters: Sequence[Letter]) -> None:
        try:
            with anyio.fail_after(self._send_seconds):
                for letter in letters:
                    self._check(letter)
                    await self._accept(
                        self._function,
                        letter.document,
                        uuid_of(letter),
                        hops=letter.hops,
                        trace=letter.attribute(TRACEPARENT),
                    )
        except TimeoutError as error:
            told = f"{self.name}: not kept within {self._send_seconds:g} s"
            raise Unreachable(told) from error
        except StoreError as error:
            raise Unreachable(f"{self.name}: {error}") from error

    async def close(self) -> None:
        """Nothing is open."""

    def _check(self, letter: Letter) -> None:
        size = len(letter.document)
        if size > EVENT_BYTES_MAX:
            told = f"a document of {size} bytes is over the limit of an event, {EVENT_BYTES_MAX}"
            raise TooLarge(f"{self.name}: {told}")
