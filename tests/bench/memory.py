"""What the daemon and an idle worker hold: `python tests/bench/memory.py`.

Four partitions of a replay broker, a million records through one worker; then everything idles.
"""

from __future__ import annotations

import shutil
import tempfile
import time
import uuid
from pathlib import Path

import ours
from measure import machine, rss_mb, unique_mb

from kafka import start_broker


def main() -> None:
    from daemon_process import DaemonProcess, write_project

    print(machine())
    broker, bootstrap = start_broker()
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        topic = "v200-p4-n250000-b100"
        text = ours.CONFIG.format(
            bootstrap=bootstrap, topic=topic, batch=1000, workers=4, group=uuid.uuid4()
        )
        config = write_project(folder, text, touch=ours.HANDLER)
        with DaemonProcess(config, "--quiet") as daemon:
            daemon.wait_ready()
            pid = daemon.process.pid
            fresh = rss_mb(pid)
            daemon.wait_for(
                lambda status: status["triggers"]["touch/bench"]["records"] >= 999_000, 120
            )
            time.sleep(2)
            below = daemon.descendants()
            workers = [unique_mb(each) for each in below if "zygote" in _command(each)]
            print(
                f"daemon: resident {fresh:.0f} MB when ready, {rss_mb(pid):.0f} MB after 1 M records"
            )
            for each in sorted(workers):
                print(f"  process below it: unique {each:.1f} MB")
            daemon.stop()
    finally:
        broker.kill()
        broker.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


if __name__ == "__main__":
    main()
