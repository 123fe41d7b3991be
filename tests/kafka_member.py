"""A member of a consumer group as a process of its own, to be killed and frozen by tests.

`python tests/kafka_member.py '{"bootstrap": …, "topic": …, "group": …, "ledger": …}'`: every call
of the function is a line of the ledger when it begins, and another when it has ended.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import anyio
import uvloop

from kafka_lanes import Call, Lanes, consuming, options


class Ledger:
    """Lines that survive the death of who wrote them: one write each, appended."""

    def __init__(self, path: Path, who: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._who = who

    def write(self, word: str, call: Call) -> None:
        line = {
            "word": word,
            "at": time.monotonic_ns(),
            "who": self._who,
            "lane": call.lane,
            "offsets": call.offsets,
            "values": [value.decode() for value in call.values if value is not None],
        }
        os.write(self._file, json.dumps(line).encode() + b"\n")

    def close(self) -> None:
        os.close(self._file)


async def live(asked: dict[str, Any]) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    ledger = Ledger(Path(asked["ledger"]), str(os.getpid()))

    async def work(call: Call) -> None:
        ledger.write("begun", call)
        await anyio.sleep(asked["work_seconds"])
        ledger.write("ended", call)

    chosen = options(
        asked["bootstrap"],
        asked["topic"],
        group=asked["group"],
        session_timeout_seconds=asked["session_seconds"],
    )
    async with consuming(Lanes(chosen, work=work, size=asked["size"])):
        await ended.wait()
    ledger.close()


if __name__ == "__main__":
    uvloop.run(live(json.loads(sys.argv[1])))
