"""A queue that is never empty and answers at once: `python queue_stub.py PORT SIZE`.

It speaks as much of SQS' JSON protocol as a consumer asks for. Each message is new, with a body of
SIZE bytes and all that AWS says of one; what is deleted, and hidden, is believed.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from hashlib import md5
from typing import Any

import orjson
import uvloop

ARN = "arn:aws:sqs:us-east-1:000000000000:bench"
BEFORE_RECEIPT = "AQEB" + "wJnKyrHigUMZj6rYigCgxlaS3SLy0a" * 9  # as long as AWS' own


class Queue:
    """What is asked of it, by the name of the operation."""

    def __init__(self, size: int) -> None:
        self.url = ""
        self.numbers = itertools.count()
        self.body = "x" * size
        self.digest = md5(self.body.encode(), usedforsecurity=False).hexdigest()

    def answer(self, operation: str, asked: Mapping[str, Any]) -> Any:
        match operation:
            case "ReceiveMessage":
                return {"Messages": [self.message() for _ in range(asked["MaxNumberOfMessages"])]}
            case "DeleteMessageBatch" | "ChangeMessageVisibilityBatch":
                return {
                    "Successful": [{"Id": each["Id"]} for each in asked["Entries"]],
                    "Failed": [],
                }
            case "GetQueueUrl":
                return {"QueueUrl": self.url}
            case "GetQueueAttributes":
                return {"Attributes": {"QueueArn": ARN, "VisibilityTimeout": "30"}}
        raise AssertionError(f"{operation} is not spoken")

    def message(self) -> Any:
        number, now = next(self.numbers), str(int(time.time() * 1000))
        return {
            "MessageId": f"059f36b4-87a3-44ab-83d2-{number:012d}",
            "ReceiptHandle": f"{BEFORE_RECEIPT}{number:012d}",
            "Body": self.body,
            "MD5OfBody": self.digest,
            "Attributes": {
                "ApproximateReceiveCount": "1",
                "SentTimestamp": now,
                "SenderId": "AIDAIENQZJOLO23YVJ4VO",
                "ApproximateFirstReceiveTimestamp": now,
            },
        }


class Connection(asyncio.Protocol):
    """HTTP/1.1, one request after another."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        while (end := self.received.find(b"\r\n\r\n")) >= 0:
            lines = self.received[:end].decode("latin-1").split("\r\n")[1:]
            told = {
                name.lower(): value for name, _, value in (line.partition(": ") for line in lines)
            }
            whole = end + 4 + int(told.get("content-length", "0"))
            if len(self.received) < whole:
                return
            body, self.received = self.received[end + 4 : whole], self.received[whole:]
            operation = told["x-amz-target"].partition(".")[2]
            answer = self.queue.answer(operation, orjson.loads(body))
            if answer is None:  # it hangs
                return
            answer = answer if isinstance(answer, bytes) else orjson.dumps(answer)
            self.transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\n"
                b"x-amzn-RequestId: 0\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer)
            )


@asynccontextmanager
async def serving(queue: Queue, port: int = 0) -> AsyncIterator[str]:
    """Where it answers."""
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(queue), "127.0.0.1", port
    )
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        queue.url = f"{url}/000000000000/bench"
        yield url


async def main() -> None:
    port, size = map(int, sys.argv[1:])
    async with serving(Queue(size), port):
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    uvloop.run(main())
