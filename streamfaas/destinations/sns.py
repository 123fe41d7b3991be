"""Letters published to a topic of SNS, one message each."""

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
from streamfaas.wire.sns import Topic

MESSAGE_BYTES_MAX = 256 * 1024
"""What SNS takes, attributes included."""


@dataclass(frozen=True, slots=True)
class SnsOptions:
    """One topic. `send_seconds` bounds a whole `send`, connecting included."""

    access: AwsAccess
    topic_arn: str
    payload: Payload = "json"
    send_seconds: float = 30.0

    def __post_init__(self) -> None:
        assert self.topic_arn.startswith("arn:")
        assert not self.topic_arn.endswith(".fifo")
        assert self.send_seconds > 0


class Sns:
    """A destination of type `sns`.

    Delivery: SNS has answered with the message's id before `send` returns; a letter that is sent
    again has the same `streamfaas-id` among its attributes. What is over 256 KB is told of without
    its payload. Errors: `Unreachable` (nobody answers, or not in time), `Busy` (throttled),
    `Refused` (credentials, permissions), `Gone` (no such topic), `TooLarge`. Permissions needed:
    sns:Publish; sns:GetTopicAttributes for `doctor`.
    """

    kind: ClassVar[str] = "sns"
    per_record: ClassVar[bool] = False
    notes: ClassVar[bool] = True

    def __init__(self, options: SnsOptions) -> None:
        self.name = options.topic_arn
        self.payload: Payload = options.payload
        self._seconds = options.send_seconds
        self._topic = Opened(lambda: Topic(options.access, options.topic_arn))

    async def open(self) -> None:
        """Makes ready; the first connection is made by the first letter."""
        await self._topic.get()

    async def send(self, letters: Sequence[Letter]) -> None:
        try:
            with anyio.fail_after(self._seconds):
                for letter in letters:
                    await self._publish(letter)
        except TimeoutError as error:
            raise Unreachable(f"{self.name}: not taken within {self._seconds:g} s") from error

    async def close(self) -> None:
        await self._topic.close()

    async def _publish(self, letter: Letter) -> None:
        sent = message(letter)
        if sent.size_bytes > MESSAGE_BYTES_MAX:
            told = f"{sent.size_bytes} bytes are over the limit of {MESSAGE_BYTES_MAX}"
            raise TooLarge(f"{self.name}: {told}")
        topic = await self._topic.get()
        await topic.publish(sent.body, sent.attributes)
