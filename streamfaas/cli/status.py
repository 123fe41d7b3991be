"""`streamfaas status`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streamfaas.cli import client, exits, output
from streamfaas.cli.exits import printable
from streamfaas.cli.output import count

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

LANES_MAX = 20
"""Lanes in the table; the worst come first."""

_WORST_FIRST = ("blocked", "retrying", "closing", "running", "idle")
_COLOURS = {
    "blocked": "bold red", "degraded": "yellow", "retrying": "yellow", "draining": "yellow",
    "connecting": "yellow", "closing": "yellow", "running": "green",
}  # fmt: skip


@click.command()
@client.options
@output.option
def command(config: Path | None, socket: Path | None, form: str) -> None:
    """Show what a running daemon does: functions, triggers, lanes, and what needs attention.

    Exits with 69 where no daemon answers.
    """
    view = _view(client.socket_of(config, socket))
    if not output.written(view, form):
        _show(view)


def _view(socket: Path) -> dict[str, Any]:
    status, view = client.told(socket, "GET", "/status")
    if status != 200:
        exits.end(exits.UNREACHABLE, f"what answers at {socket} is no streamfaas daemon")
    return view


def _show(view: Mapping[str, Any]) -> None:
    console = output.console()
    state = str(view.get("state", "?"))
    line = [
        f"streamfaas {view.get('version', '?')}",
        f"up {span(float(view.get('uptime_seconds', 0)))}",
        f"RSS {int(view.get('rss_bytes', 0)) >> 20} MB",
        f"config {view.get('config', '?')}",
    ]
    _line(console, f"{state}  ", "  ".join(line), style=_COLOURS.get(state, ""))
    _configuration(console, view.get("configuration", {}))
    triggers = view.get("triggers", {})
    width = console.width
    tables = (
        _functions(view.get("functions", {}), width=width),
        _triggers(triggers, width=width),
        _lanes(triggers, width=width),
    )
    for table in tables:
        if table.row_count:
            console.print()
            console.print(table)
    _attention(console, triggers)


def _configuration(console: Console, about: Mapping[str, Any]) -> None:
    """What runs, whether the file says so too, and why it does not where it should."""
    if not about:
        return
    style = "red" if about["reason"] else "yellow" if about["differs"] else ""
    clean = "file differs" if about["differs"] else "clean"
    told = [f"{about['digest']} (loaded {about['loaded']}, {clean})"]
    if about["reason"]:
        told.append(f"NOT RELOADED ({about['last_reload']}): {about['reason']}")
    elif about["differs"]:
        told.append("look: streamfaas diff   take it: streamfaas reload")
    _line(console, "config  ", "  ".join(told), style=style)


def _functions(functions: Mapping[str, Any], *, width: int) -> Table:
    heads = ("!FUNCTION", "ISOLATION", "!WORKERS", ">WAITING", ">INVOKED", "!>ERRORS", "NOTE")
    rows = []
    for name, each in sorted(functions.items()):
        workers = each.get("workers", {})
        alive = ", ".join(f"{count} {state}" for state, count in workers.items() if count)
        missing = each.get("missing") or ()
        notes = [f"without {', '.join(map(str, missing))}" if missing else ""]
        notes.append(str(each.get("last_error") or ""))
        rows.append(
            (
                name,
                each.get("isolation", "?"),
                alive or "none",
                count(each.get("waiting")),
                count(each.get("invocations")),
                count(each.get("errors")),
                "; ".join(note for note in notes if note),
            )
        )
    return _table(heads, rows, width=width)


def _triggers(triggers: Mapping[str, Any], *, width: int) -> Table:
    heads = (
        "!TRIGGER", "?KIND", "!STATE", "?>LANES", "!>LAG", ">RECORDS", "?>BATCHES", ">FAILURES",
        ">SET ASIDE", "NOTE",
    )  # fmt: skip
    rows = []
    for name, each in sorted(triggers.items()):
        lanes = each.get("lanes", ())
        lags = [lane["lag"] for lane in lanes if lane.get("lag") is not None]
        rows.append(
            (
                name,
                each.get("kind", "?"),
                each.get("state", "?"),
                count(len(lanes)),
                count(sum(lags)) if lags else "-",
                count(each.get("records")),
                count(each.get("batches")),
                count(each.get("failures")),
                count(each.get("set_aside")),
                each.get("reason", ""),
            )
        )
    return _table(heads, rows, width=width)


def _lanes(triggers: Mapping[str, Any], *, width: int) -> Table:
    heads = (
        "!LANE", "!STATE", ">POSITION", "!>LAG", "?>HELD", "?>IN FLIGHT", ">ATTEMPT", "NEXT",
        "NOTE",
    )  # fmt: skip
    lanes = [(name, lane) for name, each in triggers.items() for lane in each.get("lanes", ())]
    lanes.sort(key=lambda item: _badness(item[1]))
    rows = []
    for name, lane in lanes[:LANES_MAX]:
        wait = lane.get("next_in_seconds")
        rows.append(
            (
                f"{name} {lane.get('name', '?')}",
                lane.get("state", "?"),
                count(lane.get("position")),
                count(lane.get("lag")),
                count(lane.get("held_records")),
                count(lane.get("in_flight")),
                count(lane.get("attempt")),
                "" if wait is None else f"in {span(float(wait))}",
                lane.get("reason", ""),
            )
        )
    table = _table(heads, rows, width=width)
    if len(lanes) > LANES_MAX:
        table.caption = f"… and {len(lanes) - LANES_MAX:,} more lanes (all: -o json)"
        table.caption_justify = "left"
        table.caption_style = ""
    return table


def _badness(lane: Mapping[str, Any]) -> tuple[int, int, int, str]:
    """What a person should see first sorts first."""
    state = lane.get("state")
    order = _WORST_FIRST.index(state) if state in _WORST_FIRST else 0
    return order, -(lane.get("attempt") or 0), -(lane.get("lag") or 0), str(lane.get("name"))


def _attention(console: Console, triggers: Mapping[str, Any]) -> None:
    """The triggers that somebody should look at, and the commands that help."""
    for name, each in sorted(triggers.items()):
        states = {lane.get("state") for lane in each.get("lanes", ())} | {each.get("state")}
        function = name.partition("/")[0]
        if "blocked" in states:
            blocked = [lane for lane in each.get("lanes", ()) if lane.get("state") == "blocked"]
            why = next((lane["reason"] for lane in blocked if lane.get("reason")), "")
            console.print()
            _line(console, "blocked ", f"{name}: {why or each.get('reason', '')}", style="bold red")
            commands = [("streamfaas explain blocked", "what it means, and what helps")]
            if any(lane.get("attempt") for lane in blocked):  # it is the function that fails
                by_hand = (
                    f"streamfaas invoke {function} -e event.json",
                    "try the function by hand",
                )
                skip = (f"streamfaas skip {name}", "give up what fails, and go on")
                commands = [by_hand, skip, *commands]
            for help_command, told in commands:
                console.print(f"  {printable(help_command):<44} # {told}", soft_wrap=True)
        elif each.get("state") == "degraded":
            console.print()
            _line(console, "degraded ", f"{name}: {each.get('reason', '')}", style="yellow")
            console.print("  streamfaas explain degraded")


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]], *, width: int) -> Table:
    return output.table(heads, rows, width=width, colours=_COLOURS)


def _line(console: Console, head: str, tail: str, *, style: str) -> None:
    from rich.text import Text

    console.print(Text.assemble((head, style), printable(tail)[:1_000]), soft_wrap=True)


def span(seconds: float) -> str:
    """A length of time in its two largest units."""
    if seconds < 60:
        return f"{seconds:.1f}s" if seconds < 10 else f"{seconds:.0f}s"
    whole = int(seconds)
    parts = ((whole // 86_400, "d"), (whole // 3_600 % 24, "h"), (whole // 60 % 60, "m"),
             (whole % 60, "s"))  # fmt: skip
    first = next(at for at, (count, _) in enumerate(parts) if count)
    return " ".join(f"{count}{unit}" for count, unit in parts[first : first + 2] if count)
