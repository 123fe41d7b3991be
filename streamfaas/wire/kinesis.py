"""A Kinesis stream: its shards, where to read in them, and pages of records."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

from streamfaas.flow.errors import Refused
from streamfaas.wire import aws
from streamfaas.wire.aws import AwsAccess
from streamfaas.wire.shard_calls import PAGES_MAX, asking
from streamfaas.wire.shards import Described, Page, Shard, Start

PUT_MAX = 500
"""Records of one PutRecords."""


class Stream:
    """One stream. Errors of all methods are `WorldError`s."""

    remade = "was deleted and made again"

    def __init__(self, access: AwsAccess, name: str) -> None:
        self.name = name
        self._access = access
        self._life = AsyncExitStack()
        self._client: Any = None

    async def open(self) -> None:
        """Must be closed, whatever becomes of it."""
        self._client = await aws.client("kinesis", self._access, self._life)

    async def close(self) -> None:
        await self._life.aclose()

    async def describe(self, lives: Collection[str] = ()) -> Described:
        """`lives` are of no use: a stream that was deleted cannot be read."""
        del lives
        async with asking("DescribeStreamSummary", self.name):
            answer = await self._client.describe_stream_summary(StreamName=self.name)
        told = answer["StreamDescriptionSummary"]
        arn, created = told["StreamARN"], _seconds(told.get("StreamCreationTimestamp"))
        return Described(
            arn=arn,
            life=f"{arn} {created:.0f}",
            of=f"{arn} ",
            retention_seconds=float(told.get("RetentionPeriodHours", 24)) * 3600,
            now=aws.server_seconds(answer),
        )

    async def shards(self) -> tuple[Shard, ...]:
        """All that the stream still knows, closed ones too."""
        found: list[Shard] = []
        asked: dict[str, Any] = {"StreamName": self.name}
        for _ in range(PAGES_MAX):
            async with asking("ListShards", self.name):
                answer = await self._client.list_shards(**asked)
            found += map(_shard, answer["Shards"])
            if not (token := answer.get("NextToken")):
                return tuple(found)
            asked = {"NextToken": token}
        raise Refused(f"{self.name}: the list of shards does not end")

    async def iterator(self, shard: str, start: Start) -> str:
        asked: dict[str, Any] = {"ShardIteratorType": start.kind}
        if start.sequence:
            asked["StartingSequenceNumber"] = start.sequence
        if start.kind == "AT_TIMESTAMP":
            asked["Timestamp"] = datetime.fromtimestamp(start.timestamp, UTC)
        async with asking("GetShardIterator", self.name):
            answer = await self._client.get_shard_iterator(
                StreamName=self.name, ShardId=shard, **asked
            )
        return str(answer["ShardIterator"])

    async def read(self, iterator: str, records_max: int) -> Page:
        """`IteratorExpired` where the iterator has to be made anew. Of a record there are
        `SequenceNumber`, `PartitionKey`, `Data` (base64 text) and `ApproximateArrivalTimestamp`
        (epoch seconds)."""
        async with asking("GetRecords", self.name):
            answer = await self._client.get_records(ShardIterator=iterator, Limit=records_max)
        length = answer["ResponseMetadata"]["HTTPHeaders"].get("content-length")
        records = answer.get("Records") or ()
        return Page(
            records=records,
            next=answer.get("NextShardIterator"),
            behind_ms=int(answer.get("MillisBehindLatest") or 0),
            size_bytes=int(length) if length else sum(len(each["Data"]) for each in records),
        )

    async def put(self, records: Sequence[tuple[str, bytes]]) -> list[tuple[str, str]]:
        """Appends records, each a partition key and its data; the shard and sequence number of
        each."""
        placed: list[tuple[str, str]] = []
        for start in range(0, len(records), PUT_MAX):
            some = records[start : start + PUT_MAX]
            async with asking("PutRecords", self.name):
                answer = await self._client.put_records(
                    StreamName=self.name,
                    Records=[{"PartitionKey": key, "Data": data} for key, data in some],
                )
            for each in answer["Records"]:
                if "SequenceNumber" not in each:
                    raise Refused(f"{self.name}: {each.get('ErrorCode')}: not all was taken")
                placed.append((each["ShardId"], each["SequenceNumber"]))
        return placed


def _shard(told: Mapping[str, Any]) -> Shard:
    parents = (told.get("ParentShardId"), told.get("AdjacentParentShardId"))
    ending = told.get("SequenceNumberRange", {}).get("EndingSequenceNumber")
    keys = told.get("HashKeyRange", {})
    hashes = (str(keys["StartingHashKey"]), str(keys["EndingHashKey"])) if keys else None
    known = tuple(filter(None, parents))
    return Shard(str(told["ShardId"]), known, closed=bool(ending), hashes=hashes)


def _seconds(moment: Any) -> float:
    return moment.timestamp() if isinstance(moment, datetime) else float(moment or 0)
