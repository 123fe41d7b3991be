"""The daemon that is judged, as a process: how it is started, and what is done to it and to those
that stand below it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from proof.ledgers import Harmed, Writer

GRACE_SECONDS = 30
END_SECONDS = GRACE_SECONDS + 2
GONE_SECONDS = 10.0


@dataclass(slots=True)
class Victim:
    """`command` are arguments of Python, before the path of the configuration in the folder. What
    happens to it that may not is in `problems`."""

    folder: Path
    command: tuple[str, ...]
    problems: list[str] = field(default_factory=list)
    _process: subprocess.Popen[bytes] | None = None
    _born: float = 0.0

    @property
    def _log(self) -> Path:
        return self.folder / "daemon.log"

    def start(self) -> None:
        self._born = time.monotonic()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *self.command, "streamfaas.yaml"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )

    def look_after(self) -> None:
        """Nobody but us ends it."""
        assert self._process is not None
        if (status := self._process.poll()) is not None:
            said = self._log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"the daemon ended by itself, with {status}\n{said}")

    def end(self) -> None:
        """Whatever has happened, nothing of it stays."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()  # and with it goes what stands below it
            self._process.wait(10)

    async def kill(self, ledger: Writer) -> None:
        assert self._process is not None
        below = _below(self._process.pid)
        start = time.monotonic()
        self._process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(self._process.wait, 10)
        await self._nobody_left(below)
        row = Harmed("daemon-kill", str(self._process.pid), start, time.monotonic())
        ledger.write(row)

    async def stop(self, ledger: Writer) -> None:
        assert self._process is not None
        below = _below(self._process.pid)
        start = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        end = None
        try:
            status = await asyncio.to_thread(self._process.wait, END_SECONDS)
            end = time.monotonic()
            # before it has set up its handlers, the signal ends it as it ends anybody
            young = start - self._born < 2.0 and status == -signal.SIGTERM
            if status != 0 and not young:
                self.problems.append(f"I-33: the daemon, told to stop, ended with {status}")
        except subprocess.TimeoutExpired:
            self.problems.append(f"I-33: the daemon did not stop in {END_SECONDS} s")
        await self._nobody_left(below)
        ledger.write(Harmed("daemon-stop", str(self._process.pid), start, end))

    async def kill_worker(self, ledger: Writer, chance: random.Random) -> None:
        process, pid = await self._seize_worker(chance)
        try:
            start = time.monotonic()
            signal.pidfd_send_signal(process, signal.SIGKILL)
            gone, _, _ = await asyncio.to_thread(select.select, [process], [], [], 5.0)
            ledger.write(Harmed("worker-kill", str(pid), start, time.monotonic() if gone else None))
        finally:
            os.close(process)

    async def _seize_worker(self, chance: random.Random) -> tuple[int, int]:
        """One of those that stand, by its descriptor: nobody else can be hit."""
        with anyio.fail_after(30):
            while True:
                if workers := self._workers():
                    pid = chance.choice(workers)
                    with contextlib.suppress(ProcessLookupError):
                        process = os.pidfd_open(pid)
                        if pid in self._workers():
                            return process, pid
                        os.close(process)
                await asyncio.sleep(0.01)

    def _workers(self) -> list[int]:
        """Below the daemon stands one process for each function, which holds the namespaces; below
        it the one that forks; below that the first process of each worker's own, and below that
        the worker. Where somebody else is judged, workers have nothing below them."""
        assert self._process is not None
        parents = set(_parents().values())
        third = _below(self._process.pid, depth=3)
        return sorted(_below(self._process.pid, depth=4) | (third - parents))

    async def _nobody_left(self, below: Sequence[int]) -> None:
        """Soon after its end. The dead whom nobody has buried yet are none of ours."""
        deadline = time.monotonic() + GONE_SECONDS
        while left := _parents().keys() & set(below):
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(0.01)
        if left:
            self.problems.append(f"I-33: {len(left)} processes outlived the daemon")


def _parents() -> dict[int, int]:
    """The parent of every process that lives."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
                if stat[0] != "Z":
                    found[int(entry.name)] = int(stat[1])
    return found


def _below(root: int, depth: int | None = None) -> set[int]:
    """The processes that stand so deep below another; at whatever depth, without one."""
    parents, found, level = _parents(), set[int](), {root}
    while level and depth != 0:
        level = {pid for pid, parent in parents.items() if parent in level}
        found |= level
        depth = None if depth is None else depth - 1
    return found if depth is None else level
