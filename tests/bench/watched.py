"""The daemon with a witness in its event loop: `python watched.py FILE run CONFIG …`.

Every millisecond a timer of the loop notes how late it is. The largest lateness of each tenth of a
second goes to FILE, as wall time and as the CPU time that the process had meanwhile: the second
is what the daemon itself did without turning the loop, whoever else wanted the processor.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import uvloop

from streamfaas.cli.main import main

TICK_SECONDS = 0.001
SPAN_NS = 100_000_000


class Witness:
    """Ticks on a loop for as long as that runs."""

    def __init__(self, loop: asyncio.AbstractEventLoop, path: Path) -> None:
        self.loop = loop
        self.file = path.open("w", buffering=1)
        self.span = 0
        self.worst = self.worst_cpu = 0
        self.tick(time.perf_counter_ns(), time.thread_time_ns())

    def tick(self, before: int, cpu_before: int) -> None:
        now, cpu = time.perf_counter_ns(), time.thread_time_ns()
        self.worst = max(self.worst, now - before)
        self.worst_cpu = max(self.worst_cpu, cpu - cpu_before)
        if now // SPAN_NS != self.span:
            self.file.write(f"{now / 1e9} {self.worst / 1e6} {self.worst_cpu / 1e6}\n")
            self.span, self.worst, self.worst_cpu = now // SPAN_NS, 0, 0
        self.loop.call_later(TICK_SECONDS, self.tick, now, cpu)


def watch(path: Path) -> None:
    make = uvloop.new_event_loop

    def new_event_loop() -> asyncio.AbstractEventLoop:
        loop = make()
        loop.call_soon(Witness, loop, path)
        return loop

    uvloop.new_event_loop = new_event_loop


def worst(path: Path, start: float, end: float) -> tuple[float, float]:
    """The longest stall between two instants of `perf_counter`, in ms: wall and CPU."""
    rows = [tuple(map(float, line.split())) for line in path.read_text().splitlines()]
    inside = [row for row in rows if start + 0.1 < row[0] <= end]
    return max((row[1] for row in inside), default=0.0), max(
        (row[2] for row in inside), default=0.0
    )


if __name__ == "__main__":
    watch(Path(sys.argv[1]))
    main(sys.argv[2:])
