"""SQS messages through a function, against a bare client and ministack, in the same run.

    python tests/bench/sqs.py [--rounds 3] [--messages 100000] [--size 200] [--real 10000]

First a queue that answers at once, so that the client is the limit: the whole daemon with its
isolated workers, against as many loops of stock aiobotocore that receive, handle and delete in one
process. Then so many messages (`--real`; 0: not) of a queue of ministack: the daemon, against
ministack's own event-source mapping, with the same function and batches, from the first invocation
to the last.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from typing import Any

import ours
from kinesis_function import rate
from measure import in_turn, machine, run_peer, table

BATCH = 10
PARALLEL = 8
ANCHOR = f"aiobotocore, {PARALLEL} loops"

HANDLER = '''
"""Touches every body, as the peer does."""
count = total = 0

def main(event, context):
    global count, total
    for message in event["Records"]:
        total += len(message["body"])
    count += len(event["Records"])
'''

CONFIG = """
version: 1
state: {{path: ./state}}
connections:
  aws: {{type: aws, region: us-east-1, endpoint_url: "{url}", access_key_id: a-key,
        secret_access_key: "${{BENCH_SECRET:-a-secret}}"}}
functions:
  touch:
    code: touch
    handler: app.main
    timeout: 30s
    isolation: best-effort
    concurrency: {{warm: {workers}, max: {workers}}}
    logging: {{platform: failures}}
    triggers:
      bench: {{type: sqs, connection: aws, queue: bench, batch: {batch}, parallel: {parallel}}}
"""


def contest(given: argparse.Namespace) -> None:
    """The daemon and its peer in turn on the queue that is never empty."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    stub = Path(__file__).resolve().parents[1] / "queue_stub.py"
    server = subprocess.Popen([sys.executable, str(stub), str(port), str(given.size)])
    try:
        until = time.monotonic() + 20
        while not _answers(port):
            assert time.monotonic() < until, "the queue did not come up"
            time.sleep(0.05)
        url = f"http://127.0.0.1:{port}"

        def daemon(batch: str, workers: int) -> Callable[[], Any]:
            text = CONFIG.format(url=url, batch=batch, workers=workers, parallel=PARALLEL)
            return lambda: ours.drive(text, HANDLER, given.messages, pause_seconds=0.5)

        contestants = {
            ANCHOR: lambda: run_peer(
                "bare_aiobotocore.py", url, str(given.messages), str(PARALLEL),
                deadline_seconds=300,
            ),
            "streamfaas, batch 10, 2 workers": daemon("{size: 10}", 2),
            "streamfaas, batch 100, 2 workers": daemon("{size: 100, window: 100ms}", 2),
        }  # fmt: skip
        print(f"\n{given.size} B bodies, {given.messages:,} messages, {given.rounds} rounds")
        print("\n".join(table(in_turn(contestants, given.rounds), ANCHOR)))
    finally:
        server.kill()
        server.wait()


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


# -- a real queue

LEDGER = """
import os, time

def main(event, context):
    begun = time.time()
    total = sum(len(each["body"]) for each in event["Records"])
    with open(os.environ["LEDGER"], "a") as ledger:
        ledger.write(f"{begun} {time.time()} {len(event['Records'])}\\n")
    return {}
"""


async def filled(client: Any, messages: int) -> str:
    """A queue that is made and filled; its URL."""
    made = await client.create_queue(QueueName="bench")
    url = str(made["QueueUrl"])
    for start in range(0, messages, 10):
        entries = [{"Id": str(at), "MessageBody": f"{start + at:200}"} for at in range(10)]
        assert not (await client.send_message_batch(QueueUrl=url, Entries=entries)).get("Failed")
    return url


def daemons(messages: int) -> float:
    """The daemon with isolated workers."""
    from aws_servers import running
    from daemon_process import DaemonProcess
    from sqs_project import project

    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        with running("ministack") as server:

            async def fill() -> None:
                async with server.client("sqs") as client:
                    await filled(client, messages)

            asyncio.run(fill())
            config = project(folder, server, "bench")
            (folder / "code" / "app.py").write_text(LEDGER)
            with DaemonProcess(config, "--quiet", env={"SECRET": "a-secret"}) as daemon:
                found = rate(folder / "out" / "ledger.jsonl", messages)
                daemon.stop()
            return found
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def ministacks(messages: int) -> float:
    """ministack's own mapping and function."""
    from aws_servers import running
    from streamfaas.wire import aws

    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("app.py", LEDGER)
    try:
        with running("ministack") as server:

            async def run() -> None:
                async with AsyncExitStack() as life:
                    queues = await aws.client("sqs", server.access, life)
                    url = await filled(queues, messages)
                    told = await queues.get_queue_attributes(
                        QueueUrl=url, AttributeNames=["QueueArn"]
                    )
                    client = await aws.client("lambda", server.access, life)
                    await client.create_function(
                        FunctionName="f",
                        Runtime="python3.11",
                        Role="arn:aws:iam::000000000000:role/bench",
                        Handler="app.main",
                        Code={"ZipFile": packed.getvalue()},
                        Environment={"Variables": {"LEDGER": str(folder / "ledger")}},
                        Timeout=30,
                    )
                    await client.create_event_source_mapping(
                        EventSourceArn=told["Attributes"]["QueueArn"],
                        FunctionName="f",
                        BatchSize=BATCH,
                    )

            asyncio.run(run())
            return rate(folder / "ledger", messages)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def real(messages: int, rounds: int) -> None:
    """Both on a queue of ministack, in turn."""
    contestants = {"streamfaas": daemons, "ministack's own mapping": ministacks}
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds):
        for name, run in contestants.items():
            rates[name].append(run(messages))
            print(f"  round {number + 1} {name:34} {rates[name][-1]:10,.0f} messages/s", flush=True)
    mine, theirs = (median(each) for each in rates.values())
    print(f"{messages:,} messages of 200 B from ministack, batches of {BATCH}, medians:")
    print(f"{mine:,.0f} to {theirs:,.0f} messages/s, {mine / theirs:.1f} times")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--messages", type=int, default=100_000)
    options.add_argument("--size", type=int, default=200)
    options.add_argument("--real", type=int, default=10_000)
    given = options.parse_args()
    print(machine())
    if given.messages:
        contest(given)
    if given.real:
        real(given.real, given.rounds)


if __name__ == "__main__":
    main()
