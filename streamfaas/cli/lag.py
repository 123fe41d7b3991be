"""`streamfaas lag`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streamfaas.cli import client, exits, output, screens
from streamfaas.cli.output import count
from streamfaas.cli.status import viewed

if TYPE_CHECKING:
    from rich.table import Table

WATCH_SECONDS = 1.0
QUEUES = ("directory", "object-store", "sqs", "backlog")
"""Kinds whose lanes are no part of what they read: they take from one queue."""


@click.command()
@click.argument("what", metavar="[FUNCTION[/TRIGGER]]", default="")
@click.option("-w", "--watch", is_flag=True, help="Show it again each second, until Ctrl-C.")
@client.options
@output.option
def command(what: str, *, watch: bool, config: Path | None, socket: Path | None, form: str) -> None:
    """Show how far each partition is behind, and when it will be caught up.

    \b
      streamfaas lag
      streamfaas lag orders/stream --watch

    DONE/s and CAME/s are of the last half minute; a partition that more comes to than is done of
    will never be caught up. `?` is what is not known yet.
    """  # noqa: D301 - click wants the character itself
    place = client.socket_of(config, socket)
    view = viewed(place)
    rows = _rows(view, what)
    if not rows and (unknown := _unknown(view, what)):
        exits.end(exits.USAGE, exits.printable(unknown))
    if not rows:
        exits.end(exits.FAILED, f"no lanes of {what or 'any trigger'}: streamfaas triggers")
    if output.written({"lanes": rows}, form):
        return
    console = output.console()
    if not watch or not console.is_terminal:
        console.print(_table(rows, width=console.width))
        return
    from rich.live import Live

    try:
        with Live(console=console, auto_refresh=False, transient=False) as live:
            while True:
                live.update(_table(rows, width=console.width), refresh=True)
                time.sleep(WATCH_SECONDS)
                rows = _rows(viewed(place), what)
    except KeyboardInterrupt:
        return


def _rows(view: Mapping[str, Any], what: str) -> list[dict[str, Any]]:
    """The lanes of logs, and each queue as one, the farthest behind first."""
    found = [
        {"trigger": name, "paused": each["paused"] is not None, **lane}
        for name, each in view["triggers"].items()
        if _meant(name, what)
        for lane in _lanes(each)
    ]
    return sorted(found, key=lambda row: (-(row["lag"] or 0), row["trigger"], row["name"]))


def _unknown(view: Mapping[str, Any], what: str) -> str:
    """What is said where there is none such."""
    function, slash, trigger = what.partition("/")
    if function and function not in view["functions"]:
        known = ", ".join(view["functions"]) or "none"
        return f"there is no function {function!r}; there are: {known}"
    names = [name.partition("/")[2] for name in view["triggers"] if _meant(name, function)]
    if slash and trigger not in {"async", "asynchronous", *names}:
        return f"{function} has no trigger {trigger!r}; it has: {', '.join(names) or 'none'}"
    return ""


def _lanes(trigger: Mapping[str, Any]) -> list[dict[str, Any]]:
    lanes = [lane for lane in trigger["lanes"] if not lane["by_key"]]
    if trigger["kind"] not in QUEUES or not lanes:
        return lanes
    states, lags = [lane["state"] for lane in trigger["lanes"]], [lane["lag"] for lane in lanes]
    whole = {
        "name": f"({len(lanes)} at a time)",
        "state": "blocked" if "blocked" in states else "running",
        "position": None,
        "lag": None if None in lags else sum(lags),
        "age_seconds": screens.age(trigger),
    }
    return [{**lanes[0], **whole}]


def _meant(name: str, what: str) -> bool:
    wanted = what.removesuffix("/async") + ("/asynchronous" if what.endswith("/async") else "")
    return not what or name == wanted or name.startswith(f"{wanted}/")


def _table(rows: list[dict[str, Any]], *, width: int) -> Table:
    heads = (
        "!LANE", "!>POSITION", "?>END", "!>LAG", ">AGE", ">DONE/s", ">CAME/s", "!CAUGHT UP",
    )  # fmt: skip
    return output.table(heads, map(tuple, map(_row, rows)), width=width, colours=screens.COLOURS)


def _row(row: Mapping[str, Any]) -> Iterator[str]:
    position, lag = row["position"], row["lag"]
    yield f"{row['trigger']} {row['name']}"
    yield "-" if position is None else str(position)
    yield "?" if position is None or lag is None else str(position + lag)
    yield "?" if lag is None else count(lag)
    yield screens.seconds(row["age_seconds"] or None)
    yield screens.rate(row["done_per_second"])
    yield screens.rate(row["came_per_second"])
    yield _until(row)


def _until(row: Mapping[str, Any]) -> str:
    wait = row["caught_up_in_seconds"]
    if row["lag"] == 0:
        return "now"
    if row["paused"]:
        return "paused"
    if row["state"] == "blocked":
        return "blocked"
    if wait is not None:
        return f"in {screens.span(wait)}"
    return "?" if row["done_per_second"] is None or row["lag"] is None else "never, at this rate"
