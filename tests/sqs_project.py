"""A project whose function writes down what came to it from a queue."""

import asyncio
import json
import textwrap

HANDLER = """
    import fcntl, json, os, time

    def main(event, context):
        groups = {each["attributes"].get("MessageGroupId") for each in event["Records"]}
        assert len(groups) == 1, groups
        bodies = [each["body"] for each in event["Records"]]
        receives = [int(each["attributes"]["ApproximateReceiveCount"]) for each in event["Records"]]
        time.sleep(float(os.environ.get("PAUSE", "0.005")))
        failed = os.environ.get("FAILING", "").split()
        bad = [each["messageId"] for each in event["Records"] if each["body"] in failed]
        with open(os.environ["LEDGER"], "a") as ledger:
            fcntl.flock(ledger, fcntl.LOCK_EX)
            ledger.write(json.dumps([groups.pop(), list(zip(bodies, receives)), len(bad)]) + "\\n")
            ledger.flush()
            os.fsync(ledger.fileno())
        return {"batchItemFailures": [{"itemIdentifier": each} for each in bad]}
"""


def project(folder, aws, queue, *, env=None, concurrency=None, name="streamfaas", **trigger):
    for part in ("code", "out"):
        (folder / part).mkdir(exist_ok=True)
    (folder / "code" / "app.py").write_text(textwrap.dedent(HANDLER))
    config = {
        "version": 1,
        "state": {"path": "state" if name == "streamfaas" else f"state-{name}"},
        "connections": {
            "aws": {
                "type": "aws",
                "region": "us-east-1",
                "endpoint_url": aws.url,
                "access_key_id": "a-key",
                "secret_access_key": "${SECRET}",
            }
        },
        "functions": {
            "mail": {
                "code": "code",
                "handler": "app.main",
                "env": {"LEDGER": "/mnt/out/ledger.jsonl", **(env or {})},
                "isolation": "best-effort",
                **({"concurrency": {"max": concurrency}} if concurrency else {}),
                "triggers": {
                    "mail": {
                        "type": "sqs",
                        "connection": "aws",
                        "queue": queue,
                        "partial_failures": True,
                        **trigger,
                    },
                    "out": {  # where the function may write
                        "type": "object-store",
                        "via": "directory",
                        "path": "out",
                        "bucket": "out",
                        "prefix": "none/",
                        "write": True,
                    },
                },
            }
        },
    }
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps(config))  # which is YAML, too
    return path


def executed(folder):
    """Group, pairs of body and receive count, and failures, of each batch a handler has had."""
    ledger = folder / "out" / "ledger.jsonl"
    lines = ledger.read_text().split("\n")[:-1] if ledger.exists() else []  # the last: half written
    return [json.loads(line) for line in lines]


def ran(folder):
    """Bodies and receive counts, in the order in which batches ended."""
    return [tuple(pair) for _, pairs, _ in executed(folder) for pair in pairs]


def bodies(folder):
    return [body for body, _ in ran(folder)]


def created(aws, name, **attributes):
    """The queue's URL."""
    if name.endswith(".fifo"):
        attributes["FifoQueue"] = "true"

    async def create():
        async with aws.client("sqs") as client:
            answer = await client.create_queue(QueueName=name, Attributes=attributes)
            return answer["QueueUrl"]

    return asyncio.run(create())


def sent(aws, url, numbers, groups=0):
    """Messages of the numbers as text; of a FIFO queue, in so many groups."""

    async def send():
        async with aws.client("sqs") as client:
            some = list(numbers)
            for start in range(0, len(some), 10):
                entries = [
                    {"Id": str(at), "MessageBody": str(each)}
                    | (
                        {"MessageGroupId": f"g{each % groups}", "MessageDeduplicationId": str(each)}
                        if groups
                        else {}
                    )
                    for at, each in enumerate(some[start : start + 10])
                ]
                answer = await client.send_message_batch(QueueUrl=url, Entries=entries)
                assert not answer.get("Failed")

    asyncio.run(send())


def left(aws, url):
    """How many messages wait, and how many are in flight."""

    async def ask():
        async with aws.client("sqs") as client:
            answer = await client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
            told = answer["Attributes"]
            names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
            return tuple(int(told[name]) for name in names)

    return asyncio.run(ask())
