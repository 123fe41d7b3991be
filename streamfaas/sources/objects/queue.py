"""Notifications that a store, a topic or EventBridge sends to an SQS queue."""

from __future__ import annotations

import anyio

from streamfaas.sources.objects.feed import Means
from streamfaas.sources.objects.inbox import Inbox
from streamfaas.telemetry.signals import SourceChanged
from streamfaas.wire.aws import AwsAccess
from streamfaas.wire.s3_notifications import carrier_of
from streamfaas.wire.sqs import BATCH_MAX, WAIT_SECONDS_MAX, Queue

HELPERS = 3
"""Receivers beside the one that waits for messages: they work while a queue is not empty."""


class QueueFeed:
    """A feed from one queue: messages are deleted once the inbox has what is in them. While it is
    full none are received, so that a queue's own limit of deliveries is not used up.

    Delivery: at least once. Errors: `WorldError`s of the queue. Permissions needed:
    sqs:GetQueueUrl, sqs:ReceiveMessage, sqs:DeleteMessage.
    """

    def __init__(self, access: AwsAccess, queue: str, via: str, means: Means) -> None:
        """`via` is what is said to be between the store and the queue."""
        self.name = f"the queue {queue}"
        self.trouble: str | None = None
        self._via = via
        self._means = means
        self._access = access
        self._asked = queue
        self._queue = Queue(access, queue)
        self._more = anyio.Event()

    async def open(self) -> None:
        self.trouble = None
        self._queue = Queue(self._access, self._asked)
        await self._queue.open()

    async def run(self, inbox: Inbox) -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(HELPERS):
                tasks.start_soon(self._help, inbox)
            wait_seconds = 0  # at first: until it has answered nobody knows whether it does
            while True:
                if await self._receive(inbox, wait_seconds) == BATCH_MAX:
                    self._more.set()
                wait_seconds = WAIT_SECONDS_MAX

    async def close(self) -> None:
        await self._queue.close()

    async def _help(self, inbox: Inbox) -> None:
        while True:
            await self._more.wait()
            if not await self._receive(inbox, 0) and self._more.is_set():
                self._more = anyio.Event()

    async def _receive(self, inbox: Inbox, wait_seconds: int) -> int:
        """How many messages there were."""
        await inbox.wait_for_room()
        messages = await self._queue.receive(BATCH_MAX, wait_seconds)
        if self.trouble is None:
            self.trouble = ""
            self._means.changed()
        if messages:
            bodies = [message["Body"].encode() for message in messages]
            self._compare(bodies[0])
            await inbox.deliver(bodies)
            # what could not be deleted comes again, and is known then
            await self._queue.delete_batch([message["ReceiptHandle"] for message in messages])
        return len(messages)

    def _compare(self, body: bytes) -> None:
        """Whatever carries them, notifications are taken; that it is not what was said is told."""
        found = carrier_of(body)
        if found not in {"", self._via}:
            remark = (
                f"{self.name}: messages come as by via: {found}, and not as by via: {self._via}"
            )
            self._via = found  # once
            self._means.emit(SourceChanged(self._means.name, "running", remark))
