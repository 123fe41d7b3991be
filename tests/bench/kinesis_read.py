"""What it takes to read Kinesis: `python tests/bench/kinesis_read.py [pages]`.

A server of its own answers GetRecords with prepared pages of 10,000 records of 200 B. The anchor is
the same client as it comes, which walks through every field of every record; async-kinesis is the
peer (`pip install async-kinesis`). CPU in seconds per million records, of the reader alone.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from importlib.metadata import PackageNotFoundError, version

from measure import Result, in_turn, machine, rss_mb, table

RECORDS = 10_000
ROUNDS = 3
TIMEOUT_SECONDS = 300
SHARD = "shardId-000000000000"
ARN = "arn:aws:kinesis:us-east-1:000000000000:stream/bench"
FIRST = 49680563103338208619439527198784736535280157645313409026


# -- the server


async def serve(pages: int) -> None:
    from aiohttp import web

    data = base64.b64encode(b"x" * 200).decode()
    records = [
        {
            "SequenceNumber": str(FIRST + number),
            "PartitionKey": f"customer-{number % 97}",
            "Data": data,
            "ApproximateArrivalTimestamp": 1_795_640_098.585,
        }
        for number in range(RECORDS)
    ]
    whole = json.dumps({"Records": records, "MillisBehindLatest": 1, "NextShardIterator": "NEXT"})
    head, tail = whole.encode().split(b"NEXT")
    last = json.dumps({"Records": records, "MillisBehindLatest": 0}).encode()
    shard = {
        "ShardId": SHARD,
        "HashKeyRange": {"StartingHashKey": "0", "EndingHashKey": str((1 << 128) - 1)},
        "SequenceNumberRange": {"StartingSequenceNumber": str(FIRST)},
    }
    described = {
        "StreamName": "bench", "StreamARN": ARN, "StreamStatus": "ACTIVE", "OpenShardCount": 1,
        "RetentionPeriodHours": 24, "StreamCreationTimestamp": 1_795_640_000.0, "Shards": [shard],
        "HasMoreShards": False, "EnhancedMonitoring": [],
    }  # fmt: skip
    answers = {
        "DescribeStreamSummary": {"StreamDescriptionSummary": described},
        "DescribeStream": {"StreamDescription": described},
        "ListShards": {"Shards": [shard]},
        "GetShardIterator": {"ShardIterator": "0"},
    }

    async def answer(request: web.Request) -> web.Response:
        operation = request.headers["X-Amz-Target"].partition(".")[2]
        asked = json.loads(await request.read() or b"{}")
        if operation == "GetRecords":
            number = int(asked["ShardIterator"]) + 1
            body = last if number >= pages else head + b"%d" % number + tail
        else:
            body = json.dumps(answers[operation]).encode()
        return web.Response(body=body, content_type="application/x-amz-json-1.1")

    app = web.Application()
    app.router.add_post("/", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await runner.cleanup()


# -- the readers, each in a process of its own


class Clock:
    """Runs from the second page on: what is imported and opened is not what is measured."""

    def __init__(self) -> None:
        self.cpu = self.start = 0.0
        self.before = 0

    def page(self, seen: int) -> None:
        if not self.before:
            self.before = seen
            self.cpu, self.start = time.process_time(), time.perf_counter()


clock = Clock()


async def as_it_comes(url: str) -> int:
    from aiobotocore.session import AioSession

    seen, iterator = 0, "0"
    async with AioSession().create_client("kinesis", endpoint_url=url) as client:
        while iterator:
            read = await client.get_records(ShardIterator=iterator, Limit=RECORDS)
            seen += len(read["Records"])
            clock.page(seen)
            iterator = read.get("NextShardIterator")
    return seen


async def ours(url: str, *, events: bool = False) -> int:
    from streamfaas.flow.batch import Batch
    from streamfaas.flow.record import Lane, run_of
    from streamfaas.sources.sharded.kinesis import Kinesis
    from streamfaas.sources.sharded.pages import Page, told
    from streamfaas.wire.aws import AwsAccess
    from streamfaas.wire.kinesis import Stream
    from streamfaas.wire.kinesis_event import kinesis_event
    from streamfaas.wire.shards import Origin

    origin = Origin(ARN, "us-east-1", "arn:aws:iam::000000000000:role/bench")
    lane = Lane("bench/bench", SHARD)
    dialect = Kinesis()
    overhead = dialect.overhead_bytes(origin)
    async with AsyncExitStack() as life:
        stream = Stream(AwsAccess("us-east-1", url), "bench")
        life.push_async_callback(stream.close)
        await stream.open()
        seen, iterator = 0, "0"
        while iterator:
            read = await stream.read(iterator, RECORDS)
            if events:  # as they go to a worker, 1,000 records each
                page = Page(seen, read.records, dialect, overhead)
                for first in range(seen, page.last + 1, 1_000):
                    run = run_of(lane, first, min(first + 999, page.last), page)
                    kinesis_event(origin, SHARD, told(dialect, Batch((run,))))
            seen += len(read.records)
            clock.page(seen)
            iterator = read.next or ""
    return seen


async def async_kinesis(url: str, pages: int) -> int:
    from kinesis.processors import StringProcessor

    from kinesis import Consumer

    seen = 0
    async with Consumer(
        "bench", endpoint_url=url, region_name="us-east-1", processor=StringProcessor(),
        sleep_time_no_records=0.01, shard_fetch_rate=1_000, max_queue_size=100_000,
    ) as consumer:  # fmt: skip
        async for _ in consumer:
            seen += 1
            if seen == RECORDS:
                clock.page(seen)
            if seen == pages * RECORDS:
                break
    return seen


def read(reader: str, url: str, pages: int) -> None:
    runs = {
        "stock": lambda: as_it_comes(url),
        "ours": lambda: ours(url),
        "events": lambda: ours(url, events=True),
        "async-kinesis": lambda: async_kinesis(url, pages),
    }
    import uvloop

    seen = uvloop.run(runs[reader]())
    seconds, cpu = time.perf_counter() - clock.start, time.process_time() - clock.cpu
    assert seen == pages * RECORDS, seen
    count = seen - clock.before
    print(json.dumps([count / seconds, cpu / count * 1e6, rss_mb(os.getpid())]), flush=True)
    os._exit(0)


# -- the rounds


def contestant(reader: str, pages: int) -> Callable[[], Result]:
    environment = {
        **os.environ, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip

    def run() -> Result:
        this = [sys.executable, __file__]
        with subprocess.Popen(
            [*this, "--serve", str(pages)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as server:
            assert server.stdin is not None
            assert server.stdout is not None
            url = f"http://127.0.0.1:{int(server.stdout.readline())}"
            try:
                done = subprocess.run(
                    [*this, "--read", reader, url, str(pages)],
                    capture_output=True, check=True, timeout=TIMEOUT_SECONDS, env=environment,
                )  # fmt: skip
            finally:
                server.stdin.close()
        rate, cpu, rss = json.loads(done.stdout)
        return Result(rate, cpu, cpu, rss)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pages", type=int, nargs="?", default=20)
    pages = parser.parse_args().pages
    contestants = {
        "aiobotocore as it comes": contestant("stock", pages),
        "streamfaas: pages": contestant("ours", pages),
        "streamfaas: pages, and events of 1,000": contestant("events", pages),
    }
    with suppress(PackageNotFoundError):
        version("async-kinesis")
        contestants["async-kinesis"] = contestant("async-kinesis", pages)
    print(machine())
    results = in_turn(contestants, ROUNDS)
    print("\n".join(table(results, "aiobotocore as it comes")))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--serve", pages]:
            asyncio.run(serve(int(pages)))
        case ["--read", reader, url, pages]:
            read(reader, url, int(pages))
        case _:
            main()
