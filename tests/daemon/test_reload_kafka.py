"""Reloads of one of two daemons that share a group, while the other comes and goes."""

import asyncio
import json
from collections import Counter

import pytest

from daemon_process import DaemonProcess, write_project

RECORDS = 4_000
HANDLER = """
import time
def main(event, context):
    for records in event["records"].values():
        print("ran", records[0]["partition"], *(r["offset"] for r in records))
    time.sleep(0.01)
"""
CONFIG = """
version: 1
state: {path: ./state}
connections:
  main: {type: kafka, brokers: ["%s"]}
functions:
  orders:
    code: orders
    handler: app.main
    isolation: best-effort
    concurrency: {warm: 2}
    logging: {platform: failures}
    triggers:
      stream: {type: kafka, connection: main, topics: [%s], group: %s, start: earliest, batch: {size: SIZE}}
"""


def ran(*daemons):
    """How often each record ran."""
    found = Counter()
    for daemon in daemons:
        for line in daemon.text.splitlines():
            _, mark, told = line.partition("| ran ")
            if mark:
                partition, *offsets = map(int, told.split())
                found.update((partition, offset) for offset in offsets)
    return found


@pytest.mark.slow
@pytest.mark.kafka
def test_a_reload_during_a_rebalance_loses_nothing_and_runs_nothing_twice(tmp_path, kafka):
    async def main():
        topic = await kafka.create_topic("orders", 4)
        text = CONFIG % (kafka.bootstrap, topic, topic)
        stays = write_project(tmp_path / "stays", text.replace("SIZE", "10"), orders=HANDLER)
        comes = write_project(tmp_path / "comes", text.replace("SIZE", "10"), orders=HANDLER)
        ended = []
        with DaemonProcess(stays) as daemon:
            await asyncio.to_thread(daemon.wait_ready)
            producing = asyncio.create_task(produce(topic))
            for number in range(3):
                with DaemonProcess(comes) as other:
                    for part in range(4):
                        stays.write_text(text.replace("SIZE", str(11 + 10 * number + part)))
                        status, _, body = await asyncio.to_thread(daemon.request, "POST", "/reload")
                        assert status == 200, json.loads(body)
                        await asyncio.sleep(0.2 * part)
                    await asyncio.to_thread(other.wait_ready)
                    stays.write_text(text.replace("SIZE", str(7 + number)))
                    asking = asyncio.to_thread(daemon.request, "POST", "/reload")
                    stopped, (status, _, _) = await asyncio.gather(
                        asyncio.to_thread(other.stop), asking
                    )
                    assert (stopped, status) == (0, 200)
                    ended.append(other)
            await producing
            await asyncio.to_thread(daemon.wait_for, lambda _: len(ran(daemon, *ended)) == RECORDS)
            assert await asyncio.to_thread(daemon.stop) == 0
            ended.append(daemon)
        assert len(ran(*ended)) == RECORDS
        assert {record: times for record, times in ran(*ended).items() if times > 1} == {}

    async def produce(topic):
        for first in range(0, RECORDS, 100):
            values = [b"%d" % number for number in range(first, first + 100)]
            for partition in range(4):
                await kafka.produce(topic, values[partition::4], partition=partition)
            await asyncio.sleep(0.2)

    asyncio.run(main())
