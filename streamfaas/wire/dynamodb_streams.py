"""The stream of a DynamoDB table: found by the table's name, its shards, and pages of changes."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AsyncExitStack
from typing import Any

from streamfaas.flow.errors import Gone, Refused
from streamfaas.wire import aws
from streamfaas.wire.aws import AwsAccess
from streamfaas.wire.shard_calls import PAGES_MAX, asking
from streamfaas.wire.shards import Described, Page, Shard, Start

RETENTION_SECONDS = 24 * 3600.0
SHARDS_A_PAGE = 100


class Stream:
    """The stream of a table, or one that is named by its ARN. A table whose stream is turned off
    and on again has another one. Errors of all methods are `WorldError`s."""

    remade = "was turned off and on again"

    def __init__(self, access: AwsAccess, *, table: str = "", arn: str = "") -> None:
        assert bool(table) != bool(arn)
        self.name = table or arn
        self._access = access
        self._table = table
        self._arn = arn
        self._life = AsyncExitStack()
        self._client: Any = None
        self._tables: Any = None

    async def open(self) -> None:
        """Must be closed, whatever becomes of it."""
        self._client = await aws.client("dynamodbstreams", self._access, self._life)
        if self._table:
            self._tables = await aws.client("dynamodb", self._access, self._life)

    async def close(self) -> None:
        await self._life.aclose()

    async def describe(self, lives: Collection[str] = ()) -> Described:
        """That is the one that is read from here on. `lives` are earlier ones that were not read to
        their end: they come first, while they can be read."""
        for arn in sorted(lives):
            if not self._table or f":table/{self._table}/" not in arn:
                continue
            try:
                return await self._described(arn)
            except Gone:
                continue
        return await self._described(await self._latest() if self._table else self._arn)

    async def _latest(self) -> str:
        async with asking("DescribeTable", self._table):
            table = (await self._tables.describe_table(TableName=self._table))["Table"]
        if arn := table.get("LatestStreamArn"):
            return str(arn)
        raise Gone(f"table {self._table} has no stream: turn it on (StreamSpecification)")

    async def _described(self, arn: str) -> Described:
        async with asking("DescribeStream", arn):
            answer = await self._client.describe_stream(StreamArn=arn, Limit=1)
            told = answer["StreamDescription"]
        if not arn.endswith(label := str(told.get("StreamLabel", ""))):
            # there are servers that answer for a stream that is gone with what came after it
            raise Gone(f"{arn} was followed by the stream {label}")
        self._arn = arn
        off = told.get("StreamStatus") in {"DISABLED", "DISABLING"}
        return Described(
            arn=arn,
            life=arn,
            of=f"{arn.partition('/stream/')[0]}/stream/" if self._table else arn,
            retention_seconds=RETENTION_SECONDS,
            now=aws.server_seconds(answer),
            over=f"the stream of {self.name} was turned off" if off else "",
            shows=str(told.get("StreamViewType", "")),
        )

    async def shards(self) -> tuple[Shard, ...]:
        """All that the stream still knows, closed ones too."""
        found: list[Shard] = []
        asked: dict[str, Any] = {"StreamArn": self._arn, "Limit": SHARDS_A_PAGE}
        for _ in range(PAGES_MAX):
            async with asking("DescribeStream", self._arn):
                told = (await self._client.describe_stream(**asked))["StreamDescription"]
                found += map(_shard, told["Shards"])
            # a page may be short, or empty, and there are more
            if not (last := told.get("LastEvaluatedShardId")):
                return tuple(found)
            asked["ExclusiveStartShardId"] = last
        raise Refused(f"{self.name}: the list of shards does not end")

    async def iterator(self, shard: str, start: Start) -> str:
        asked: dict[str, Any] = {"StreamArn": self._arn, "ShardId": shard}
        if start.sequence:
            asked["SequenceNumber"] = start.sequence
        async with asking("GetShardIterator", self._arn):
            answer = await self._client.get_shard_iterator(ShardIteratorType=start.kind, **asked)
            return str(answer["ShardIterator"])

    async def read(self, iterator: str, records_max: int) -> Page:
        """Of a record there are `eventID`, `eventName` and others, and `dynamodb` with `Keys`,
        `SequenceNumber`, `ApproximateCreationDateTime` (epoch seconds) and images of the item.
        How far behind it is can only be told by that and the service's clock: not at all, where
        nothing came."""
        async with asking("GetRecords", self._arn):
            answer = await self._client.get_records(ShardIterator=iterator, Limit=records_max)
        records = answer.get("Records") or ()
        behind = 0.0
        if records and (now := aws.server_seconds(answer)) is not None:
            behind = now - float(records[-1]["dynamodb"].get("ApproximateCreationDateTime", now))
        length = answer["ResponseMetadata"]["HTTPHeaders"].get("content-length")
        return Page(
            records=records,
            next=answer.get("NextShardIterator"),
            behind_ms=max(0, int(behind * 1000)),
            size_bytes=int(length or 0),
        )


def _shard(told: dict[str, Any]) -> Shard:
    parent = told.get("ParentShardId")
    ending = told.get("SequenceNumberRange", {}).get("EndingSequenceNumber")
    return Shard(str(told["ShardId"]), (parent,) if parent else (), closed=bool(ending))
