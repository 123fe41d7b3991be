"""A test event of an object store: a notification of an object that nobody has put anywhere."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import md5

from streamfaas.flow.errors import CannotSend
from streamfaas.sources import Message, Sent
from streamfaas.sources.objects.inbox import Inbox
from streamfaas.wire.s3_event import (
    CREATED,
    KEY_BYTES_MAX,
    Notification,
    S3Change,
    notification,
)
from streamfaas.wire.s3_fields import Malformed
from streamfaas.wire.s3_notifications import notifications


@asynccontextmanager
async def sender(inbox: Inbox, bucket: str, prefix: str, suffix: str) -> AsyncIterator[_Sender]:
    """A way into an inbox, past the store. A message that is a notification is taken as it is; of
    any other one an object of that content is told."""
    yield _Sender(inbox, bucket, prefix, suffix)


class _Sender:
    def __init__(self, inbox: Inbox, bucket: str, prefix: str, suffix: str) -> None:
        self.target = f"the inbox (bucket {bucket}; nothing is put there)"
        self._inbox = inbox
        self._bucket = bucket
        self._prefix = prefix.encode()
        self._suffix = suffix.encode()

    async def send(self, message: Message) -> Sent:
        if message.headers or message.partition is not None or message.value is None:
            raise CannotSend("an object has a key and a content, no headers and no partition")
        told = _as_it_is(message.value) or self._made(message.key, message.value)
        shown = told.key.decode("utf-8", "backslashreplace")
        if not self._inbox.wants(told):
            raise CannotSend(f"the trigger does not want {told.name} of {told.bucket}/{shown}")
        if not await self._inbox.take([told]):
            raise CannotSend("it has come before: what comes again within a day is not run again")
        return Sent(f"{told.bucket}/{shown}", key=told.key)

    def _made(self, key: bytes | None, content: bytes) -> Notification:
        number = secrets.token_hex(8)
        key = key or self._prefix + b"test-%s" % number[:8].encode() + self._suffix
        if len(key) > KEY_BYTES_MAX:
            raise CannotSend(f"a key has {KEY_BYTES_MAX:,} bytes at most")
        return notification(
            S3Change(
                bucket=self._bucket,
                key=key,
                name=CREATED,
                time_ms=None,
                etag=md5(content, usedforsecurity=False).hexdigest(),
                size=len(content),
                request_id=number.upper(),
                configuration="streamfaas send",
                principal="streamfaas",
            )
        )


def _as_it_is(value: bytes) -> Notification | None:
    try:
        found = notifications(value)
    except Malformed:
        return None
    return found[0] if len(found) == 1 else None
