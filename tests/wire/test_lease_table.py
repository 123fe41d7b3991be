"""A table of leases, on real servers that speak DynamoDB."""

from __future__ import annotations

import asyncio
import socket
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aws_servers import Aws
from streamfaas.flow.errors import Gone, Mistaken, Unreachable
from streamfaas.flow.leases import SHARD_END, TRIM_HORIZON, Lease
from streamfaas.wire.aws import AwsAccess
from streamfaas.wire.lease_table import LeaseTable, Lost, lease_of, row_of

SLOW = pytest.mark.slow

LIBRARY = {
    "leaseKey": {"S": "shardId-000000000002"},
    "leaseOwner": {"S": "10.0.0.7:0c8f7a3e-6b0e-4f6a-9a53-5c1b6f3f8f4e"},
    "leaseCounter": {"N": "4711"},
    "checkpoint": {"S": "49590338271490256608559692538361571095921575989136588898"},
    "checkpointSubSequenceNumber": {"N": "3"},
    "ownerSwitchesSinceCheckpoint": {"N": "1"},
    "parentShardId": {"SS": ["shardId-000000000000", "shardId-000000000001"]},
    "childShardIds": {"SS": ["shardId-000000000003"]},
    "startingHashKey": {"S": "0"},
    "endingHashKey": {"S": "340282366920938463463374607431768211455"},
    "pendingCheckpoint": {"S": "49590338271490256608559692538361571095921575989136588900"},
    "pendingCheckpointSubSequenceNumber": {"N": "0"},
    "throughputKBps": {"N": "17.25"},
    "checkpointOwner": {"S": "somebody"},
    "entityType": {"S": "LEASE"},
}
"""A row as the library writes it (its version 3 has the last three)."""


@asynccontextmanager
async def made(aws: Aws) -> AsyncIterator[LeaseTable]:
    table = LeaseTable(aws.access, f"leases-{uuid.uuid4().hex[:12]}", call_seconds=20.0)
    try:
        await table.open()
        assert await table.ensure()
        yield table
    finally:
        await table.close()


async def raw(aws: Aws, table: LeaseTable, key: str) -> dict[str, Any]:
    async with aws.client("dynamodb") as client:
        found: dict[str, Any] = await client.get_item(
            TableName=table.name, Key={"leaseKey": {"S": key}}, ConsistentRead=True
        )
        return dict(found["Item"])


texts = st.text("abc-019", min_size=1, max_size=8)
leases = st.builds(
    Lease,
    key=texts,
    counter=st.integers(0, 1 << 40),
    owner=st.just("") | texts,
    checkpoint=st.sampled_from((TRIM_HORIZON, SHARD_END, "4959")),
    sub=st.integers(0, 99),
    switches=st.integers(0, 9),
    parents=st.frozensets(texts, max_size=2),
    children=st.frozensets(texts, max_size=2),
    hashes=st.none() | st.tuples(texts, texts),
    gives_way=st.just("") | texts,
    wanted_by=st.just("") | texts,
    stream=st.just("") | texts,
    since_ms=st.none() | st.integers(0, 1 << 42),
    others=st.just({}) | st.just({"throughputKBps": {"N": "1.5"}}),
)


@given(leases)
def test_a_lease_is_the_same_after_it_was_a_row(lease: Lease) -> None:
    row = row_of(lease)
    assert lease_of(row) == lease
    for kind, value in (next(iter(each.items())) for each in row.values()):
        assert kind in {"S", "N", "SS"}
        assert value, "DynamoDB's SDK for Java takes no empty text, and no empty set"


def test_a_row_of_the_library_is_read_as_it_is() -> None:
    lease = lease_of(LIBRARY)
    assert lease is not None
    assert lease.counter == 4711
    assert lease.sub == 3
    assert lease.begun
    assert len(lease.parents) == 2
    assert lease.others["throughputKBps"] == {"N": "17.25"}
    assert row_of(lease) == LIBRARY
    assert lease_of({**LIBRARY, "entityType": {"S": "WORKER_METRICS"}}) is None


