"""One bad record in ten thousand, on a real Kafka: it alone is set aside, and at little cost; and
the same with the daemon killed ten times in the middle, judged from the ledgers.

By hand, out of `tests/`: `python -m proof.poison`, about a minute.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from kafka_broker import Kafka
from proof import by_hand
from proof.river import Course, prove

RECORDS = 10_000
RETRIES = 5
EXTRA_MAX = 2 * 14 + 1
"""Invocations that a bad record may cost beside its retries: 2 ⌈log₂ 10,000⌉ + 1."""

CLEAN = Course(
    records=RECORDS,
    seconds=1.0,
    partitions=1,
    batch=RECORDS,
    worker_kills=0,
    daemon_kills=0,
    daemon_stops=0,
    poison=0,
    hold_seconds=0.0,
    failure_rate=0.0,
    retries=RETRIES,
    window=5.0,
    ahead=1,
    seed=7,
)
POISONED = replace(CLEAN, poison=1)
KILLED = replace(POISONED, daemon_kills=10, hold_seconds=0.4, seconds=30.0, window=0.2)


def main() -> int:
    return by_hand.with_broker(judged)


def judged(kafka: Kafka) -> int:
    status = 0
    executions = {}
    for name, course in (("clean", CLEAN), ("poison", POISONED), ("killed", KILLED)):
        print(f"-- {name}", flush=True)
        started = time.monotonic()
        report, problems = run(course, kafka)
        executions[name] = report.counts["executions"]
        status |= by_hand.tell(report, problems, time.monotonic() - started)
    more = executions["poison"] - executions["clean"]
    print(
        f"{more} invocations more than a clean run; {EXTRA_MAX} and {RETRIES} retries are allowed"
    )
    return status or int(more > EXTRA_MAX + RETRIES)


def run(course: Course, kafka: Kafka):
    with tempfile.TemporaryDirectory(prefix="poison-") as folder:
        return prove(course, kafka, Path(folder))


if __name__ == "__main__":
    sys.exit(main())
