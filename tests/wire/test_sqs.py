"""A queue of SQS, on real servers."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

import queue_stub
from aws_servers import Aws
from streamfaas.flow.errors import Gone, Refused, Unreachable
from streamfaas.wire.aws import AwsAccess
from streamfaas.wire.sqs import Queue

SLOW = pytest.mark.slow


@asynccontextmanager
async def made(aws: Aws, *, fifo: bool = False, **attributes: str) -> AsyncIterator[Queue]:
    name = f"q-{uuid.uuid4().hex[:12]}" + (".fifo" if fifo else "")
    if fifo:
        attributes |= {"FifoQueue": "true"}
    async with aws.client("sqs") as client:
        await client.create_queue(QueueName=name, Attributes=attributes)
        async with opened(aws, name) as queue:
            yield queue
        await client.delete_queue(QueueUrl=queue.url)


@asynccontextmanager
async def opened(aws: Aws, name: str) -> AsyncIterator[Queue]:
    queue = Queue(aws.access, name)
    try:
        await queue.open()
        yield queue
    finally:
        await queue.close()


@SLOW
def test_a_queue_is_known_by_its_name_its_url_and_its_arn(aws_server: Aws) -> None:
    async def main() -> None:
        async with made(aws_server, VisibilityTimeout="77") as queue:
            told = await queue.attributes()
            assert told.arn.startswith(f"arn:aws:sqs:us-east-1:{aws_server.account}:")
            assert (told.visibility_seconds, told.fifo, told.receives_max) == (77, False, None)
            for name in (queue.url, told.arn):
                async with opened(aws_server, name) as same:
                    assert await same.attributes() == told
            elsewhere = told.arn.replace("us-east-1", "eu-west-1")
            async with opened(aws_server, elsewhere) as other:
                with pytest.raises(Gone, match=r"us-east-1.* is what was found"):
                    await other.attributes()

    asyncio.run(main())


@SLOW
def test_a_queue_says_to_whom_it_hands_what_nobody_could_process(aws_server: Aws) -> None:
    async def main() -> None:
        async with made(aws_server) as dead:
            arn = (await dead.attributes()).arn
            policy = f'{{"deadLetterTargetArn": "{arn}", "maxReceiveCount": "4"}}'
            async with made(aws_server, RedrivePolicy=policy) as queue:
                told = await queue.attributes()
                assert (told.dead_letter_arn, told.receives_max) == (arn, 4)

    asyncio.run(main())


@SLOW
def test_a_message_has_all_that_the_service_knows_of_it(aws_server: Aws) -> None:
    async def main() -> None:
        async with made(aws_server) as queue, aws_server.client("sqs") as client:
            await client.send_message(
                QueueUrl=queue.url,
                MessageBody="hé",
                MessageAttributes={
                    "s": {"DataType": "String", "StringValue": "a"},
                    "b": {"DataType": "Binary", "BinaryValue": b"\xff\x00"},
                    "n": {"DataType": "Number", "StringValue": "7"},
                },
            )
            (message,) = await queue.receive(10, 1)
            assert message["Body"] == "hé"
            assert message["Attributes"]["ApproximateReceiveCount"] == "1"
            assert set(message["Attributes"]) >= {"SentTimestamp", "SenderId"}
            assert message["MessageAttributes"]["b"]["BinaryValue"] == "/wA="  # as events have it
            assert message["MessageAttributes"]["s"]["StringValue"] == "a"
            assert {"MessageId", "ReceiptHandle", "MD5OfBody", "MD5OfMessageAttributes"} <= {
                *message
            }

    asyncio.run(main())


@SLOW
def test_a_fifo_message_has_its_group(aws_server: Aws) -> None:
    async def main() -> None:
        async with made(aws_server, fifo=True) as queue:
            await queue.send("1", group="g", deduplication="one")
            await queue.send("1", group="g", deduplication="one")
            (message,) = await queue.receive(10)
            attributes = message["Attributes"]
            assert attributes["MessageGroupId"] == "g"
            assert {"SequenceNumber", "MessageDeduplicationId"} <= {*attributes}

    asyncio.run(main())


@SLOW
def test_what_is_deleted_does_not_come_again_and_what_is_given_back_does(aws_server: Aws) -> None:
    async def main() -> None:
        async with made(aws_server, VisibilityTimeout="600") as queue:
            sent = {await queue.send(str(number)) for number in range(24)}
            held = {}
            while len(held) < 24:
                held |= {m["MessageId"]: m["ReceiptHandle"] for m in await queue.receive(10)}
            assert set(held) == sent
            ids = sorted(sent)
            assert await queue.delete_batch([held[each] for each in ids[:12]]) == ()
            assert await queue.change_visibility_batch([(held[i], 0) for i in ids[12:]]) == ()
            again: set[str] = set()
            while len(again) < 12:
                again |= {message["MessageId"] for message in await queue.receive(10, 1)}
            assert again == set(ids[12:])

    asyncio.run(main())


@SLOW
def test_each_entry_that_could_not_be_done_is_told_by_its_index(aws_server: Aws) -> None:
    async def main() -> None:
        async with made(aws_server) as queue:
            await queue.send("one")
            (message,) = await queue.receive(1)
            receipt = message["ReceiptHandle"]
            undone = await queue.change_visibility_batch([("not-one", 30), (receipt, 30)])
            assert [(each.index, each.lost) for each in undone] == [(0, True)]
            assert await queue.delete_batch([receipt]) == ()

    asyncio.run(main())


@SLOW
def test_what_is_not_there_is_gone_and_who_does_not_answer_is_unreachable(
    aws_server: Aws, unused: str
) -> None:
    async def main() -> None:
        for name in ("no-such-queue", f"{aws_server.url}/{aws_server.account}/no-such-queue"):
            queue = Queue(aws_server.access, name)
            try:
                with pytest.raises(Gone):
                    await queue.open()
                    await queue.receive(1)
            finally:
                await queue.close()
        queue = Queue(replace(aws_server.access, endpoint_url=unused), "any")
        try:
            with pytest.raises(Unreachable):
                await queue.open()
        finally:
            await queue.close()

    asyncio.run(main())


class Odd(queue_stub.Queue):
    """Says what a test wants it to."""

    said: object = b""

    def answer(self, operation, asked):
        return self.said if operation == "ReceiveMessage" else super().answer(operation, asked)


def _message(**more: object) -> object:
    return {"Messages": [{**queue_stub.Queue(1).message(), **more}]}


@SLOW
def test_who_has_no_credentials_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    async def main() -> None:
        async with queue_stub.serving(queue_stub.Queue(1)) as url:
            queue = Queue(AwsAccess("us-east-1", url), f"{url}/0/bench")
            try:
                await queue.open()
                with pytest.raises(Refused, match="credentials"):
                    await queue.receive(1)
            finally:
                await queue.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    "said",
    [
        b"<html>Please log in</html>",
        b'{"Messages": [',
        b"[]",
        {"Messages": {"a": 1}},
        {"Messages": [None]},
        {"Messages": [{}]},
        _message(Body=7),
        _message(Body=None),
        _message(ReceiptHandle=["r"]),
        _message(Attributes=[1]),
        _message(Attributes={"SentTimestamp": "yesterday"}),
        _message(Attributes={"SentTimestamp": "9" * 40}),
        _message(Attributes={"SentTimestamp": "-9"}),
        _message(Attributes={"ApproximateReceiveCount": "often"}),
        _message(Attributes={"MessageGroupId": 8}),
        _message(MessageAttributes={"a": "b"}),
        _message(MessageAttributes={"a": {"DataType": "Binary", "BinaryValue": "x"}}),
    ],
)
def test_an_answer_that_is_none_is_a_typed_error(said: object) -> None:
    async def main() -> None:
        stub = Odd(1)
        stub.said = said
        async with queue_stub.serving(stub) as url:
            queue = Queue(AwsAccess("us-east-1", url, "test", "a-secret"), "bench")
            try:
                await queue.open()
                with pytest.raises((Refused, Unreachable)):
                    await queue.receive(1)
                stub.said = _message()
                assert len(await queue.receive(1)) == 1
            finally:
                await queue.close()

    asyncio.run(main())


@pytest.fixture
def unused() -> str:
    return "http://127.0.0.1:1"
