"""The anchor: `getmany(max_records=1000)` under uvloop, offsets committed by a timer."""

import sys
import uuid

import uvloop
from aiokafka import AIOKafkaConsumer
from measured import Ids, Meter

bootstrap, topic, wanted = sys.argv[1], sys.argv[2], int(sys.argv[3])


async def main():
    meter, ids = Meter(), Ids()
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        group_id=f"bare-{uuid.uuid4()}",
        auto_offset_reset="earliest",
        enable_auto_commit=True,
        auto_commit_interval_ms=200,
    )
    await consumer.start()
    try:
        while ids.count < wanted:
            found = await consumer.getmany(timeout_ms=1000, max_records=1000)
            for records in found.values():
                meter.start()
                ids.see([record.value for record in records])
        meter.report(ids.count)
    finally:
        await consumer.stop()


uvloop.run(main())
