"""An SNS topic: whether it is there, and messages published to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio

from streamfaas.flow.errors import Refused
from streamfaas.wire import aws
from streamfaas.wire.aws import AwsAccess

CALL_SECONDS = 60.0
"""How long one request may take, with the client's own tries."""


class Topic:
    """One topic, by its ARN. Errors of all methods are `WorldError`s: `Gone` where there is no such
    topic."""

    def __init__(self, access: AwsAccess, arn: str) -> None:
        self.arn = arn
        self._access = access
        self._life = AsyncExitStack()
        self._client: Any = None

    async def open(self) -> None:
        """Must be closed, whatever becomes of it."""
        self._client = await aws.client("sns", self._access, self._life)

    async def close(self) -> None:
        await self._life.aclose()

    async def subscriptions(self) -> int:
        """How many have confirmed that they want its messages."""
        async with self._asking("GetTopicAttributes"):
            answer = await self._client.get_topic_attributes(TopicArn=self.arn)
            return int(answer["Attributes"].get("SubscriptionsConfirmed", 0))

    async def publish(self, message: str, attributes: Mapping[str, Mapping[str, str]]) -> str:
        """Returns once the topic has the message; its id."""
        async with self._asking("Publish"):
            answer = await self._client.publish(
                TopicArn=self.arn, Message=message, MessageAttributes=attributes
            )
            return str(answer["MessageId"])

    @asynccontextmanager
    async def _asking(self, operation: str) -> AsyncIterator[None]:
        assert self._client is not None
        try:
            with anyio.fail_after(CALL_SECONDS):
                yield
        except aws.ERRORS as error:
            raise aws.translated(error, f"{operation} of {self.arn}") from error
        except KeyError as error:  # an answer that is not what the service promises
            raise Refused(f"{operation} of {self.arn}: no {error} in the answer") from error
