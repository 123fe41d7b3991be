"""What telemetry costs the daemon: nothing of it, against default sampling sent by OTLP.

    python tests/bench/telemetry.py [--pairs 20] [--records 1000000]

Both daemons take the same records, about 100,000 a second in batches of 1,000, from the replay
broker; the sink is in this process. A pair is one run of each, the order changing from pair to
pair. CPU is that of the daemon alone, all its threads, from the first record to the last; commits
are timed in the daemon, from the request to the answer, as they wait for its loop.
"""

from __future__ import annotations

import argparse
import math
import random
import shutil
import statistics
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from measure import ROOT, machine

from kafka import BATCH, start_broker

sys.path.insert(0, str(ROOT / "tests"))

HANDLER = """
import time
def main(event, context):
    time.sleep(0.0085)
"""

CONFIG = """
version: 1
telemetry: {telemetry}
connections:
  bench: {{type: kafka, brokers: ["{bootstrap}"]}}
functions:
  touch:
    code: touch
    handler: app.main
    timeout: 30s
    isolation: best-effort
    concurrency: {{warm: 1, max: 1}}
    triggers:
      bench:
        type: kafka
        connection: bench
        topics: ["{topic}"]
        group: bench-{group}
        start: earliest
        batch: {{size: 1000}}
"""

WITHOUT = "{traces: {sample: 0, always_sample: [], keep: 0}}"
WITH = "{otlp: '%s'}"

SETTLING_SECONDS = 1.0
"""Of each run, what is not counted: the start of the worker, the first connections."""


@dataclass(frozen=True, slots=True)
class Run:
    """CPU in seconds for a million records; commits in milliseconds."""

    rate: float
    cpu: float
    commits: list[float]
    exported: dict[str, int]


def cpu_seconds(pid: int) -> float:
    """Of all threads, to the nanosecond: what the scheduler has given them."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def run(bootstrap: str, topic: str, records: int, telemetry: str) -> Run:
    from daemon_process import DaemonProcess, write_project

    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        text = CONFIG.format(
            bootstrap=bootstrap, topic=topic, telemetry=telemetry, group=uuid.uuid4()
        )
        config = write_project(folder, text, touch=HANDLER)
        timed = folder / "commits"
        program = (str(Path(__file__).with_name("timed.py")), str(timed))
        with DaemonProcess(config, "--quiet", program=program) as daemon:

            def seen() -> tuple[int, float, float]:
                count = daemon.status()["triggers"]["touch/bench"]["records"]
                return count, time.perf_counter(), cpu_seconds(daemon.process.pid)

            daemon.wait_for(lambda status: status["triggers"]["touch/bench"]["records"] > 0)
            time.sleep(SETTLING_SECONDS)
            first = last = seen()
            while last[0] < records:
                time.sleep(0.2)
                last = seen()
            export = daemon.status()["export"]
            daemon.stop()
        count, seconds = last[0] - first[0], last[1] - first[1]
        rows = [tuple(map(float, line.split())) for line in timed.read_text().splitlines()]
        return Run(
            rate=count / seconds,
            cpu=(last[2] - first[2]) / count * 1e6,
            commits=[took for at, took in rows if first[1] <= at <= last[1]],
            exported={name: each["sent"] - each["dropped"] for name, each in export.items()},
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def interval(ratios: list[float]) -> tuple[float, float, float]:
    """The geometric mean of ratios, and where it is with 95 %, by drawing from them anew."""
    logs = [math.log(ratio) for ratio in ratios]
    chance = random.Random(1)
    means = sorted(statistics.fmean(chance.choices(logs, k=len(logs))) for _ in range(10_000))
    low, high = means[250], means[9_750]
    return math.exp(statistics.fmean(logs)), math.exp(low), math.exp(high)


def told(what: str, ratios: list[float]) -> str:
    mean, low, high = interval(ratios)
    return f"{what}: {mean:.3f} ({low:.3f} to {high:.3f}, 95 %)"


def quantile(values: list[float], part: float) -> float:
    return sorted(values)[min(int(len(values) * part), len(values) - 1)]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--pairs", type=int, default=20)
    options.add_argument("--records", type=int, default=1_000_000)
    given = options.parse_args()
    from otlp_sink import Sink

    records = given.records // (4 * BATCH) * 4 * BATCH
    topic = f"v200-p4-n{records // 4 + BATCH}-b{BATCH}"
    pairs: list[tuple[Run, Run]] = []
    print(machine())
    broker, bootstrap = start_broker()
    try:
        with Sink() as sink:
            ways = [WITHOUT, WITH % sink.endpoint]
            for number in range(given.pairs):
                order = [0, 1] if number % 2 == 0 else [1, 0]
                made = {way: run(bootstrap, topic, records, ways[way]) for way in order}
                pairs.append((made[0], made[1]))
                without, with_it = pairs[-1]
                print(
                    f"  pair {number + 1:2}  {without.rate / 1000:.0f} and "
                    f"{with_it.rate / 1000:.0f} k/s  CPU {without.cpu:.3f} and {with_it.cpu:.3f} "
                    f"s/M  ratio {with_it.cpu / without.cpu:.3f}  sent {with_it.exported}",
                    flush=True,
                )
                sink.requests.clear()
    finally:
        broker.kill()
        broker.wait()
    print(told("CPU of the daemon, with telemetry to without", [b.cpu / a.cpu for a, b in pairs]))
    for name, part in (("median", 0.5), ("95 % of", 0.95)):
        ratios = [quantile(b.commits, part) / quantile(a.commits, part) for a, b in pairs]
        of = [statistics.median(quantile(each.commits, part) for each in way) for way in zip(*pairs, strict=True)]  # fmt: skip
        print(told(f"{name} commits, {of[0]:.2f} ms and {of[1]:.2f} ms", ratios))


if __name__ == "__main__":
    main()
