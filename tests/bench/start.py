"""How soon a sandboxed worker is ready, beside a bare fork of the same heap and beside bubblewrap.

Run by hand on a quiet machine: `python tests/bench/start.py [--rounds 5] [--starts 40]`.
All contestants have their turn in every round; medians over all rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import orjson
import uvloop
from measure import machine

from streamfaas.flow.admission import Share
from streamfaas.flow.event import Encoding, Event
from streamfaas.flow.invocation import Invocation
from streamfaas.functions import Function, Isolation
from streamfaas.runtimes import python
from streamfaas.telemetry.signals import Signal, WorkerEnded, WorkerStarted
from streamfaas.workers.pool import WorkerPool

HANDLER = "import os\n\ndef handler(event, context):\n    os._exit(0)\n"
OURS = "streamfaas: worker ended -> new worker ready"
FORK = "bare fork of the same heap -> its first byte"
BWRAP = "bubblewrap, python -I -S -> its first byte"
BWRAP_SAME = "bubblewrap, python with a worker's imports"

READY = "import os; os.write(1, b'R')"
SAME = "import base64, datetime, hashlib, json, logging, random, re, socket, typing, uuid; " + READY

# loads what the zygote loads, and forks what the zygote forks, without a jail
FORKER = """
import gc, json, os, sys, time
from importlib.machinery import SourceFileLoader
from types import ModuleType

packet = json.loads(sys.stdin.readline())
module = ModuleType("_guest")
module.__file__ = packet["entry"]
SourceFileLoader("_guest", packet["entry"]).exec_module(module)
guest = module.Guest(packet)
gc.collect()
gc.freeze()
times = []
for _ in range(int(sys.argv[1])):
    reading, writing = os.pipe()
    began = time.perf_counter_ns()
    child = os.fork()
    if child == 0:
        os.write(writing, b"R")
        os._exit(0)
    os.read(reading, 1)
    times.append(time.perf_counter_ns() - began)
    os.waitpid(child, 0)
    os.close(reading)
    os.close(writing)
rss = int(open("/proc/self/statm").read().split()[1]) * 4 / 1024
print(json.dumps([times, rss]))
"""


def function(code: Path) -> Function:
    return Function(
        "bench",
        code,
        "app.handler",
        isolation=Isolation(enforce=True),
        share=Share(maximum=2, warm=2),
        platform_logs=False,
    )


class Pool:
    """A pool of two whose workers end at every call: how long until each is replaced."""

    def __init__(self, code: Path) -> None:
        self.ended = 0
        self.spent: list[int] = []
        self.started = asyncio.Event()
        self.pool = WorkerPool(
            [function(code)],
            concurrency=10,
            memory_bytes=64 << 30,
            emit=self.hear,
            clock=time.monotonic,
            logs_wanted=lambda _: False,
        )

    def hear(self, signal: Signal) -> None:
        if isinstance(signal, WorkerEnded):
            self.ended = time.perf_counter_ns()
        elif isinstance(signal, WorkerStarted):
            if self.ended:
                self.spent.append(time.perf_counter_ns() - self.ended)
            self.started.set()

    async def starts(self, count: int) -> list[int]:
        self.spent.clear()
        for _ in range(count):
            self.started.clear()
            await self.pool.call(Invocation("start", "bench", Event(Encoding.JSON, (b"{}",))))
            await self.started.wait()
            await asyncio.sleep(0.005)  # the launcher has nothing left to do
        return list(self.spent)


def forks(spec: bytes, count: int) -> tuple[list[int], float]:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", FORKER, str(count)],
        input=spec + b"\n",
        capture_output=True,
        check=True,
    )
    times, rss = orjson.loads(done.stdout)
    return times, rss


def bubblewrap(code: Path, count: int, script: str) -> list[int]:
    """The same walls as a worker's, as far as bubblewrap has them: no network namespace."""
    prefix = Path(sys.base_prefix)
    line = [
        "bwrap", "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts",
        "--ro-bind", "/usr", "/usr", "--ro-bind", str(prefix), str(prefix),
        "--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64",
        "--symlink", "usr/bin", "/bin", "--ro-bind", str(code), "/var/task",
        "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp",
        "--cap-drop", "ALL", "--die-with-parent", "--clearenv", "--chdir", "/var/task",
        str(prefix / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"),
        "-I", "-S", "-c", script,
    ]  # fmt: skip
    times = []
    for _ in range(count):
        began = time.perf_counter_ns()
        process = subprocess.Popen(line, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        assert process.stdout is not None
        first = process.stdout.read(1)
        times.append(time.perf_counter_ns() - began)
        process.stdout.close()
        process.wait()
        if first != b"R":
            raise RuntimeError("bubblewrap does not work here")
    return times


async def contest(code: Path, rounds: int, starts: int) -> None:
    spec = python.command(function(code)).spec
    pool = Pool(code)
    times: dict[str, list[int]] = {OURS: [], FORK: []}
    alone: dict[str, Callable[[], list[int]]] = {}
    if shutil.which("bwrap"):
        alone = {
            BWRAP: lambda: bubblewrap(code, starts, READY),
            BWRAP_SAME: lambda: bubblewrap(code, starts // 2, SAME),
        }
    else:
        print("bubblewrap is not here: apt-get install bubblewrap")
    rss = 0.0
    began = time.perf_counter()
    await pool.pool.open()
    opened = time.perf_counter() - began
    try:
        await pool.started.wait()
        await pool.starts(5)
        for _ in range(rounds):
            times[OURS] += await pool.starts(starts)
            forked, rss = forks(spec, starts)
            times[FORK] += forked
            for name, run in alone.items():
                times.setdefault(name, []).extend(run())
    finally:
        await pool.pool.close(1)
    print(
        f"a new function's launcher is there after {opened * 1000:.0f} ms; forked: {rss:.0f} MB\n"
    )
    print("| contestant | p50 ms | p99 ms | x |\n| --- | --- | --- | --- |")
    base = percentile(times[OURS], 0.5)
    for name, each in times.items():
        p50, p99 = percentile(each, 0.5), percentile(each, 0.99)
        print(f"| {name} | {p50:.2f} | {p99:.2f} | {p50 / base:.2f} |")


def percentile(times: list[int], part: float) -> float:
    return sorted(times)[min(len(times) - 1, int(len(times) * part))] / 1e6


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--starts", type=int, default=40)
    given = options.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        code = Path(folder)
        code.chmod(0o755)
        (code / "app.py").write_text(HANDLER)
        uvloop.run(contest(code, given.rounds, given.starts))


if __name__ == "__main__":
    main()
