"""`streamfaas status`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streamfaas.cli import client, exits
from streamfaas.cli.exits import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

LANES_MAX = 20
"""Lanes in the table; the worst come first."""

WIDTH_WITHOUT_TERMINAL = 160
NARROW = 110
"""Below this width, columns that are marked by `?` are left out."""

NOTE_MIN = 12
_GAP = 2


_WORST_FIRST = ("blocked", "retrying", "closing", "running", "idle")
_COLOURS = {
    "blocked": "bold red", "degraded": "yellow", "retrying": "yellow", "draining": "yellow",
    "connecting": "yellow", "closing": "yellow", "running": "green",
}  # fmt: skip


@click.command()
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    help=f"The configuration of the daemon. [default: {exits.DEFAULT_CONFIG}]",
)
@click.option("--socket", type=click.Path(path_type=Path), help="The socket of the daemon.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json", "yaml"]),
    default="table",
    show_default=True,
    help="The form of the output.",
)
def command(config: Path | None, socket: Path | None, output: str) -> None:
    """Show what a running daemon does: functions, triggers, lanes, and what needs attention.

    Exits with 69 where no daemon answers.
    """
    if socket is not None and config is not None:
        raise click.UsageError("give --config or --socket, not both")
    view = _view(socket or _socket(config))
    if output == "json":
        import json

        click.echo(json.dumps(view, indent=2))
    elif output == "yaml":
        import yaml  # type: ignore[import-untyped]

        click.echo(yaml.safe_dump(view, sort_keys=False), nl=False)
    else:
        _show(view)


def _socket(config: Path | None) -> Path:
    from streamfaas.config.load import socket_of
    from streamfaas.config.report import report
    from streamfaas.flow.errors import ConfigError

    try:
        return socket_of(config or Path(exits.DEFAULT_CONFIG), os.environ)
    except ConfigError as error:
        click.echo(report(error.problems, error.name), err=True)
        sys.exit(exits.CONFIG)


def _view(socket: Path) -> dict[str, Any]:
    import json

    try:
        answer = client.ask(socket, "GET", "/status")
        view = json.loads(answer.body)
    except client.Absent as cause:
        exits.end(exits.UNREACHABLE, f"{cause}; start one: streamfaas run")
    except ValueError:
        view = None
    if not isinstance(view, dict) or answer.status != 200:
        exits.end(exits.UNREACHABLE, f"what answers at {socket} is no streamfaas daemon")
    return view


def _show(view: Mapping[str, Any]) -> None:
    from rich.console import Console

    console = Console(
        highlight=False,
        markup=False,
        emoji=False,
        width=None if sys.stdout.isatty() else _width_asked(),
    )
    state = str(view.get("state", "?"))
    line = [
        f"streamfaas {view.get('version', '?')}",
        f"up {span(float(view.get('uptime_seconds', 0)))}",
        f"RSS {int(view.get('rss_bytes', 0)) >> 20} MB",
        f"config {view.get('config', '?')}",
    ]
    _line(console, f"{state}  ", "  ".join(line), style=_COLOURS.get(state, ""))
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


def _width_asked() -> int:
    asked = os.environ.get("COLUMNS", "")
    return max(int(asked), 40) if asked.isdecimal() else WIDTH_WITHOUT_TERMINAL


def _functions(functions: Mapping[str, Any], *, width: int) -> Table:
    heads = ("FUNCTION", "ISOLATION", "WORKERS", ">WAITING", ">INVOKED", ">ERRORS", "NOTE")
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
                _count(each.get("waiting")),
                _count(each.get("invocations")),
                _count(each.get("errors")),
                "; ".join(note for note in notes if note),
            )
        )
    return _table(heads, rows, width=width)


def _triggers(triggers: Mapping[str, Any], *, width: int) -> Table:
    heads = (
        "TRIGGER", "?KIND", "STATE", "?>LANES", ">LAG", ">RECORDS", "?>BATCHES", ">FAILURES",
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
                _count(len(lanes)),
                _count(sum(lags)) if lags else "-",
                _count(each.get("records")),
                _count(each.get("batches")),
                _count(each.get("failures")),
                _count(each.get("set_aside")),
                each.get("reason", ""),
            )
        )
    return _table(heads, rows, width=width)


def _lanes(triggers: Mapping[str, Any], *, width: int) -> Table:
    heads = (
        "LANE", "STATE", ">POSITION", ">LAG", "?>HELD", "?>IN FLIGHT", ">ATTEMPT", "NEXT", "NOTE",
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
                _count(lane.get("position")),
                _count(lane.get("lag")),
                _count(lane.get("held_records")),
                _count(lane.get("in_flight")),
                _count(lane.get("attempt")),
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
            for help_command, told in (
                (f"streamfaas invoke {function} -e event.json", "try the function by hand"),
                ("streamfaas explain blocked", "what it means, and what helps"),
            ):
                console.print(f"  {printable(help_command):<44} # {told}", soft_wrap=True)
        elif each.get("state") == "degraded":
            console.print()
            _line(console, "degraded ", f"{name}: {each.get('reason', '')}", style="yellow")
            console.print("  streamfaas explain degraded")


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]], *, width: int) -> Table:
    """A table without lines. Before a head, `>` means that its column is of numbers, `?` that it
    can be spared. The last column, of notes, is cut to the room that the others leave."""
    from rich.table import Table
    from rich.text import Text

    lines = [[printable(str(cell)) for cell in row] for row in rows]
    kept = [at for at, head in enumerate(heads) if width >= NARROW or not head.startswith("?")]
    names = [heads[at].lstrip("?>") for at in kept]
    spans = [
        max([len(name), *(len(line[at]) for line in lines)])
        for name, at in zip(names, kept, strict=True)
    ]
    room = max(width - sum(spans[:-1]) - _GAP * len(names), NOTE_MIN)
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for name, at in zip(names, kept, strict=True):
        number = heads[at].lstrip("?").startswith(">")
        table.add_column(name, justify="right" if number else "left", no_wrap=True)
    for line in lines:
        cells = [line[at] for at in kept[:-1]]
        note = line[-1] if len(line[-1]) <= room else f"{line[-1][: room - 1]}…"
        table.add_row(*(Text(cell, style=_COLOURS.get(cell, "")) for cell in (*cells, note)))
    return table


def _line(console: Console, head: str, tail: str, *, style: str) -> None:
    from rich.text import Text

    console.print(Text.assemble((head, style), printable(tail)[:1_000]), soft_wrap=True)


def _count(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"


def span(seconds: float) -> str:
    """A length of time in its two largest units."""
    if seconds < 60:
        return f"{seconds:.1f}s" if seconds < 10 else f"{seconds:.0f}s"
    whole = int(seconds)
    parts = ((whole // 86_400, "d"), (whole // 3_600 % 24, "h"), (whole // 60 % 60, "m"),
             (whole % 60, "s"))  # fmt: skip
    first = next(at for at, (count, _) in enumerate(parts) if count)
    return " ".join(f"{count}{unit}" for count, unit in parts[first : first + 2] if count)
