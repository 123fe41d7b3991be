"""What doctor tries of buckets: each that a trigger lists is listed, as far as its first key."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass

from streamfaas.config.connections import AwsConnection
from streamfaas.config.object_stores import ObjectStoreTrigger, listed_by
from streamfaas.config.spec import Config
from streamfaas.daemon.access import aws_access
from streamfaas.daemon.doctor import Check, Finding, bad, ok
from streamfaas.flow.errors import Gone, Refused, WorldError

_AWAY = "look at `endpoint_url`, the network and the firewall"
_DENIED = "look at the credentials, and what they permit: s3:ListBucket"
_NONE = "make it, or correct `bucket` and `endpoint_url`"


def checks(config: Config) -> list[Check]:
    """One for each bucket that a trigger lists."""
    return [
        Check(
            f"{function}/{name}",
            _Listing(f"{function}/{name}", connection, bucket, trigger.prefix),
            seconds=30.0,
            code="SF3052",
        )
        for function, name, trigger in config.mappings()
        if isinstance(trigger, ObjectStoreTrigger)
        and isinstance(
            connection := config.connections.get(listed_by(trigger) or ""), AwsConnection
        )
        for bucket in trigger.bucket
    ]


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
            remedy = {Gone: _NONE, Refused: _DENIED}.get(type(error), _AWAY)
            return [bad(self.name, f"{self.name}: {error}", remedy, "SF3052")]
        finally:
            await bucket.close()
        told = "has objects" if page.objects else "has no objects"
        below = f" below {self.prefix}" if self.prefix else ""
        return [ok(self.name, f"{self.name} bucket {self.bucket}: is listed, and {told}{below}")]
