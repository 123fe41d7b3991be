"""The anchor: as many loops of receive, handle and delete as streamfaas has batches in hand."""

import asyncio
import sys

import uvloop
from aiobotocore.session import AioSession
from measured import Ids, Meter

url, wanted, loops = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


async def main():
    meter, ids = Meter(), Ids()

    async def loop(client):
        while ids.count < wanted:
            answer = await client.receive_message(
                QueueUrl=queue,
                MaxNumberOfMessages=10,
                WaitTimeSeconds=20,
                AttributeNames=["All"],
                MessageAttributeNames=["All"],
            )
            messages = answer.get("Messages", ())
            meter.start()
            ids.see([message["Body"] for message in messages])
            entries = [
                {"Id": str(at), "ReceiptHandle": message["ReceiptHandle"]}
                for at, message in enumerate(messages)
            ]
            await client.delete_message_batch(QueueUrl=queue, Entries=entries)

    async with AioSession().create_client(
        "sqs",
        region_name="us-east-1",
        endpoint_url=url,
        aws_access_key_id="a-key",
        aws_secret_access_key="a-secret",
    ) as client:
        queue = (await client.get_queue_url(QueueName="bench"))["QueueUrl"]
        async with asyncio.TaskGroup() as tasks:
            for _ in range(loops):
                tasks.create_task(loop(client))
        meter.report(ids.count)


uvloop.run(main())
