"""What doctor tries of queues, topics and buckets that letters go to: each is asked for, and none
is sent anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from streamfaas.config.connections import AwsConnection
from streamfaas.config.delivery import S3Destination, SnsDestination, SqsDestination
from streamfaas.config.spec import Config
from streamfaas.daemon.access import aws_access
from streamfaas.daemon.doctor import Check, Finding, bad, ok, warn
from streamfaas.flow.errors import Gone, Refused, WorldError

CODE = "SF3060"

_REMEDIES: dict[type[WorldError], str] = {
    Gone: "make it, or correct its name and `region`",
    Refused: "look at the credentials, and what they permit: `streamfaas explain SF3060`",
}
_AWAY = "look at `endpoint_url`, the network and the firewall"


def checks(config: Config) -> list[Check]:
    """One for each queue, topic and bucket, however many triggers send to it."""
    asked = [
        _Taker(connection, destination)
        for _, destination in config.destinations()
        if isinstance(destination, (SqsDestination, SnsDestination, S3Destination))
        and isinstance(connection := config.connections[destination.connection], AwsConnection)
    ]
    return [Check(each.name, each, seconds=30.0, code=CODE) for each in dict.fromkeys(asked)]


@dataclass(frozen=True, slots=True)
class _Taker:
    connection: AwsConnection
    destination: SqsDestination | SnsDestination | S3Destination

    @property
    def name(self) -> str:
        match self.destination:
            case SqsDestination(queue=queue):
                return f"queue {queue}"
            case SnsDestination(topic=topic):
                return f"topic {topic}"
            case S3Destination(bucket=bucket):
                return f"bucket {bucket}"

    async def __call__(self) -> Sequence[Finding]:
        try:
            return [await self._looked()]
        except WorldError as error:
            remedy = _REMEDIES.get(type(error), _AWAY)
            return [bad(self.name, f"{self.name}: {error}", remedy, CODE)]

    async def _looked(self) -> Finding:
        match self.destination:
            case SqsDestination(queue=queue):
                return await self._queue(queue)
            case SnsDestination(topic=topic):
                return await self._topic(topic)
            case S3Destination(bucket=bucket):
                return await self._bucket(bucket)

    async def _queue(self, name: str) -> Finding:
        from streamfaas.wire.sqs import Queue

        queue = Queue(aws_access(self.connection), name)
        try:
            await queue.open()
            limit = (await queue.attributes()).message_bytes_max
        finally:
            await queue.close()
        return ok(self.name, f"{self.name}: takes letters of up to {limit / 1024:.0f} KB")

    async def _topic(self, arn: str) -> Finding:
        from streamfaas.wire.sns import Topic

        topic = Topic(aws_access(self.connection), arn)
        try:
            await topic.open()
            count = await topic.subscriptions()
        finally:
            await topic.close()
        if count == 0:
            told = f"{self.name}: nobody has subscribed: letters to it are lost"
            return warn(self.name, told, "subscribe a queue to it, and confirm that", CODE)
        return ok(self.name, f"{self.name}: letters go to {count} who have subscribed")

    async def _bucket(self, name: str) -> Finding:
        from streamfaas.wire.s3 import Bucket

        bucket = Bucket(aws_access(self.connection), name)
        try:
            await bucket.open()
            await bucket.look()
        finally:
            await bucket.close()
        return ok(self.name, f"{self.name}: is there")
