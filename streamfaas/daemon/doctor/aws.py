"""What doctor tries of AWS services: each stream that a trigger reads is asked for, and read."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamfaas.config.connections import AwsConnection
from streamfaas.config.spec import Config
from streamfaas.config.streams import DynamoDbTrigger, KinesisTrigger
from streamfaas.daemon.access import aws_access
from streamfaas.daemon.doctor import Check, Finding, bad, ok
from streamfaas.flow.errors import Gone, Mistaken, Refused, WorldError

if TYPE_CHECKING:
    from streamfaas.flow.leases import Lease
    from streamfaas.wire.shards import Described, Shard, Stream

_AWAY = "look at `endpoint_url`, the network and the firewall"
_DENIED = "look at the credentials, and what they permit: "
_KINESIS = "kinesis:DescribeStreamSummary, ListShards, GetShardIterator, GetRecords"
_DYNAMODB = "dynamodb:DescribeTable, DescribeStream, GetShardIterator, GetRecords"
_LEASES = "dynamodb:DescribeTable, Scan, GetItem, PutItem, UpdateItem, DeleteItem, CreateTable"
_ANOTHER = (
    "give `leases` a table of its own; or delete that one, if nobody reads that stream any more"
)
_NO_STREAM = "make it, or correct `stream` and `region`"
_NO_TABLE = "make the table and turn its stream on, or correct `table`, `stream` and `region`"


def checks(config: Config) -> list[Check]:
    """One for each trigger that reads a stream, and for each table of leases."""
    streams = [Check(each.name, each, seconds=30.0, code="SF3046") for each in _streams(config)]
    tables = [Check(each.name, each, seconds=30.0, code="SF3070") for each in _tables(config)]
    return streams + tables


def _streams(config: Config) -> Iterator[_Stream]:
    for function, name, trigger in config.mappings():
        if isinstance(trigger, KinesisTrigger | DynamoDbTrigger):
            connection = config.connections[trigger.connection]
            assert isinstance(connection, AwsConnection)  # as has been checked
            yield _Stream(f"{function}/{name}", connection, trigger)


def _tables(config: Config) -> Iterator[_Table]:
    for function, name, trigger in config.mappings():
        leases = getattr(trigger, "leases", None)
        if isinstance(trigger, KinesisTrigger | DynamoDbTrigger) and leases is not None:
            connection = config.connections[leases.connection or trigger.connection]
            assert isinstance(connection, AwsConnection)
            stream = next(each for each in _streams(config) if each.name == f"{function}/{name}")
            yield _Table(f"{function}/{name}", connection, leases.table, stream)


@dataclass(frozen=True, slots=True)
class _Table:
    name: str
    connection: AwsConnection
    table: str
    stream: _Stream

    async def __call__(self) -> Sequence[Finding]:
        from streamfaas.wire.lease_table import LeaseTable

        table = LeaseTable(aws_access(self.connection), self.table, call_seconds=20.0)
        try:
            await table.open()
            await table.describe()
            leases = await table.scan()
            other = await self.stream.another(leases)
        except Gone:
            return [ok(self.name, f"{self.name} leases: the table {self.table} will be made")]
        except Mistaken as error:
            return [bad(self.name, f"{self.name}: {error}", "", "SF3070")]
        except WorldError as error:
            remedy = _DENIED + _LEASES if isinstance(error, Refused) else _AWAY
            return [bad(self.name, f"{self.name}: {error}", remedy, "SF3070")]
        finally:
            await table.close()
        if other:
            told = f"{self.name}: {self.table} has the leases of another stream ({other})"
            return [bad(self.name, told, _ANOTHER, "SF3070")]
        owners = {each.owner for each in leases if each.owner}
        told = f"{len(leases)} rows, by {len(owners)} workers" if leases else "no rows yet"
        return [ok(self.name, f"{self.name} leases in {self.table}: {told}")]


@dataclass(frozen=True, slots=True)
class _Stream:
    name: str
    connection: AwsConnection
    trigger: KinesisTrigger | DynamoDbTrigger

    async def __call__(self) -> Sequence[Finding]:
        stream = self._made()
        try:
            await stream.open()
            described = await stream.describe()
            shards = await stream.shards()
            await _read(stream, shards)
        except WorldError as error:
            return [bad(self.name, f"{self.name}: {error}", self._remedy(error), "SF3046")]
        finally:
            await stream.close()
        if described.over:
            return [bad(self.name, f"{self.name}: {described.over}", _NO_TABLE, "SF3046")]
        return [ok(self.name, self._told(described, shards))]

    async def another(self, leases: Collection[Lease]) -> str:
        """Which other stream leases are of; "" where they are of this one, or it cannot be asked,
        which is told elsewhere."""
        from streamfaas.flow.leases import of_another

        stream = self._made()
        try:
            await stream.open()
            described = await stream.describe()
            return of_another(leases, described.of, {each.id for each in await stream.shards()})
        except WorldError:
            return ""
        finally:
            await stream.close()

    def _made(self) -> Stream:
        access = aws_access(self.connection)
        if isinstance(self.trigger, KinesisTrigger):
            from streamfaas.wire import kinesis

            return kinesis.Stream(access, self.trigger.stream)
        from streamfaas.wire import dynamodb_streams

        return dynamodb_streams.Stream(access, table=self.trigger.table, arn=self.trigger.stream)

    def _told(self, described: Described, shards: Sequence[Shard]) -> str:
        match self.trigger:
            case KinesisTrigger(stream=stream):
                what = f"stream {stream}"
            case DynamoDbTrigger(place=table):
                what = f"changes of {table}"
        closed = sum(each.closed for each in shards)
        hours = described.retention_seconds / 3600
        shows = f"; {described.shows}" if described.shows else ""
        count = f"{len(shards) - closed} shards open, {closed} closed"
        return f"{self.name} {what}: {count}; keeps {hours:.0f} h{shows}"

    def _remedy(self, error: WorldError) -> str:
        kinesis = isinstance(self.trigger, KinesisTrigger)
        match error:
            case Gone():
                return _NO_STREAM if kinesis else _NO_TABLE
            case Refused():
                return _DENIED + (_KINESIS if kinesis else _DYNAMODB)
        return _AWAY


async def _read(stream: Stream, shards: Sequence[Shard]) -> None:
    """One that is open is read from its end, which tells whether that is permitted."""
    from streamfaas.wire.shards import Start

    for shard in shards:
        if not shard.closed:
            await stream.read(await stream.iterator(shard.id, Start("LATEST")), 1)
            return
