"""streamfaas as a contestant: the whole daemon with its isolated workers, on a topic or a queue."""

from __future__ import annotations

import shutil
import tempfile
import time
import uuid
from pathlib import Path

from measure import Result, cpu_seconds, rss_mb, tree
from watched import worst

HANDLER = '''
"""Touches every value, as the peers do."""
count = total = 0

def main(event, context):
    global count, total
    for records in event["records"].values():
        for record in records:
            total += len(record["value"])
        count += len(records)
'''

CONFIG = """
version: 1
state: {{path: ./state}}
connections:
  bench: {{type: kafka, brokers: ["{bootstrap}"]}}
functions:
  touch:
    code: touch
    handler: app.main
    timeout: 30s
    isolation: best-effort
    concurrency: {{warm: {workers}, max: {workers}}}
    logging: {{platform: failures}}
    triggers:
      bench:
        type: kafka
        connection: bench
        topics: ["{topic}"]
        group: bench-{group}
        start: earliest
        batch: {{size: {batch}}}
"""


def run(bootstrap: str, topic: str, wanted: int, *, batch: int = 1000, workers: int = 1) -> Result:
    text = CONFIG.format(
        bootstrap=bootstrap, topic=topic, batch=batch, workers=workers, group=uuid.uuid4()
    )
    return drive(text, HANDLER, wanted)


def drive(text: str, handler: str, wanted: int, pause_seconds: float = 0.05) -> Result:
    """From the first record that a worker has done to the last one, as `status` tells of the
    trigger touch/bench, asked once a pause: that costs the daemon something, too."""
    from daemon_process import DaemonProcess, write_project

    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        config = write_project(folder, text, touch=handler)
        stalls = folder / "stalls"
        program = (str(Path(__file__).with_name("watched.py")), str(stalls))
        with DaemonProcess(config, "--quiet", program=program) as daemon:
            pid = daemon.process.pid

            def seen() -> tuple[int, float, float, float]:
                # the clock is read before the count, so that a late answer counts against us
                now = time.perf_counter()
                status = daemon.status()
                pids = tree(pid)
                return (
                    status["triggers"]["touch/bench"]["records"],
                    now,
                    cpu_seconds(pids[:1]),
                    cpu_seconds(pids),
                )

            daemon.wait_for(lambda status: status["triggers"]["touch/bench"]["records"] > 0)
            first = seen()
            last = first
            while last[0] < wanted:
                time.sleep(pause_seconds)
                last = seen()
            rss = rss_mb(pid)
            daemon.stop()
        records = last[0] - first[0]
        seconds = last[1] - first[1]
        stall, own = worst(stalls, first[1], last[1])
        return Result(
            rate=records / seconds,
            cpu=(last[2] - first[2]) / records * 1e6,
            cpu_tree=(last[3] - first[3]) / records * 1e6,
            rss_mb=rss,
            stall_ms=round(own, 1),
            note=f"longest stall {stall:.1f} ms, {own:.1f} ms of it its own CPU",
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
