"""Letters sent to a queue of SQS, one message each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import anyio

from streamfaas.flow.errors import TooLarge, Unreachable
from streamfaas.flow.letters import Letter, Payload
from streamfaas.wire.aws import AwsAccess
from streamfaas.wire.messages import message
from streamfaas.wire.opened import Opened
from streamfaas.wire.sqs import Queue


@dataclass(frozen=True, slots=True)
class SqsOptions:
    """One queue, by its name, URL or ARN. `send_seconds` bounds a whole `send`, connecting
    included."""

    access: AwsAccess
    queue: str
    payload: Payload = "json"
    send_seconds: float = 30.0

    def __post_init__(self) -> None:
        assert self.queue
        assert not self.queue.endswith(".fifo")
        assert self.send_seconds > 0


class Sqs:
    """A destination of type `sqs`.

    Delivery: SQS has answered with the message's id before `send` returns; a letter that is sent
    again has the same `streamfaas-id` among its attributes. What is over the queue's
    `MaximumMessageSize` is told of without its payload. Errors: `Unreachable` (nobody answers, or
    not in time), `Busy` (throttled), `Refused` (credentials, permissions), `Gone` (no such queue),
    `TooLarge`. Permissions needed: sqs:SendMessage, sqs:GetQueueAttributes, and sqs:GetQueueUrl
    where the queue is given by its name.
    """

    kind: ClassVar[str] = "sqs"
    per_record: ClassVar[bool] = False
    notes: ClassVar[bool] = True

    def __init__(self, options: SqsOptions) -> None:
        self.name = f"queue {options.queue}"
        self.payload: Payload = options.payload
        self._seconds = options.send_seconds
        self._queue = Opened(lambda: _Known(options))

    async def open(self) -> None:
        """Finds the queue, and how much it takes."""
        try:
            with anyio.fail_after(self._seconds):
                await self._queue.get()
        except TimeoutError as error:
            raise Unreachable(f"{self.name}: not found within {self._seconds:g} s") from error

    async def send(self, letters: Sequence[Letter]) -> None:
        try:
            with anyio.fail_after(self._seconds):
                for letter in letters:
                    await self._deliver(letter)
        except TimeoutError as error:
            raise Unreachable(f"{self.name}: not taken within {self._seconds:g} s") from error

    async def close(self) -> None:
        await self._queue.close()

    async def _deliver(self, letter: Letter) -> None:
        sent, known = message(letter), await self._queue.get()
        if sent.size_bytes > known.bytes_max:
            told = f"{sent.size_bytes} bytes are over the limit of {known.bytes_max}"
            raise TooLarge(f"{self.name}: {told}")
        await known.queue.send(sent.body, attributes=dict(sent.attributes))


class _Known:
    """A queue, and how large its messages may be."""

    def __init__(self, options: SqsOptions) -> None:
        self.queue = Queue(options.access, options.queue)
        self.bytes_max = 0

    async def open(self) -> None:
        await self.queue.open()
        self.bytes_max = (await self.queue.attributes()).message_bytes_max

    async def close(self) -> None:
        await self.queue.close()
