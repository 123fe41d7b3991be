"""FastStream on aiokafka, a batch subscriber, acknowledged as it does by default."""

import asyncio
import logging
import sys
import uuid

import uvloop
from faststream import FastStream
from faststream.kafka import KafkaBroker
from measured import Ids, Meter

bootstrap, topic, wanted = sys.argv[1], sys.argv[2], int(sys.argv[3])
broker = KafkaBroker(bootstrap, log_level=logging.ERROR)
app = FastStream(broker, logger=None)
meter, ids = Meter(), Ids()
done = asyncio.Event()


async def raw(message):
    return message.body


@broker.subscriber(
    topic,
    batch=True,
    max_records=1000,
    group_id=f"faststream-{uuid.uuid4()}",
    auto_offset_reset="earliest",
    decoder=raw,
)
async def handle(values: list):
    meter.start()
    ids.see(values)
    if ids.count >= wanted and not done.is_set():
        meter.report(ids.count)
        done.set()


async def main():
    await broker.start()
    await done.wait()
    await broker.stop()


uvloop.run(main())
