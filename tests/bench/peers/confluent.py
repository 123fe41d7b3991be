"""confluent-kafka, `consume(1000)`, its queue never held back between fetches."""

import sys
import uuid

from confluent_kafka import Consumer
from measured import Ids, Meter

bootstrap, topic, wanted = sys.argv[1], sys.argv[2], int(sys.argv[3])
consumer = Consumer(
    {
        "bootstrap.servers": bootstrap,
        "group.id": f"confluent-{uuid.uuid4()}",
        "auto.offset.reset": "earliest",
        "auto.commit.interval.ms": 200,
        "fetch.queue.backoff.ms": 0,
        "queued.min.messages": 1_000_000,
    }
)
consumer.subscribe([topic])
meter, ids = Meter(), Ids()
while ids.count < wanted:
    messages = consumer.consume(1000, timeout=1.0)
    if messages:
        meter.start()
        ids.see([message.value() for message in messages])
meter.report(ids.count)
consumer.close()
