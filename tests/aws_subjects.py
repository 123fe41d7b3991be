"""Destinations of AWS' kinds over real servers, through a door that fails on command, for the suite
that all destinations must keep."""

from __future__ import annotations

import uuid
from contextlib import asynccontextmanager

from streamfaas.destinations.s3 import S3, S3Options
from streamfaas.destinations.sns import Sns, SnsOptions
from streamfaas.destinations.sqs import Sqs, SqsOptions
from streamfaas.flow.errors import Busy, Gone, Refused, Unreachable
from streamfaas.flow.letters import Letter
from streamfaas.testing.deliveries import Fault, Subject

SECONDS = 30.0
SECONDS_IN_VAIN = 1.0

CARRIED = frozenset({"id", "hops"})

FAULTS = ["gone", "slow", "hanging up", "failing", "denied", "throttled"]


def by_the_door(faults, service):
    """What a door can do to all requests of a service."""
    rules = {
        "slow": (Unreachable, {"timeout_ms": 60_000}),
        "hanging up": (Unreachable, {"reset": True}),
        "failing": (Unreachable, {"error": {"code": "InternalFailure", "status": 500}}),
        "denied": (Refused, {"error": {"code": "ExpiredToken", "status": 403}}),
        "throttled": (Busy, {"error": {"code": "ThrottlingException", "status": 400}}),
    }

    def one(name, error, rule):
        return Fault(name, error, lambda: faults.of({"service": service, **rule}))

    return {name: one(name, *each) for name, each in rules.items()}


def gone(remove, make):
    """It is deleted, and made again under its name."""

    @asynccontextmanager
    async def inflict():
        await remove()
        try:
            yield
        finally:
            await make()

    return Fault("gone", Gone, inflict)


# -- a bucket


@asynccontextmanager
async def bucket(faults, seconds=SECONDS):
    name, removed = f"dead-{uuid.uuid4().hex}", []
    async with faults.server.client("s3") as client:

        async def make():
            await client.create_bucket(Bucket=name)

        async def there():
            return [letter for _, letter in await objects(client, name)]

        async def remove():
            removed.extend(await there())
            for key, _ in await objects(client, name):
                await client.delete_object(Bucket=name, Key=key)
            await client.delete_bucket(Bucket=name)

        async def received():
            return [*removed, *await there()]

        await make()
        yield (
            Subject(
                lambda: S3(S3Options(faults.access, name, send_seconds=seconds)), received, CARRIED
            ),
            {"gone": gone(remove, make), **by_the_door(faults, "s3")},
        )


async def objects(client, name):
    """Keys and what lies there, as letters."""
    found = []
    for each in (await client.list_objects(Bucket=name)).get("Contents", ()):
        answer = await client.get_object(Bucket=name, Key=each["Key"])
        told, body = answer["Metadata"], await answer["Body"].read()
        letter = Letter(told["streamfaas-id"], body, hops=int(told["streamfaas-hops"]))
        found.append((each["Key"], letter))
    return found


# -- a queue


@asynccontextmanager
async def queue(faults, seconds=SECONDS):
    name, got = f"dead-{uuid.uuid4().hex}", []
    async with faults.server.client("sqs") as client:

        async def make():
            await client.create_queue(QueueName=name, Attributes=LARGE)

        async def received():
            got.extend(await drained(client, name))
            return list(got)

        async def remove():
            await received()
            url = (await client.get_queue_url(QueueName=name))["QueueUrl"]
            await client.delete_queue(QueueUrl=url)

        await make()
        yield (
            Subject(
                lambda: Sqs(SqsOptions(faults.access, name, send_seconds=seconds)),
                received,
                CARRIED,
                bytes_max=262_144,
            ),
            {"gone": gone(remove, make), **by_the_door(faults, "sqs")},
        )


LARGE = {"MaximumMessageSize": "262144"}


async def drained(client, name):
    """What was in a queue, as letters; it is empty then."""
    url = (await client.get_queue_url(QueueName=name))["QueueUrl"]
    found = []
    while True:
        answer = await client.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        )
        if not answer.get("Messages"):
            return found
        for each in answer["Messages"]:
            told = {n: v["StringValue"] for n, v in each["MessageAttributes"].items()}
            hops = int(told["streamfaas-hops"])
            found.append(Letter(told["streamfaas-id"], each["Body"].encode(), hops=hops))
            await client.delete_message(QueueUrl=url, ReceiptHandle=each["ReceiptHandle"])


# -- a topic


@asynccontextmanager
async def topic(faults, seconds=SECONDS):
    """What it is given is seen in a queue that has subscribed to it."""
    name, got = f"dead-{uuid.uuid4().hex}", []
    server = faults.server
    arn = f"arn:aws:sns:{server.region}:{server.account}:{name}"
    async with server.client("sns") as client, server.client("sqs") as queues:

        async def make():
            await client.create_topic(Name=name)
            await client.subscribe(
                TopicArn=arn,
                Protocol="sqs",
                Endpoint=f"arn:aws:sqs:{server.region}:{server.account}:{name}",
                Attributes={"RawMessageDelivery": "true"},
            )

        async def remove():
            await client.delete_topic(TopicArn=arn)

        async def received():
            got.extend(await drained(queues, name))
            return list(got)

        await queues.create_queue(QueueName=name, Attributes=LARGE)
        await make()
        yield (
            Subject(
                lambda: Sns(SnsOptions(faults.access, arn, send_seconds=seconds)),
                received,
                CARRIED,
                bytes_max=262_144,
            ),
            {"gone": gone(remove, make), **by_the_door(faults, "sns")},
        )
