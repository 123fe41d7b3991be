"""The whole daemon on the replay broker, against clients and frameworks in the same run.

    python tests/bench/kafka.py [--rounds 3] [--records 2000000] [--sizes 200,1024]

The broker serves batches that it encoded before, so that the client is the limit. Every contestant
has the same topics of four partitions; the frameworks get fewer records, since they are slower.
"""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
import time
from pathlib import Path

import ours
from measure import in_turn, machine, run_peer, table

BATCH = 100
ANCHOR = "aiokafka getmany(1000)"


def start_broker() -> tuple[subprocess.Popen[bytes], str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(__file__).resolve().parents[1] / "replay_broker.py"
    process = subprocess.Popen([sys.executable, str(program), str(port)])
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return process, f"127.0.0.1:{port}"
    process.kill()
    raise RuntimeError("the replay broker did not come up")


def contest(bootstrap: str, size: int, given: argparse.Namespace) -> None:
    """One size of values: all contestants in turn, and their table."""
    wanted = given.records if size < 500 else given.records // 3
    # a topic ends with a whole batch: the last few records that are asked for may not exist
    wanted -= 4 * BATCH
    few = wanted // 10
    topic = f"v{size}-p4-n{wanted // 4 + BATCH}-b{BATCH}"
    few_topic = f"v{size}-p4-n{few // 4 + BATCH}-b{BATCH}"
    contestants = {
        ANCHOR: lambda: run_peer("bare_aiokafka.py", bootstrap, topic, str(wanted)),
        "streamfaas, batch 1,000, 1 worker": lambda: ours.run(bootstrap, topic, wanted),
        "streamfaas, batch 100, 1 worker": lambda: ours.run(bootstrap, topic, wanted, batch=100),
    }
    if not given.only_ours:
        contestants |= {
            "FastStream, batches of 1,000": lambda: run_peer(
                "fast_stream.py", bootstrap, few_topic, str(few)
            ),
        }
    print(f"\n{size} B values, 4 partitions, {wanted:,} records, {given.rounds} rounds")
    print("\n".join(table(in_turn(contestants, given.rounds), ANCHOR)))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--records", type=int, default=2_000_000)
    options.add_argument("--sizes", default="200,1024")
    options.add_argument("--only-ours", action="store_true")
    given = options.parse_args()
    print(machine())
    broker, bootstrap = start_broker()
    try:
        for size in map(int, given.sizes.split(",")):
            contest(bootstrap, size, given)
    finally:
        broker.kill()
        broker.wait()


if __name__ == "__main__":
    main()
