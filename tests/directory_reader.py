"""A process that reads a directory, writes down what it was given, and is killed at any moment."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import anyio
import orjson

from streamfaas.flow.batch import Batch
from streamfaas.flow.record import Instant
from streamfaas.sources import Arrived, Opened
from streamfaas.sources.directory import Directory, DirectoryOptions
from streamfaas.store import Store


async def main(folder: Path) -> None:
    """For ever. A line is `key size sequencer`, on the disk before it is settled."""
    loop = asyncio.get_running_loop()
    store = await Store.open(folder / "state" / "streamfaas.db")
    options = DirectoryOptions(
        folder / "inbox", "inbox", events=("*",), interval_seconds=0.02, settle_seconds=0.0
    )
    source = Directory(
        "reader/inbox",
        options,
        store=store,
        clock=lambda: Instant(loop.time()),
        emit=lambda signal: None,
    )
    lines = os.open(folder / "lines", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    async with anyio.create_task_group() as tasks:
        await source.open(lambda work, name: tasks.start_soon(work, name=name))
        ready, ledgers = set(), {}

        async def work(batch: Batch) -> None:
            (record,) = source.records(batch)
            told = orjson.loads(record.value)["s3"]["object"]
            line = f"{record.key.decode()} {told.get('size', '-')} {told['sequencer']}\n"
            os.write(lines, line.encode())
            await asyncio.sleep(0.001)
            await source.settle(ledgers[batch.lane].finish(batch))

        while True:
            match await source.next(ready):
                case Opened(lane):
                    ledgers[lane] = source.ledger(lane)
                    ready.add(lane)
                case Arrived(run):
                    ledgers[run.lane].take(run)
                    tasks.start_soon(work, Batch((run,)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
