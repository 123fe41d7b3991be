"""What doctor tries of buckets: each that a trigger lists is listed, as far as its first key, and
each that it hears of is listened to for a moment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import anyio

from streamfaas.config.connections import AwsConnection
from streamfaas.config.object_stores import ObjectStoreTrigger, ObjectStreamTrigger, listed_by
from streamfaas.config.spec import Config
from streamfaas.daemon.access import aws_access
from streamfaas.daemon.doctor import Check, Finding, bad, ok
from streamfaas.flow.errors import Gone, Refused, WorldError

HEARD_SECONDS = 1.0
"""After so long a store that does not know what is asked for has answered something else."""

_AWAY = "look at `endpoint_url`, the network and the firewall"
_DENIED = "look at the credentials, and what they permit: "
_NONE = "make it, or correct `bucket` and `endpoint_url`"
_DEAF = (
    "with a store that does not know MinIO's ListenNotification take `via: poll` or webhook; else "
    + _DENIED
    + "s3:ListenBucketNotification"
)


def checks(config: Config) -> list[Check]:
    """One for each bucket that a trigger lists, and one for each that it listens to."""
    return list(_checks(config))


def _checks(config: Config) -> Iterator[Check]:
    for function, name, trigger in config.mappings():
        if not isinstance(trigger, ObjectStoreTrigger):
            continue
        connection = config.connections.get(listed_by(trigger) or "")
        if not isinstance(connection, AwsConnection):
            continue
        who = f"{function}/{name}"
        for bucket in trigger.bucket:
            listing = _Listing(who, connection, bucket, trigger.prefix)
            yield Check(who, listing, seconds=30.0, code="SF3052")
            if isinstance(trigger, ObjectStreamTrigger):
                stream = _Stream(who, connection, bucket, trigger)
                yield Check(who, stream, seconds=30.0, code="SF3053")


@dataclass(frozen=True, slots=True)
class _Listing:
    name: str
    connection: AwsConnection
    bucket: str
    prefix: str

    async def __call__(self) -> Sequence[Finding]:
        from streamfaas.wire.s3 import Bucket

        bucket = Bucket(aws_access(self.connection), self.bucket)
        try:
            await bucket.open()
            async with aclosing(bucket.pages(self.prefix, limit=1)) as pages:
                page = await anext(pages)
        except WorldError as error:
            remedy = {Gone: _NONE, Refused: f"{_DENIED}s3:ListBucket"}.get(type(error), _AWAY)
            return [bad(self.name, f"{self.name}: {error}", remedy, "SF3052")]
        finally:
            await bucket.close()
        told = "has objects" if page.objects else "has no objects"
        below = f" below {self.prefix}" if self.prefix else ""
        return [ok(self.name, f"{self.name} bucket {self.bucket}: is listed, and {told}{below}")]


@dataclass(frozen=True, slots=True)
class _Stream:
    name: str
    connection: AwsConnection
    bucket: str
    trigger: ObjectStreamTrigger

    async def __call__(self) -> Sequence[Finding]:
        from streamfaas.wire.s3 import Bucket

        asked, bucket = self.trigger, Bucket(aws_access(self.connection), self.bucket)
        try:
            await bucket.open()
            async with bucket.listen(asked.events, asked.prefix, asked.suffix) as lines:
                with anyio.move_on_after(HEARD_SECONDS):
                    await anext(lines, None)
        except WorldError as error:
            remedy = {Gone: _NONE, Refused: _DEAF}.get(type(error), _AWAY)
            return [bad(self.name, f"{self.name}: {error}", remedy, "SF3053")]
        finally:
            await bucket.close()
        return [ok(self.name, f"{self.name} bucket {self.bucket}: tells what happens")]
