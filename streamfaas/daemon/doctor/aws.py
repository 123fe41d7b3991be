"""What doctor tries of AWS services: each stream that a trigger reads is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from streamfaas.config.connections import AwsConnection
from streamfaas.config.spec import Config
from streamfaas.config.triggers import KinesisTrigger
from streamfaas.daemon.access import aws_access
from streamfaas.daemon.doctor import Check, Finding, bad, ok
from streamfaas.flow.errors import Gone, Refused, WorldError

_AWAY = "look at `endpoint_url`, the network and the firewall"
_DENIED = "look at the credentials, and what they permit: kinesis:DescribeStreamSummary, ListShards"
_NONE = "make it, or correct `stream` and `region`"


def checks(config: Config) -> list[Check]:
    """One for each trigger that reads a stream."""
    return [
        Check(
            f"{function}/{name}",
            _Stream(f"{function}/{name}", connection, trigger),
            seconds=30.0,
            code="SF3046",
        )
        for function, name, trigger in config.mappings()
        if isinstance(trigger, KinesisTrigger)
        and isinstance(connection := config.connections[trigger.connection], AwsConnection)
    ]


@dataclass(frozen=True, slots=True)
class _Stream:
    name: str
    connection: AwsConnection
    trigger: KinesisTrigger

    async def __call__(self) -> Sequence[Finding]:
        from streamfaas.wire.kinesis import Stream

        asked = self.trigger.stream
        stream = Stream(aws_access(self.connection), asked)
        try:
            await stream.open()
            described = await stream.describe()
            shards = await stream.shards()
        except WorldError as error:
            remedy = {Gone: _NONE, Refused: _DENIED}.get(type(error), _AWAY)
            return [bad(self.name, f"{self.name}: {error}", remedy, "SF3046")]
        finally:
            await stream.close()
        closed = sum(each.closed for each in shards)
        told = f"{self.name} stream {asked}: {len(shards) - closed} shards open, {closed} closed"
        hours = described.retention_seconds / 3600
        return [ok(self.name, f"{told}; keeps {hours:.0f} h")]
