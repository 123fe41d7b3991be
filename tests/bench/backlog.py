"""Asynchronous invocations, accepted and run off: `python tests/bench/backlog.py [events]`.

Every contestant makes each event durable (WAL, synchronous=FULL) before the next step of whoever
brought it. The anchor is a bare loop over `sqlite3`, one transaction a row; ours is accepted by
many callers at once, which share commits, and by one caller alone, which cannot.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop
from measure import ROOT, Result, in_turn, machine, rss_mb, table

from streamfaas.flow.batch import Batch
from streamfaas.flow.record import Instant
from streamfaas.sources import Arrived, Opened
from streamfaas.sources.backlog import AsyncInvocations, BacklogOptions
from streamfaas.store import Store
from streamfaas.store.backlog import Backlog

EVENT = b'{"customer":"customer-17","items":3,"note":"' + b"x" * 150 + b'"}'
CALLERS = 1000
ROUNDS = 3


def measured(run: Callable[[Path], int]) -> Result:
    """One contestant in a directory of its own, on the disk of the checkout."""
    folder = Path(tempfile.mkdtemp(prefix=".bench-", dir=ROOT))
    try:
        cpu, start = time.process_time(), time.perf_counter()
        events = run(folder)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    finally:
        shutil.rmtree(folder)
    per_million = cpu / events * 1e6
    return Result(events / seconds, per_million, per_million, rss_mb(_own_pid()))


def bare(events: int) -> Callable[[Path], int]:
    def run(folder: Path) -> int:
        connection = sqlite3.connect(folder / "bare.db", isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE events (id INTEGER PRIMARY KEY, request TEXT, event BLOB)")
        for number in range(events):
            values = (f"request-{number:032x}", EVENT)
            connection.execute("INSERT INTO events (request, event) VALUES (?, ?)", values)
        connection.close()
        return events

    return run


def accepting(events: int, callers: int) -> Callable[[Path], int]:
    async def main(backlog: Backlog) -> None:
        await _accept(backlog, events, callers)

    return _with_backlog(events, main)


def accepting_and_running_off(events: int) -> Callable[[Path], int]:
    """Everything is handed out by the source and finished with, while more is accepted."""

    async def main(backlog: Backlog) -> None:
        loop = asyncio.get_running_loop()
        source = AsyncInvocations(
            "bench/async",
            BacklogOptions("bench", parallel=64),
            backlog=backlog,
            clock=lambda: Instant(loop.time()),
            emit=lambda signal: None,
        )
        await source.open(lambda work, name: None)
        accepted = asyncio.ensure_future(_accept(backlog, events, CALLERS))
        await _run_off(source, events)
        await accepted
        await source.close()

    return _with_backlog(events, main)


async def _accept(backlog: Backlog, events: int, callers: int) -> None:
    async def caller(first: int) -> None:
        for number in range(first, events, callers):
            await backlog.accept("bench", EVENT, f"request-{number:032x}")

    await asyncio.gather(*(caller(first) for first in range(callers)))


async def _run_off(source: AsyncInvocations, events: int) -> None:
    ready, running = set(), set()

    async def finish(run) -> None:
        ledger = source.ledger(run.lane)
        ledger.take(run)
        await source.settle(ledger.finish(Batch((run,))))
        ready.add(run.lane)
        source.wake()

    left = events
    while left:
        match await source.next(ready):
            case Opened(lane):
                ready.add(lane)
            case Arrived(run):
                ready.discard(run.lane)
                left -= 1
                running.add(task := asyncio.ensure_future(finish(run)))
                task.add_done_callback(running.discard)
    await asyncio.gather(*running)


def _with_backlog(events: int, main: Callable[[Backlog], Awaitable[None]]) -> Callable[[Path], int]:
    async def life(folder: Path) -> int:
        store = await Store.open(folder / "state" / "streamfaas.db")
        await main(Backlog(store))
        await store.close()
        return events

    return lambda folder: uvloop.run(life(folder))


def _own_pid() -> int:
    return int(Path("/proc/self").readlink().name)


def main() -> None:
    events = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    print(machine())
    few = max(1, events // 20)
    anchor = "bare sqlite3, one transaction a row"
    contestants = {
        anchor: lambda: measured(bare(few)),
        "accepted by one caller": lambda: measured(accepting(few, 1)),
        f"accepted by {CALLERS} callers": lambda: measured(accepting(events, CALLERS)),
        "… and run off meanwhile": lambda: measured(accepting_and_running_off(events // 2)),
    }
    for line in table(in_turn(contestants, ROUNDS), anchor):
        print(line)


if __name__ == "__main__":
    main()
