"""`streamfaas status`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streamfaas.cli import client, exits, output, screens
from streamfaas.cli.exits import printable
from streamfaas.cli.output import count
from streamfaas.cli.screens import COLOURS

if TYPE_CHECKING:
    from rich.console import Console

AILING = ("blocked", "retrying", "closing")


@click.command()
@client.options
@output.option
def command(config: Path | None, socket: Path | None, form: str) -> None:
    """Show what a running daemon does: functions, triggers, and what needs attention.

    Rates are of the last ten seconds, errors and times of the last minute. All of it, again and
    again: `streamfaas top`; lane by lane: `streamfaas lag`. Exits with 69 where no daemon answers.
    """
    view = viewed(client.socket_of(config, socket))
    if not output.written(view, form):
        _show(view)


def viewed(socket: Path) -> dict[str, Any]:
    """What the daemon answers, or the end of the command."""
    status, view = client.told(socket, "GET", "/status")
    if status != 200:
        exits.end(exits.UNREACHABLE, f"what answers at {socket} is no streamfaas daemon")
    return view


def _show(view: Mapping[str, Any]) -> None:
    console = output.console()
    state = str(view.get("state", "?"))
    _line(console, f"{state}  ", "  ".join(screens.header(view)), style=COLOURS.get(state, ""))
    _configuration(console, view.get("configuration", {}))
    for function, events in view.get("unclaimed", {}).items():
        told = f"{count(events)} events wait for {function}, which is not configured"
        _line(console, "waiting ", told, style="yellow")
    named = sorted(view.get("triggers", {}).items())
    ailing = [(name, {"lanes": list(_ailing(each.get("lanes", ())))}) for name, each in named]
    width = console.width
    tables = (
        screens.functions(sorted(view.get("functions", {}).items()), width=width),
        screens.triggers(named, width=width),
        screens.lanes(ailing, width=width),
    )
    for table in tables:
        if table.row_count:
            console.print()
            console.print(table)
    for name, each in named:
        _attend(console, name, each)


def _ailing(lanes: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """And what is busy beside a lane that closes, for that is waited for."""
    closing = any(lane.get("state") == "closing" for lane in lanes)
    for lane in lanes:
        if lane.get("state") in AILING or (closing and lane.get("in_flight")):
            yield lane


def _configuration(console: Console, about: Mapping[str, Any]) -> None:
    """Why what the file says is not what runs."""
    if about.get("reloading"):
        _line(console, "config  ", f"is being reloaded: {about['reloading']}", style="yellow")
    elif about.get("reason"):
        told = f"NOT RELOADED ({about['last_reload']}): {about['reason']}"
        _line(console, "config  ", told, style="red")
    elif about.get("differs"):
        told = "look: streamfaas diff   take it: streamfaas reload"
        _line(console, "config  ", told, style="yellow")


def _attend(console: Console, name: str, trigger: Mapping[str, Any]) -> None:
    """What is wrong with a trigger, and the commands that help."""
    word, why = screens.trouble(trigger)
    if not word:
        return
    console.print()
    _line(console, f"{word} ", f"{name}: {why}", style=COLOURS.get(word, ""))
    more = (f"streamfaas triggers show {name}", "all that is known of it")
    for helps, told in (*screens.remedies(name, trigger), more):
        console.print(f"  {printable(helps):<44} # {told}", soft_wrap=True)


def _line(console: Console, head: str, tail: str, *, style: str) -> None:
    from rich.text import Text

    console.print(Text.assemble((head, style), printable(tail)[:1_000]), soft_wrap=True)
