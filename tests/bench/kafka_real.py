"""The same contest on a real Apache Kafka, and the idle latency.

    python tests/bench/kafka_real.py [--rounds 3] [--records 2000000] [--sizes 200,1024]

The records are loaded beforehand. Rate and CPU are of the whole process tree; the broker shares
the machine with all of them. Frameworks get a tenth of the records, since they are slower.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import ours
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from measure import in_turn, machine, run_peer, table

import kafka_broker

ANCHOR = "aiokafka getmany(1000)"

STAMP = '''
"""Writes down when it was started, on the clock that the producer uses too."""
import os, time

def main(event, context):
    now = time.monotonic_ns()
    with open("/mnt/latency/times", "ab", buffering=0) as out:
        for records in event["records"].values():
            for record in records:
                out.write(b"%s %d\\n" % (record["value"].encode(), now))
'''

LATENCY = """
version: 1
state: {{path: ./state}}
connections:
  bench: {{type: kafka, brokers: ["{bootstrap}"]}}
functions:
  stamp:
    code: stamp
    handler: app.main
    isolation: best-effort
    concurrency: {{warm: 1, max: 1}}
    logging: {{platform: failures}}
    triggers:
      bench: {{type: kafka, connection: bench, topics: ["{topic}"], start: earliest}}
      none: {{type: object-store, via: directory, path: ./latency, bucket: latency, write: true,
              prefix: none/}}
"""


async def load(kafka: kafka_broker.Kafka, records: int, size: int) -> str:
    """A topic of four partitions, in batches as a producer with a little linger makes them."""
    topic = await kafka.create_topic("bench", 4)
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap, linger_ms=20, max_batch_size=65_536
    )
    await producer.start()
    try:
        waiting = []
        for number in range(records):
            value = (b'{"id":%d,"pad":"' % number).ljust(size - 2, b"x") + b'"}'
            waiting.append(await producer.send(topic, value, partition=number % 4))
            if len(waiting) == 20_000:
                await asyncio.gather(*waiting)
                waiting.clear()
        await asyncio.gather(*waiting)
    finally:
        await producer.stop()
    return topic


async def listen(kafka: kafka_broker.Kafka, topic: str, spent: list[float]) -> None:
    """The floor: a bare consumer that has nothing to do but to look at the clock."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest", fetch_max_wait_ms=100
    )
    consumer.assign([TopicPartition(topic, 0)])
    await consumer.start()
    try:
        async for record in consumer:
            spent.append((time.monotonic_ns() - int(record.value)) / 1e6)
    finally:
        await consumer.stop()


def shown(spent: list[float]) -> str:
    spent = sorted(spent[10:])
    return f"p50 {statistics.median(spent):.1f} ms, p99 {spent[int(len(spent) * 0.99)]:.1f} ms"


async def latency(kafka: kafka_broker.Kafka, records: int = 400) -> str:
    """From just before `send` to the start of the handler, a record at a time, 25 ms apart; and to
    a bare consumer that listens beside the daemon."""
    from daemon_process import DaemonProcess, write_project

    topic = await kafka.create_topic("latency", 1)
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    shared = folder / "latency"
    shared.mkdir()
    shared.chmod(0o777)
    bare: list[float] = []
    listener = asyncio.create_task(listen(kafka, topic, bare))
    config = write_project(
        folder, LATENCY.format(bootstrap=kafka.bootstrap, topic=topic), stamp=STAMP
    )
    try:
        with DaemonProcess(config, "--quiet") as daemon:
            daemon.wait_for(lambda status: status["triggers"]["stamp/bench"]["lanes"])
            async with kafka.producer() as producer:
                for _ in range(records):
                    await producer.send_and_wait(topic, b"%d" % time.monotonic_ns(), partition=0)
                    await asyncio.sleep(0.025)
            daemon.wait_for(lambda status: status["triggers"]["stamp/bench"]["records"] >= records)
            daemon.stop()
        spent = []
        for line in (shared / "times").read_text().splitlines():
            value, started = line.split()
            spent.append((int(started) - int(base64.b64decode(value))) / 1e6)
    finally:
        listener.cancel()
        await asyncio.wait([listener])
        shutil.rmtree(folder, ignore_errors=True)
    return (
        f"idle latency, produce to handler start: {shown(spent)}; "
        f"to a bare aiokafka consumer: {shown(bare)}"
    )


def contest(where: str, topic: str, few_topic: str, given: argparse.Namespace, size: int) -> None:
    """One size of values: all contestants in turn, and their table."""
    records, few = given.records, given.records // 10
    contestants = {
        ANCHOR: lambda: run_peer("bare_aiokafka.py", where, topic, str(records)),
        "streamfaas, batch 1,000, 1 worker": lambda: ours.run(where, topic, records),
        "streamfaas, batch 100, 1 worker": lambda: ours.run(where, topic, records, batch=100),
    }
    if not given.only_ours:
        contestants |= {
            "confluent consume(1000)": lambda: run_peer("confluent.py", where, topic, str(records)),
            "FastStream, batches of 1,000": lambda: run_peer(
                "fast_stream.py", where, few_topic, str(few)
            ),
            "Quix Streams": lambda: run_peer("quix.py", where, few_topic, str(few)),
        }
    print(f"\n{size} B values, 4 partitions, {records:,} records, {given.rounds} rounds")
    print("\n".join(table(in_turn(contestants, given.rounds), ANCHOR)))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--records", type=int, default=2_000_000)
    options.add_argument("--sizes", default="200,1024")
    options.add_argument("--only-ours", action="store_true")
    given = options.parse_args()
    print(machine())
    with kafka_broker.running() as kafka:
        print(asyncio.run(latency(kafka)))
        for size in map(int, given.sizes.split(",")):
            topic = asyncio.run(load(kafka, given.records, size))
            few_topic = asyncio.run(load(kafka, given.records // 10, size))
            contest(kafka.bootstrap, topic, few_topic, given, size)


if __name__ == "__main__":
    main()
