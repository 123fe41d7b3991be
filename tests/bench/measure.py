"""What the benches share: CPU and memory of a process tree, and rounds taken in turn."""

from __future__ import annotations

import contextlib
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

TICK = os.sysconf("SC_CLK_TCK")


def tree(root: int) -> list[int]:
    """The process and everything below it."""
    from daemon_process import descendants

    return [root, *descendants(root)]


def cpu_seconds(pids: list[int]) -> float:
    """User and system time, of children that were waited for too."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError, IndexError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += sum(int(field) for field in fields[11:15])
    return total / TICK


def rss_mb(pid: int) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    return 0.0


def unique_mb(pid: int) -> float:
    """The memory that would be free again if the process ended."""
    private = 0
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith(("Private_Clean:", "Private_Dirty:")):
                private += int(line.split()[1])
    return private / 1024


@dataclass(frozen=True, slots=True)
class Result:
    """One contestant in one round. CPU in seconds per million records."""

    rate: float
    cpu: float
    cpu_tree: float
    rss_mb: float
    stall_ms: float = 0.0
    note: str = ""


def in_turn(contestants: dict[str, Callable[[], Result]], rounds: int) -> dict[str, list[Result]]:
    """Every contestant once a round, so that a slow minute of the machine hits all of them."""
    results: dict[str, list[Result]] = {name: [] for name in contestants}
    for number in range(rounds):
        for name, run in contestants.items():
            try:
                result = run()
            except subprocess.TimeoutExpired as late:
                print(
                    f"  round {number + 1} {name:34} not finished in {late.timeout:.0f} s",
                    flush=True,
                )
                continue
            results[name].append(result)
            print(
                f"  round {number + 1} {name:34} {result.rate / 1000:8.0f} k/s  "
                f"cpu {result.cpu:6.3f}  tree {result.cpu_tree:6.3f} s/M  {result.note}",
                flush=True,
            )
    return results


def median(results: list[Result], field: str) -> float:
    return statistics.median(getattr(result, field) for result in results)


def table(results: dict[str, list[Result]], anchor: str) -> list[str]:
    """Medians, and their ratios to the anchor's; of stalls of the loop the longest."""
    lines = [
        "| contestant | records/s | x | CPU s/M | x | CPU s/M, whole tree | x | RSS MB | stall ms |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    base = {f: median(results[anchor], f) for f in ("rate", "cpu", "cpu_tree")}
    for name, each in results.items():
        if not each:
            lines.append(f"| {name} | did not finish | | | | | | | |")
            continue
        rate, cpu, whole = (median(each, f) for f in ("rate", "cpu", "cpu_tree"))
        lines.append(
            f"| {name} | {rate / 1000:.0f} k | {rate / base['rate']:.2f} | {cpu:.2f} | "
            f"{cpu / base['cpu']:.2f} | {whole:.2f} | {whole / base['cpu_tree']:.2f} | "
            f"{median(each, 'rss_mb'):.0f} | {max(e.stall_ms for e in each) or '-'} |"
        )
    return lines


def machine() -> str:
    """Where the figures come from."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        "unknown CPU",
    )
    packages = []
    for name in ("aiokafka", "uvloop", "orjson", "confluent-kafka", "faststream", "quixstreams"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            packages.append(f"{name} {metadata.version(name)}")
    return (
        f"{os.cpu_count()} x {cpu}, Linux {platform.release()}, Python {platform.python_version()}, "
        + ", ".join(packages)
    )


def run_peer(script: str, *arguments: str, deadline_seconds: float = 60) -> Result:
    """A peer as a process of its own; it prints
    `measured`, records, seconds, CPU seconds and kilobytes resident."""
    path = Path(__file__).parent / "peers" / script
    done = subprocess.run(
        [sys.executable, str(path), *arguments],
        capture_output=True,
        text=True,
        timeout=deadline_seconds,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{script} failed:\n{done.stdout}\n{done.stderr}")
    told = next(line for line in done.stdout.splitlines() if line.startswith("measured "))
    records, seconds, cpu, rss = map(float, told.split()[1:])
    per_million = cpu / records * 1e6
    return Result(records / seconds, per_million, per_million, rss / 1024)


def settle(seconds: float = 0.5) -> None:
    """Lets what the last round left (closing sockets, dying processes) go by."""
    time.sleep(seconds)
