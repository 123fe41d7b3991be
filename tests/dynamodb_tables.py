"""Tables with streams on a real server, and changes of their items."""

from __future__ import annotations

from typing import Any

from aws_servers import Aws

VIEW = "NEW_AND_OLD_IMAGES"


async def create(server: Aws, table: str, view: str = VIEW) -> None:
    """A table with a stream: its items have a key `id`."""
    async with server.client("dynamodb") as client:
        await client.create_table(
            TableName=table,
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
            StreamSpecification={"StreamEnabled": True, "StreamViewType": view},
        )


async def stream(server: Aws, table: str, *, on: bool) -> None:
    """Turns the table's stream on or off."""
    asked: dict[str, Any] = {"StreamEnabled": on} | ({"StreamViewType": VIEW} if on else {})
    async with server.client("dynamodb") as client:
        await client.update_table(TableName=table, StreamSpecification=asked)


async def put(server: Aws, table: str, items: list[tuple[str, str]]) -> None:
    """Items with these keys and values, in this order."""
    async with server.client("dynamodb") as client:
        for key, value in items:
            await client.put_item(TableName=table, Item={"id": {"S": key}, "value": {"S": value}})


async def put_many(server: Aws, table: str, items: list[tuple[str, str]]) -> None:
    """The same, 25 at a time; no key twice among those."""
    async with server.client("dynamodb") as client:
        for start in range(0, len(items), 25):
            some = [
                {"PutRequest": {"Item": {"id": {"S": key}, "value": {"S": value}}}}
                for key, value in items[start : start + 25]
            ]
            answer = await client.batch_write_item(RequestItems={table: some})
            assert not answer["UnprocessedItems"]
