"""Kinesis records through a function: `python tests/bench/kinesis_function.py [records]`.

streamfaas reads them from kinesalite; the peer is ministack with its own event-source mapping, a
Kinesis stream and a Lambda function in it. The function, the batches and the machine are the same:
four shards, 100 records a batch, records of 200 B. Each run is from its first invocation to its
last, as the function itself writes them down. Rounds are taken in turn; the ratio is printed.
"""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from typing import Any

from measure import machine

ROUNDS = 3
SHARDS = 4
BATCH = 100
SECONDS_MAX = 300

HANDLER = """
import base64, os, time

def main(event, context):
    begun = time.time()
    total = sum(len(base64.b64decode(each["kinesis"]["data"])) for each in event["Records"])
    with open(os.environ["LEDGER"], "a") as ledger:
        ledger.write(f"{begun} {time.time()} {len(event['Records'])}\\n")
    return {}
"""


def rate(ledger: Path, records: int) -> float:
    """Records a second, once all of them are in the ledger."""
    until = time.monotonic() + SECONDS_MAX
    while time.monotonic() < until:
        lines = ledger.read_text().split("\n")[:-1] if ledger.exists() else []
        rows = [[float(field) for field in line.split()] for line in lines]
        if sum(row[2] for row in rows) >= records:
            return records / (max(row[1] for row in rows) - min(row[0] for row in rows))
        time.sleep(0.05)
    sys.exit(f"{ledger}: not finished in {SECONDS_MAX} s")


async def filled(client: Any, stream: str, records: int) -> str:
    """A stream that is made and filled; its ARN."""
    from kinesis_servers import active

    await client.create_stream(StreamName=stream, ShardCount=SHARDS)
    await active(client, stream)
    for start in range(0, records, 500):
        some = [
            {"PartitionKey": f"key {number}", "Data": b"x" * 200}
            for number in range(start, min(start + 500, records))
        ]
        answer = await client.put_records(StreamName=stream, Records=some)
        assert answer["FailedRecordCount"] == 0
    told = await client.describe_stream_summary(StreamName=stream)
    return str(told["StreamDescriptionSummary"]["StreamARN"])


def ours(records: int) -> float:
    """kinesalite, and the daemon with an isolated worker."""
    from daemon_process import DaemonProcess
    from kinesis_servers import running

    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        (folder / "code").mkdir()
        (folder / "out").mkdir()
        (folder / "code" / "app.py").write_text(HANDLER)
        with running("kinesalite") as server:

            async def fill() -> None:
                async with server.client() as client:
                    await filled(client, "bench", records)

            asyncio.run(fill())
            aws = {"type": "aws", "region": "us-east-1", "endpoint_url": server.url}
            clicks = {
                "type": "kinesis", "connection": "aws", "stream": "bench", "start": "earliest",
                "batch": {"size": BATCH},
            }  # fmt: skip
            out = {
                "type": "object-store", "via": "directory", "path": "out", "bucket": "out",
                "prefix": "none/", "write": True,
            }  # fmt: skip
            function = {
                "code": "code", "handler": "app.main", "isolation": "best-effort",
                "env": {"LEDGER": "/mnt/out/ledger"}, "triggers": {"clicks": clicks, "out": out},
            }  # fmt: skip
            config = folder / "streamfaas.yaml"
            whole = {"version": 1, "connections": {"aws": aws}, "functions": {"f": function}}
            config.write_text(json.dumps(whole))
            keys = {"AWS_ACCESS_KEY_ID": "a-key", "AWS_SECRET_ACCESS_KEY": "a-secret"}
            with DaemonProcess(config, env=keys) as daemon:
                found = rate(folder / "out" / "ledger", records)
                daemon.signal()
                daemon.wait()
            return found
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def ministack(records: int) -> float:
    """ministack's own mapping, stream and function."""
    from aws_servers import running
    from streamfaas.wire import aws

    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("app.py", HANDLER)
    try:
        with running("ministack") as server:

            async def run() -> None:
                async with AsyncExitStack() as life:
                    stream = await filled(
                        await aws.client("kinesis", server.access, life), "bench", records
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
                        EventSourceArn=stream,
                        FunctionName="f",
                        StartingPosition="TRIM_HORIZON",
                        BatchSize=BATCH,
                    )

            asyncio.run(run())
            return rate(folder / "ledger", records)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    records = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    contestants: dict[str, Callable[[int], float]] = {
        "streamfaas, from kinesalite": ours,
        "ministack's own mapping": ministack,
    }
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    print(machine())
    for number in range(ROUNDS):
        for name, run in contestants.items():
            rates[name].append(run(records))
            print(f"  round {number + 1} {name:30} {rates[name][-1]:10,.0f} records/s", flush=True)
    mine, theirs = (median(each) for each in rates.values())
    print(f"{records:,} records of 200 B, {SHARDS} shards, batches of {BATCH}, medians:")
    print(f"{mine:,.0f} to {theirs:,.0f} records/s, {mine / theirs:.1f} times")


if __name__ == "__main__":
    main()
