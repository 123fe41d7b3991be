"""The simplest consumer that could be judged in place of the daemon: one worker, one batch at a
time. It is careful, or it commits before the work is done, as many do: `careless.py early CONFIG`.
"""

from __future__ import annotations

import asyncio
import base64
import ctypes
import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any


async def consume(config: Path, *, early: bool) -> None:
    import yaml  # not in the worker: it starts often
    from aiokafka import AIOKafkaConsumer, TopicPartition

    spec = yaml.safe_load(config.read_text())
    function = spec["functions"]["recorder"]
    trigger = function["triggers"]["river"]
    env = {**function["env"], "LEDGER": str(config.resolve().parent / "ledger" / "executed.jsonl")}
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=spec["connections"]["river"]["brokers"],
        group_id=trigger["group"],
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    worker = None
    try:
        topic = trigger["topics"][0]
        await consumer._client.force_metadata_update()
        places = {TopicPartition(topic, p) for p in consumer.partitions_for_topic(topic) or ()}
        consumer.assign(places)
        while not stop.is_set():
            for place in places:
                polled = await consumer.getmany(
                    place, timeout_ms=50, max_records=trigger["batch"]["size"]
                )
                for records in polled.values():
                    offset = {place: records[-1].offset + 1}
                    if early:
                        await consumer.commit(offset)
                    worker = await run(worker, env, event(place, records))
                    if not early:
                        await consumer.commit(offset)
    finally:
        if worker is not None:
            worker.stdin.close()
            worker.wait()
        await consumer.stop()


async def run(worker: Any, env: dict, content: dict, tries: int = 100) -> Any:
    """Until a worker has answered; a dead one is replaced. The worker that is there now."""
    for _ in range(tries):
        if worker is None:
            worker = start(env)
        try:
            worker.stdin.write(json.dumps(content).encode() + b"\n")
            worker.stdin.flush()
            if await asyncio.to_thread(worker.stdout.readline) == b"done\n":
                return worker
        except OSError:
            pass
        worker.kill()
        worker.communicate()
        worker = None
    raise RuntimeError("no worker ever answered")


def start(env: dict) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, __file__],
        env={**os.environ, **env},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - a plain C call
    )


def event(place: Any, records: list) -> dict:
    return {
        "records": {
            f"{place.topic}-{place.partition}": [
                {
                    "offset": record.offset,
                    "timestamp": record.timestamp,
                    "key": record.key and base64.b64encode(record.key).decode(),
                    "value": base64.b64encode(record.value).decode(),
                    "headers": [{name: list(value)} for name, value in record.headers],
                }
                for record in records
            ]
        }
    }


def die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def descend() -> None:
    """Goes on as far below the daemon as one of its workers stands; each dies with the one above,
    and this one ends when the one below does."""
    for _ in range(2):
        if child := os.fork():
            os.waitpid(child, 0)
            os._exit(0)
        die_with_parent()


def work() -> None:
    path = Path(__file__).parent / "recorder" / "handler.py"
    spec = importlib.util.spec_from_file_location("handler", path)
    handler = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(handler)
    for line in sys.stdin:
        handler.handle(json.loads(line), SimpleNamespace(aws_request_id="", log_stream_name=""))
        print("done", flush=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            descend()
            work()
        case [word, config]:
            asyncio.run(consume(Path(config), early=word == "early"))
