"""A table of leases in DynamoDB, with the columns of the Kinesis Client Library.

Every write names the owner and the counter that it was decided by, and does nothing where the row
is not so any more. Rows are updated column by column: what we do not know of stays as it is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio

from streamfaas.flow.errors import Busy, Gone, Mistaken, Refused, Unreachable
from streamfaas.flow.leases import TRIM_HORIZON, Lease
from streamfaas.wire import aws
from streamfaas.wire.aws import AwsAccess

KEY = "leaseKey"
PAGES_MAX = 1_000
CREATE_SECONDS = 60.0
CREATE_POLL_SECONDS = 0.5

_COLUMNS = frozenset(
    {
        KEY, "leaseOwner", "leaseCounter", "checkpoint", "checkpointSubSequenceNumber",
        "ownerSwitchesSinceCheckpoint", "parentShardId", "childShardIds", "startingHashKey",
        "endingHashKey", "givesWay", "wantedBy", "streamLife", "sinceMillis",
    }
)  # fmt: skip
_PENDING = "pendingCheckpoint, pendingCheckpointSubSequenceNumber, pendingCheckpointState"


class Lost(Exception):
    """The row is not as the write expected it: somebody else has written it."""


class LeaseTable:
    """Errors of all methods are `WorldError`s; a write that came too late is `Lost`. One that is
    `Unreachable` may have been carried out all the same.

    Permissions needed: dynamodb:DescribeTable, Scan, GetItem, PutItem, UpdateItem, DeleteItem, and
    CreateTable where the table is not there yet.
    """

    def __init__(self, access: AwsAccess, name: str, *, call_seconds: float) -> None:
        self.name = name
        self._access = access
        self._call_seconds = call_seconds
        self._life = AsyncExitStack()
        self._client: Any = None

    async def open(self) -> None:
        """Must be closed, whatever becomes of it."""
        self._client = await aws.client("dynamodb", self._access, self._life)

    async def close(self) -> None:
        await self._life.aclose()

    async def describe(self) -> int:
        """How many rows there are, about. `Gone` where there is no such table, `Mistaken` where it
        is another kind of table."""
        async with self._asking("DescribeTable"):
            told = (await self._client.describe_table(TableName=self.name))["Table"]
        schema = [(each["AttributeName"], each["KeyType"]) for each in told["KeySchema"]]
        if schema != [(KEY, "HASH")]:
            raise Mistaken(
                f"{self.name} is no table of leases, its key is not {KEY} alone: give `leases` a "
                "table of its own, which is made where it is not there"
            )
        if told["TableStatus"] not in {"ACTIVE", "UPDATING"}:
            raise Busy(f"{self.name} is {told['TableStatus']}")
        return int(told.get("ItemCount", 0))

    async def ensure(self) -> bool:
        """Makes the table where it is not there; whether it had to be made."""
        try:
            await self.describe()
        except Gone:
            await self._create()
            return True
        return False

    async def _create(self) -> None:
        try:
            async with self._asking("CreateTable"):
                await self._client.create_table(
                    TableName=self.name,
                    KeySchema=[{"AttributeName": KEY, "KeyType": "HASH"}],
                    AttributeDefinitions=[{"AttributeName": KEY, "AttributeType": "S"}],
                    BillingMode="PAY_PER_REQUEST",
                )
        except Lost:  # somebody else makes it, too
            pass
        with anyio.move_on_after(CREATE_SECONDS):
            while True:
                try:
                    await self.describe()
                except (Busy, Gone):  # its making takes a while to be seen
                    await anyio.sleep(CREATE_POLL_SECONDS)
                else:
                    return
        raise Unreachable(f"{self.name} was made, and cannot be used after {CREATE_SECONDS:.0f} s")

    async def scan(self) -> list[Lease]:
        """All rows that are leases, as they stand."""
        found: list[Lease] = []
        asked: dict[str, Any] = {"TableName": self.name, "ConsistentRead": True}
        for _ in range(PAGES_MAX):
            async with self._asking("Scan"):
                answer = await self._client.scan(**asked)
                found += filter(None, map(lease_of, answer["Items"]))
            if not (after := answer.get("LastEvaluatedKey")):
                return found
            asked["ExclusiveStartKey"] = after
        raise Refused(f"{self.name}: the table does not end")

    async def get(self, key: str) -> Lease | None:
        """A row as it stands."""
        async with self._asking("GetItem"):
            answer = await self._client.get_item(
                TableName=self.name, Key={KEY: {"S": key}}, ConsistentRead=True
            )
            return lease_of(answer["Item"]) if "Item" in answer else None

    async def make(self, lease: Lease) -> None:
        """A new row; `Lost` where it is there already."""
        async with self._asking("PutItem"):
            await self._client.put_item(
                TableName=self.name,
                Item=row_of(lease),
                ConditionExpression=f"attribute_not_exists({KEY})",
            )

    async def take(self, lease: Lease, worker: str) -> Lease:
        """The lease is the worker's, who says that it gives way to who wants it, which life of the
        stream it is of, and where LATEST was."""
        switched = bool(lease.owner) and lease.owner != worker
        values = {
            "leaseOwner": {"S": worker},
            "givesWay": {"S": worker},
            "ownerSwitchesSinceCheckpoint": _number(lease.switches + switched),
            "streamLife": {"S": lease.stream},
        }
        if lease.since_ms is not None:
            values["sinceMillis"] = _number(lease.since_ms)
        # the latter is of the library's version 3: who hands over
        return await self._update(lease, values, "wantedBy, checkpointOwner")

    async def renew(self, lease: Lease) -> Lease:
        return await self._update(lease, {})

    async def checkpoint(
        self, lease: Lease, sequence: str, sub: int, *, children: frozenset[str] = frozenset()
    ) -> Lease:
        """Everything up to there is finished with; renews the lease, too. `children` are the
        shards that came out of one that is at its end, where they are known."""
        values: dict[str, Any] = {
            "checkpoint": {"S": sequence},
            "checkpointSubSequenceNumber": _number(sub),
            "ownerSwitchesSinceCheckpoint": _number(0),
        }
        if children:
            values["childShardIds"] = {"SS": sorted(children)}
        return await self._update(lease, values, f"sinceMillis, {_PENDING}")

    async def release(self, lease: Lease) -> Lease:
        """Nobody has the lease any more."""
        return await self._update(lease, {}, "leaseOwner, wantedBy")

    async def want(self, lease: Lease, worker: str) -> Lease:
        """Tells the owner, when it renews the lease, that the worker would like to have it."""
        return await self._update(lease, {"wantedBy": {"S": worker}}, moves=0)

    async def remove(self, lease: Lease) -> None:
        async with self._asking("DeleteItem"):
            await self._client.delete_item(
                TableName=self.name, Key={KEY: {"S": lease.key}}, **_expecting(lease)
            )

    async def _update(
        self, lease: Lease, values: dict[str, Any], removed: str = "", moves: int = 1
    ) -> Lease:
        """Of a row that is as it was seen; the row after."""
        values["leaseCounter"] = _number(lease.counter + moves)
        names = {f":v{number}": name for number, name in enumerate(values)}
        said = "SET " + ", ".join(f"{name} = {mark}" for mark, name in names.items())
        asked = _expecting(lease)
        asked["ExpressionAttributeValues"] |= {mark: values[name] for mark, name in names.items()}
        async with self._asking("UpdateItem"):
            answer = await self._client.update_item(
                TableName=self.name,
                Key={KEY: {"S": lease.key}},
                UpdateExpression=f"{said} REMOVE {removed}" if removed else said,
                ReturnValues="ALL_NEW",
                **asked,
            )
            found = lease_of(answer["Attributes"])
        assert found is not None
        return found

    @asynccontextmanager
    async def _asking(self, operation: str) -> AsyncIterator[None]:
        assert self._client is not None
        try:
            with anyio.fail_after(self._call_seconds):
                yield
        except aws.ERRORS as error:
            if aws.code_of(error) in {"ConditionalCheckFailedException", "ResourceInUseException"}:
                raise Lost from error
            raise aws.translated(error, f"{operation} of {self.name}") from error
        except (KeyError, ValueError) as error:  # a row, or an answer, that is not as promised
            raise Refused(f"{operation} of {self.name}: {error!r} in the answer") from error


def lease_of(row: Mapping[str, Any]) -> Lease | None:
    """A row of the table, as DynamoDB writes it; None where it is about something else."""
    if row.get("entityType", {"S": "LEASE"}) != {"S": "LEASE"}:
        return None
    starting, ending = _text(row, "startingHashKey"), _text(row, "endingHashKey")
    since = row.get("sinceMillis")
    return Lease(
        key=row[KEY]["S"],
        counter=_whole(row, "leaseCounter"),
        owner=_text(row, "leaseOwner"),
        checkpoint=_text(row, "checkpoint") or TRIM_HORIZON,
        sub=_whole(row, "checkpointSubSequenceNumber"),
        switches=_whole(row, "ownerSwitchesSinceCheckpoint"),
        parents=frozenset(_texts(row, "parentShardId")),
        children=frozenset(_texts(row, "childShardIds")),
        hashes=(starting, ending) if starting and ending else None,
        gives_way=_text(row, "givesWay"),
        wanted_by=_text(row, "wantedBy"),
        stream=_text(row, "streamLife"),
        since_ms=None if since is None else int(since["N"]),
        others={name: value for name, value in row.items() if name not in _COLUMNS},
    )


def row_of(lease: Lease) -> dict[str, Any]:
    """A lease as the library writes it: no column is there that would be empty."""
    return dict(_cells(lease))


def _cells(lease: Lease) -> Iterator[tuple[str, Any]]:
    yield KEY, {"S": lease.key}
    yield "leaseCounter", _number(lease.counter)
    yield "checkpoint", {"S": lease.checkpoint}
    yield "checkpointSubSequenceNumber", _number(lease.sub)
    yield "ownerSwitchesSinceCheckpoint", _number(lease.switches)
    for name, text in (
        ("leaseOwner", lease.owner),
        ("givesWay", lease.gives_way),
        ("wantedBy", lease.wanted_by),
        ("streamLife", lease.stream),
    ):
        if text:
            yield name, {"S": text}
    for name, texts in (("parentShardId", lease.parents), ("childShardIds", lease.children)):
        if texts:
            yield name, {"SS": sorted(texts)}
    if lease.hashes is not None:
        yield "startingHashKey", {"S": lease.hashes[0]}
        yield "endingHashKey", {"S": lease.hashes[1]}
    if lease.since_ms is not None:
        yield "sinceMillis", _number(lease.since_ms)
    yield from lease.others.items()


def _expecting(lease: Lease) -> dict[str, Any]:
    """The condition that a row is as it was seen."""
    values = {":counter": _number(lease.counter)}
    owned = "attribute_not_exists(leaseOwner)"
    if lease.owner:
        owned, values[":owner"] = "leaseOwner = :owner", {"S": lease.owner}
    return {
        "ConditionExpression": f"leaseCounter = :counter AND {owned}",
        "ExpressionAttributeValues": values,
    }


def _number(number: int) -> dict[str, str]:
    return {"N": str(number)}


def _whole(row: Mapping[str, Any], name: str) -> int:
    return int(row[name]["N"]) if name in row else 0


def _text(row: Mapping[str, Any], name: str) -> str:
    return str(row[name].get("S", "")) if name in row else ""


def _texts(row: Mapping[str, Any], name: str) -> list[str]:
    return list(row.get(name, {}).get("SS", ()))
