"""An SQS queue: what it is, and messages received, kept, deleted and sent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import orjson
import pybase64

from streamfaas.flow.errors import Gone, Refused
from streamfaas.wire import aws
from streamfaas.wire.aws import AwsAccess

WAIT_SECONDS_MAX = 20
"""How long a receive may wait for a first message."""

VISIBILITY_SECONDS_MAX = 43_200
"""How long a message may be kept from its first receive on: twelve hours."""

CALL_SECONDS = 60.0
"""How long one request may take beside its waiting, with the client's own tries."""

READ_SECONDS = WAIT_SECONDS_MAX + 10.0
BATCH_MAX = 10
"""Entries of one request."""

TRIES = 3
"""Of an entry that a request has failed at while it took others."""

PAUSE_SECONDS = 0.1

TIME_MS_MAX = 1 << 47
"""In the year 6429: what dates can still be made of."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """What a queue says of itself. `dead_letter_arn` and `receives_max` are its redrive policy
    (None: it has none). `waiting`, `delayed` and `in_flight` are approximate."""

    arn: str
    fifo: bool
    visibility_seconds: int
    dead_letter_arn: str | None
    receives_max: int | None
    message_bytes_max: int
    retention_seconds: int
    waiting: int
    delayed: int
    in_flight: int


@dataclass(frozen=True, slots=True)
class Undone:
    """An entry of a batch request that has failed while others may not have, by its index in what
    was asked. `lost`: the receipt is no good any more, the message is not ours."""

    index: int
    code: str
    message: str

    @property
    def lost(self) -> bool:
        told = f"{self.code} {self.message}".lower()
        return any(word in told for word in _LOST)


_LOST = ("notinflight", "not inflight", "not in flight", "receipthandle", "receipt handle")


class Queue:
    """One queue, by its name, URL or ARN. Errors of all methods are `WorldError`s: `Gone` where
    there is no such queue."""

    def __init__(self, access: AwsAccess, name: str) -> None:
        self.name = name
        self.url = name if "://" in name else ""
        """Where it is; known once it is open."""
        self._access = access
        self._life = AsyncExitStack()
        self._client: Any = None

    @property
    def fifo(self) -> bool:
        return self.name.endswith(".fifo")

    @property
    def is_open(self) -> bool:
        """Whether it has been found, and may be asked."""
        return self._client is not None and bool(self.url)

    @property
    def short_name(self) -> str:
        """What comes last in its URL, and in its ARN."""
        return self.name.replace(":", "/").rpartition("/")[2]

    async def open(self) -> None:
        """Finds the queue. Must be closed, whatever becomes of it."""
        self._client = await aws.client(
            "sqs",
            self._access,
            self._life,
            read_seconds=READ_SECONDS,
            settings={"parameter_validation": False},  # of requests that are all made here
        )
        if not self.url:
            self.url = await self._found()

    async def close(self) -> None:
        self._client = None
        await self._life.aclose()

    async def attributes(self) -> Attributes:
        async with self._asking("GetQueueAttributes"):
            answer = await self._client.get_queue_attributes(
                QueueUrl=self.url, AttributeNames=["All"]
            )
            told = answer["Attributes"]
            arn = str(told["QueueArn"])
            if self.name.startswith("arn:") and arn != self.name:
                raise Gone(f"{self.name} was asked for, and {arn} is what was found")
            redrive = orjson.loads(told.get("RedrivePolicy") or b"{}")
            receives = redrive.get("maxReceiveCount")
            return Attributes(
                arn=arn,
                fifo=arn.endswith(".fifo"),
                visibility_seconds=int(told.get("VisibilityTimeout", 30)),
                dead_letter_arn=redrive.get("deadLetterTargetArn"),
                receives_max=None if receives is None else int(receives),
                message_bytes_max=int(told.get("MaximumMessageSize", 262_144)),
                retention_seconds=int(told.get("MessageRetentionPeriod", 345_600)),
                waiting=int(told.get("ApproximateNumberOfMessages", 0)),
                delayed=int(told.get("ApproximateNumberOfMessagesDelayed", 0)),
                in_flight=int(told.get("ApproximateNumberOfMessagesNotVisible", 0)),
            )

    async def receive(
        self, messages_max: int, wait_seconds: int = 0, visibility_seconds: int | None = None
    ) -> Sequence[Mapping[str, Any]]:
        """Up to ten messages as the service writes them, with all that it knows of them:
        `MessageId`, `ReceiptHandle`, `Body`, `MD5OfBody`, `Attributes`, and what there is of
        `MessageAttributes` (binary values as base64) and `MD5OfMessageAttributes`. They are hidden
        from others for `visibility_seconds` (None: as long as the queue has it).

        Who cancels this may lose sight of messages until they are visible again."""
        asked: dict[str, Any] = {
            "QueueUrl": self.url,
            "MaxNumberOfMessages": min(messages_max, BATCH_MAX),
            "WaitTimeSeconds": wait_seconds,
            "AttributeNames": ["All"],  # by its old name, which all of SQS' likes know
            "MessageAttributeNames": ["All"],
        }
        if visibility_seconds is not None:
            asked["VisibilityTimeout"] = visibility_seconds
        async with self._asking("ReceiveMessage", wait_seconds):
            answer = await self._client.receive_message(**asked)
            return _sound(answer.get("Messages") or ())

    async def delete_batch(self, receipts: Sequence[str]) -> tuple[Undone, ...]:
        """Deletes messages for good; those that could not be."""

        async def ask(entries: list[dict[str, Any]]) -> Any:
            asked = {"QueueUrl": self.url, "Entries": entries}
            async with self._asking("DeleteMessageBatch"):
                answer = await self._client.delete_message_batch(**asked)
                return _told_of_all(entries, answer)

        return await _in_batches([{"ReceiptHandle": receipt} for receipt in receipts], ask)

    async def change_visibility_batch(
        self, changes: Sequence[tuple[str, int]]
    ) -> tuple[Undone, ...]:
        """Hides messages, each by its receipt, for so many seconds from now on; 0: it is to be had
        at once. Those that could not be."""

        async def ask(entries: list[dict[str, Any]]) -> Any:
            asked = {"QueueUrl": self.url, "Entries": entries}
            async with self._asking("ChangeMessageVisibilityBatch"):
                answer = await self._client.change_message_visibility_batch(**asked)
                return _told_of_all(entries, answer)

        return await _in_batches(
            [
                {"ReceiptHandle": receipt, "VisibilityTimeout": seconds}
                for receipt, seconds in changes
            ],
            ask,
        )

    async def send(
        self,
        body: str,
        *,
        attributes: Mapping[str, str | Mapping[str, str]] | None = None,
        group: str | None = None,
        deduplication: str | None = None,
    ) -> str:
        """Puts a message into the queue; its id. `attributes` are strings, or what SQS has for
        others (`DataType`, `StringValue`). A FIFO queue wants a group, and an id by which it knows
        what it has already, unless it goes by the content."""
        asked: dict[str, Any] = {"QueueUrl": self.url, "MessageBody": body}
        if attributes:
            asked["MessageAttributes"] = {
                name: {"DataType": "String", "StringValue": value}
                if isinstance(value, str)
                else value
                for name, value in attributes.items()
            }
        if group is not None:
            asked["MessageGroupId"] = group
        if deduplication is not None:
            asked["MessageDeduplicationId"] = deduplication
        async with self._asking("SendMessage"):
            answer = await self._client.send_message(**asked)
            return str(answer["MessageId"])

    async def _found(self) -> str:
        *arn, account, name = f"::{self.name}".split(":")
        asked = {"QueueName": name}
        if any(arn) and account:
            asked["QueueOwnerAWSAccountId"] = account
        async with self._asking("GetQueueUrl"):
            answer = await self._client.get_queue_url(**asked)
            return str(answer["QueueUrl"])

    @asynccontextmanager
    async def _asking(self, operation: str, wait_seconds: float = 0.0) -> AsyncIterator[None]:
        assert self._client is not None
        try:
            with anyio.fail_after(CALL_SECONDS + wait_seconds):
                yield
        except aws.ERRORS as error:
            raise aws.translated(error, f"{operation} of {self.name}") from error
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            told = f"the answer is not what the service promises ({error!r})"
            raise Refused(f"{operation} of {self.name}: {told}") from error


def _told_of_all(entries: Sequence[Mapping[str, Any]], answer: Mapping[str, Any]) -> Any:
    """Silence is no consent: what says nothing of an entry has not done it."""
    told = [*(answer.get("Successful") or ()), *(answer.get("Failed") or ())]
    if missing := {each["Id"] for each in entries} - {each["Id"] for each in told}:
        raise LookupError(f"nothing is said of {len(missing)} entries")
    return answer


def _sound(messages: Sequence[Any]) -> Sequence[Mapping[str, Any]]:
    """What can be made records of: it is not the client that has read them."""
    for told in messages:
        attributes, own = told.get("Attributes") or {}, told.get("MessageAttributes") or {}
        texts = (told["MessageId"], told["ReceiptHandle"], told["Body"])
        group, sent = attributes.get("MessageGroupId", ""), int(attributes.get("SentTimestamp", 0))
        int(attributes.get("ApproximateReceiveCount", 1))
        if not all(isinstance(each, str) for each in (*texts, group)):
            raise TypeError("a message is of no text")
        if not 0 <= sent < TIME_MS_MAX:
            raise ValueError(f"a message is of the time {sent}")
        for each in own.values():
            pybase64.b64decode(each.get("BinaryValue") or b"")
    return messages


async def _in_batches(
    entries: Sequence[dict[str, Any]], ask: Callable[[list[dict[str, Any]]], Awaitable[Any]]
) -> tuple[Undone, ...]:
    """Asks for ten entries at a time. What fails by no fault of its own is asked for again."""
    undone: list[Undone] = []
    for start in range(0, len(entries), BATCH_MAX):
        left = list(range(start, min(start + BATCH_MAX, len(entries))))
        failed: dict[int, Mapping[str, Any]] = {}
        for attempt in range(TRIES):
            if attempt:
                await anyio.sleep(PAUSE_SECONDS * 2**attempt)
            answer = await ask([{"Id": str(index), **entries[index]} for index in left])
            told = {int(each["Id"]): each for each in answer.get("Failed") or ()}
            failed = {index: failed[index] for index in failed if index not in left} | told
            left = [index for index, each in told.items() if not each.get("SenderFault", True)]
            if not left:
                break
        undone += (
            Undone(index, str(each.get("Code", "")), str(each.get("Message", "")))
            for index, each in sorted(failed.items())
        )
    return tuple(undone)