@SLOW
def test_a_lease_is_taken_renewed_moved_and_let_go_of(aws_server: Aws) -> None:
    async def main() -> None:
        async with made(aws_server) as table:
            assert not await table.ensure()
            new = Lease("shardId-0", hashes=("0", "99"), since_ms=5, stream="arn 1")
            await table.make(new)
            with pytest.raises(Lost):
                await table.make(new)
            (seen,) = await table.scan()
            assert seen == new
            taken = await table.take(seen, "me")
            assert taken == replace(new, counter=1, owner="me", gives_way="me")
            assert taken.heeded
            renewed = await table.renew(taken)
            moved = await table.checkpoint(renewed, "4959", 2)
            assert (moved.counter, moved.checkpoint, moved.sub) == (3, "4959", 2)
            assert moved.since_ms is None
            assert (await table.want(moved, "other")).counter == 3
            renewed = await table.renew(moved)
            assert renewed.wanted_by == "other"
            free = await table.release(renewed)
            assert (free.owner, free.wanted_by, free.counter) == ("", "", 5)
            theirs = await table.take(free, "other")
            assert theirs.switches == 0
            assert (await table.take(theirs, "third")).switches == 1
            ended = await table.checkpoint(
                replace(theirs, owner="third", counter=7), SHARD_END, 0, children=frozenset({"c"})
            )
            assert ended.ended
            assert ended.children == {"c"}
            assert await table.get("shardId-0") == ended
            await table.remove(ended)
            assert await table.scan() == []
            assert await table.get("shardId-0") is None

    asyncio.run(main())


@SLOW
def test_every_write_by_who_has_lost_the_lease_is_refused(aws_server: Aws) -> None:
    async def main() -> None:
        async with made(aws_server) as table:
            await table.make(Lease("s", stream="arn 1"))
            (free,) = await table.scan()
            mine = await table.take(free, "me")
            with pytest.raises(Lost):
                await table.take(free, "late")
            theirs = await table.take(mine, "other")
            for late in (
                table.renew(mine),
                table.checkpoint(mine, "9", 0),
                table.release(mine),
                table.want(mine, "me"),
                table.remove(mine),
                table.renew(replace(mine, counter=theirs.counter)),  # it has another owner
            ):
                with pytest.raises(Lost):
                    await late
            assert await table.get("s") == theirs

    asyncio.run(main())


@SLOW
def test_a_row_of_the_library_keeps_what_we_do_not_know(aws_server: Aws) -> None:
    async def main() -> None:
        async with made(aws_server) as table:
            async with aws_server.client("dynamodb") as client:
                await client.put_item(TableName=table.name, Item=LIBRARY)
                other = {"leaseKey": {"S": "x"}, "entityType": {"S": "WORKER_METRICS"}}
                await client.put_item(TableName=table.name, Item=other)
            (seen,) = await table.scan()
            moved = await table.checkpoint(
                await table.take(replace(seen, stream="arn 1"), "me"), "4960", 0
            )
            row = await raw(aws_server, table, moved.key)
            gone = {"pendingCheckpoint", "pendingCheckpointSubSequenceNumber", "checkpointOwner"}
            assert row.keys() == LIBRARY.keys() - gone | {"givesWay", "streamLife"}
            for name in ("throughputKBps", "entityType", "startingHashKey"):
                assert row[name] == LIBRARY[name]
            assert set(row["parentShardId"]["SS"]) == moved.parents

    asyncio.run(main())


@SLOW
def test_a_long_table_is_seen_whole(aws_server: Aws) -> None:
    """Of two megabytes, where a page of DynamoDB has one."""

    async def main() -> None:
        async with made(aws_server) as table:
            long = {"note": {"S": "x" * 200_000}}
            for number in range(10):
                await table.make(Lease(f"s{number}", others=long))
            assert sorted(each.key for each in await table.scan()) == [f"s{n}" for n in range(10)]

    asyncio.run(main())


@SLOW
def test_what_is_no_table_of_leases_is_refused_and_a_missing_one_is_told(aws_server: Aws) -> None:
    async def main() -> None:
        name = f"other-{uuid.uuid4().hex[:8]}"
        async with aws_server.client("dynamodb") as client:
            await client.create_table(
                TableName=name,
                KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
                AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
                BillingMode="PAY_PER_REQUEST",
            )
        table = LeaseTable(aws_server.access, name, call_seconds=20.0)
        try:
            await table.open()
            with pytest.raises(Mistaken, match="no table of leases"):
                await table.ensure()
        finally:
            await table.close()
        missing = LeaseTable(aws_server.access, "nowhere", call_seconds=20.0)
        try:
            await missing.open()
            with pytest.raises(Gone):
                await missing.describe()
        finally:
            await missing.close()

    asyncio.run(main())


@SLOW
def test_where_nobody_answers_the_deadline_is_kept() -> None:
    async def main(url: str) -> None:
        table = LeaseTable(AwsAccess("us-east-1", url, "a", "b"), "t", call_seconds=0.3)
        try:
            await table.open()
            with pytest.raises(Unreachable):
                await table.renew(Lease("s", owner="me"))
        finally:
            await table.close()

    with socket.create_server(("127.0.0.1", 0)) as silent:
        asyncio.run(main(f"http://127.0.0.1:{silent.getsockname()[1]}"))
