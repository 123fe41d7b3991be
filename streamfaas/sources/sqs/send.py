"""A test event for a queue."""

from __future__ import annotations

import uuid

from streamfaas.flow.errors import CannotSend
from streamfaas.sources import Message, Sent
from streamfaas.wire.sqs import Queue

GROUP = "streamfaas"
"""The message group of what is sent to a FIFO queue without one."""


class QueueSender:
    """Puts messages into a queue. Permissions needed: sqs:SendMessage."""

    def __init__(self, queue: Queue) -> None:
        self.target = f"queue {queue.short_name}"
        self._queue = queue

    async def send(self, message: Message) -> Sent:
        if message.value is None or message.partition is not None:
            raise CannotSend("a message has a body, and there are no partitions")
        if message.key is not None and not self._queue.fifo:
            raise CannotSend("a key is a message group, which FIFO queues alone have")
        try:
            body = message.value.decode()
            group = GROUP if message.key is None else message.key.decode()
            attributes = {name: value.decode() for name, value in message.headers}
        except UnicodeDecodeError as error:
            raise CannotSend("the body, group and attributes of a message are text") from error
        sent = await self._queue.send(
            body,
            attributes=attributes,
            group=group if self._queue.fifo else None,
            deduplication=uuid.uuid4().hex if self._queue.fifo else None,
        )
        return Sent(f"{self._queue.short_name} {sent}", key=sent.encode())
