"""The daemon with a watch on its commits: `python timed.py FILE run CONFIG …`.

Each commit that was answered goes to FILE: when, and how many milliseconds it took from the request
to the moment at which the loop went on with the answer.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from streamfaas.cli.main import main
from streamfaas.sources.kafka.member import Member


def watch(path: Path) -> None:
    file = path.open("w", buffering=1)
    commit = Member.commit

    async def timed(self: Member, *arguments: Any, **options: Any) -> Any:
        begun = time.perf_counter()
        done = await commit(self, *arguments, **options)
        now = time.perf_counter()
        file.write(f"{now} {(now - begun) * 1000}\n")
        return done

    Member.commit = timed  # type: ignore[method-assign]


if __name__ == "__main__":
    watch(Path(sys.argv[1]))
    main(sys.argv[2:])
