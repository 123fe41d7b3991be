"""How a command waits for what is in flight, with bars where somebody looks."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from streamfaas.cli.exits import printable

LOOK_SECONDS = 0.2

Show = Callable[[Mapping[str, int]], None]


def in_flight(view: Mapping[str, Any], names: list[str] | None = None) -> dict[str, int]:
    """Of the triggers (None: of all) that are not at rest: how many records are in flight."""
    return {
        name: sum(lane["in_flight"] for lane in trigger["lanes"])
        for name, trigger in view["triggers"].items()
        if not trigger["at_rest"] and (names is None or name in names)
    }


def wait(
    look: Callable[[], Mapping[str, int] | None], seconds: float, label: str
) -> Mapping[str, int]:
    """Looks again and again until nothing is left (or there is nobody to ask: None), for so long
    at most. What is left then."""
    begun = time.monotonic()
    with bars(seconds, label) as show:
        while left := look():
            show(left)
            if time.monotonic() - begun >= seconds:
                return left
            time.sleep(LOOK_SECONDS)
    return {}


@contextmanager
def bars(seconds: float, label: str) -> Iterator[Show]:
    """A bar for each trigger that has something in flight, and one for the time that is left; on
    stderr, and only where it is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _left: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(30), TextColumn("{task.fields[left]}"))
    begun, known = time.monotonic(), dict[str, TaskID]()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        clock = progress.add_task(label, total=seconds, left="")

        def show(left: Mapping[str, int]) -> None:
            rest = max(0.0, seconds - (time.monotonic() - begun))
            progress.update(clock, completed=seconds - rest, left=f"{rest:.0f} s left")
            for name, count in left.items():
                if name not in known:
                    known[name] = progress.add_task(printable(name), total=count or 1, left="")
            for name, task in known.items():
                count, total = (
                    left.get(name, 0),
                    progress.tasks[progress.task_ids.index(task)].total,
                )
                told = f"{count:,} records in flight" if name in left else "at rest"
                done = max(0, (total or 1) - count) if name in left else total
                progress.update(task, completed=done, left=told)

        yield show
