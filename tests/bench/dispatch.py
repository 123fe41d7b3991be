"""How fast a warm worker is handed an invocation, beside the floor that the machine itself sets.

Run by hand on a quiet machine: `python tests/bench/dispatch.py [--seconds N]`. Floor and pool run
in turns; the best of the medians counts.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import os
import pstats
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import orjson
import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import standin_zygote
from streamfaas.flow.admission import Share
from streamfaas.flow.event import Encoding, Event
from streamfaas.flow.invocation import Invocation
from streamfaas.flow.outcome import Success
from streamfaas.functions import Function, Isolation
from streamfaas.runtimes import python
from streamfaas.workers.pool import WorkerPool

HANDLER = 'def handler(event, context):\n    return {"batchItemFailures": []}\n'
ROUNDS = 20_000
TURNS = 5
ANSWER_BYTES = 16 + 24 + 24


def event(records: int, size: int) -> Event:
    """A self-managed Kafka event as Lambda shapes it, built beforehand."""
    value = "x" * (size * 4 // 3)
    entries = [
        {"topic": "orders", "partition": 0, "offset": i, "timestamp": 1_700_000_000_000 + i,
         "timestampType": "CREATE_TIME", "key": "a2V5", "value": value, "headers": []}
        for i in range(records)
    ]  # fmt: skip
    return Event(
        Encoding.JSON,
        (orjson.dumps({"eventSource": "SelfManagedKafka", "records": {"orders-0": entries}}),),
    )


def percentile(times: list[int], part: float) -> float:
    return sorted(times)[min(len(times) - 1, int(len(times) * part))] / 1000


def floor(program: Path, request: int, cpu: int) -> tuple[float, float]:
    """Median and 99th percentile of the C ping-pong on one core, in µs."""
    line = [str(program), str(request), str(ANSWER_BYTES), str(ROUNDS), str(cpu)]
    done = subprocess.run(line, check=True, capture_output=True, text=True)
    median, late = map(int, done.stdout.split())
    return median / 1000, late / 1000


def make_pool(code: Path, workers: int, *, bare: bool, isolated: bool = True) -> WorkerPool:
    function = Function(
        "bench",
        code,
        "app.handler",
        isolation=Isolation(enforce=isolated),
        share=Share(maximum=workers, warm=workers),
        platform_logs=False,
    )
    return WorkerPool(
        [function],
        concurrency=1000,
        memory_bytes=64 << 30,
        emit=lambda _: None,
        clock=time.monotonic,
        runtime=standin_zygote.runtime() if bare else python.command,
        logs_wanted=lambda _: False,
    )


async def warm_up(pool: WorkerPool, workers: int, what: Event) -> None:
    await pool.open()
    calls = [pool.call(Invocation(f"warm-{i}", "bench", what)) for i in range(workers)]
    outcomes = await asyncio.gather(*calls)
    assert all(isinstance(outcome, Success) for outcome in outcomes), outcomes[0]


async def round_trips(pool: WorkerPool, what: Event, rounds: int) -> list[int]:
    times = []
    clock = time.perf_counter_ns
    for _ in range(rounds):
        invocation = Invocation("7f1d2c3b-4a59-4687-8b6a-0123456789ab", "bench", what)
        before = clock()
        outcome = await pool.call(invocation)
        times.append(clock() - before)
        assert type(outcome) is Success, outcome
    return times


async def one_core(code: Path, program: Path, cpu: int, *, bare: bool, what: Event) -> None:
    pool = make_pool(code, 1, bare=bare)
    await warm_up(pool, 1, what)
    request = 16 + 16 + 36 + what.size_bytes
    floors, ours = [], []
    try:
        await round_trips(pool, what, ROUNDS // 10)
        for _ in range(TURNS):
            floors.append(floor(program, request, cpu))
            times = await round_trips(pool, what, ROUNDS)
            ours.append((percentile(times, 0.5), percentile(times, 0.99)))
    finally:
        await pool.close(1)
    base, mine = min(floors), min(ours)
    name = "stand-in worker (no handler)" if bare else "sandboxed worker, decode, handler, encode"
    print(f"one core, {what.size_bytes} B event, {name}:")
    print(f"  C ping-pong   p50 {base[0]:6.2f}  p99 {base[1]:6.2f} µs")
    print(
        f"  pool.call     p50 {mine[0]:6.2f}  p99 {mine[1]:6.2f} µs   ratio {mine[0] / base[0]:.2f}"
    )


async def throughput(code: Path, workers: int, seconds: float, *, bare: bool, what: Event) -> None:
    pool = make_pool(code, workers, bare=bare)
    await warm_up(pool, workers, what)
    count = 0

    async def drive(until: float) -> None:
        nonlocal count
        invocation = Invocation("7f1d2c3b-4a59-4687-8b6a-0123456789ab", "bench", what)
        while time.monotonic() < until:
            await pool.call(invocation)
            count += 1

    best = 0.0
    try:
        for _ in range(3):
            count, cpu, start = 0, time.process_time(), time.monotonic()
            await asyncio.gather(*(drive(start + seconds) for _ in range(workers)))
            rate = count / (time.monotonic() - start)
            spent = (time.process_time() - cpu) / count * 1e6
            best = max(best, rate)
    finally:
        await pool.close(1)
    print(
        f"{workers} workers, all cores, {what.size_bytes} B: {best:,.0f} invocations/s, parent {spent:.1f} µs CPU each"
    )


async def profile(code: Path, what: Event, *, bare: bool) -> None:
    pool = make_pool(code, 1, bare=bare)
    await warm_up(pool, 1, what)
    with cProfile.Profile() as profiler:
        await round_trips(pool, what, ROUNDS)
    await pool.close(1)
    pstats.Stats(profiler).sort_stats("tottime").print_stats(20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument(
        "--bare", action="store_true", help="only the daemon's side: a stand-in worker"
    )
    parser.add_argument("--profile", action="store_true")
    asked = parser.parse_args()
    cores = os.sched_getaffinity(0)
    cpu = max(cores)
    with tempfile.TemporaryDirectory() as folder:
        code = Path(folder)
        (code / "app.py").write_text(HANDLER)
        program = code / "pp"
        subprocess.run(["cc", "-O2", "-o", program, Path(__file__).with_name("pp.c")], check=True)
        os.sched_setaffinity(0, {cpu})
        if asked.profile:
            uvloop.run(profile(code, event(1, 200), bare=asked.bare))
            return
        uvloop.run(one_core(code, program, cpu, bare=asked.bare, what=event(1, 200)))
        os.sched_setaffinity(0, cores)
        for workers in (1, 8):
            uvloop.run(
                throughput(code, workers, asked.seconds, bare=asked.bare, what=event(1, 200))
            )


if __name__ == "__main__":
    main()
