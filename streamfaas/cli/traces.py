"""`streamfaas traces`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click

from streamfaas.cli import client, output
from streamfaas.cli.exits import printable
from streamfaas.cli.tracetree import drawn, moment, took

ID_DIGITS = 12
"""Of an id in the list: enough to name one of those that the daemon has."""

DIGITS_MAX = 12
"""Of an offset that is listed: what is longer is a queue's own, and tells nobody anything."""

_ID = re.compile(r"[0-9a-f]{8,32}", re.ASCII | re.IGNORECASE)
_COLOURS = {"error": "bold red", "slow": "yellow", "sampled": "green"}


@click.command()
@click.argument("what", metavar="[FUNCTION[/TRIGGER] | ID]", default="")
@click.option("--errors", is_flag=True, help="Only those in which something failed.")
@click.option(
    "--slow", metavar="SECONDS", type=click.FloatRange(0), help="Only those that took longer."
)
@click.option(
    "-n", "limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many."
)
@client.options
@output.option
def command(
    *,
    what: str,
    errors: bool,
    slow: float | None,
    limit: int,
    config: Path | None,
    socket: Path | None,
    form: str,
) -> None:
    """List the traces that the daemon has kept, or draw one of them.

    An ID is at least its first eight digits. Failing and slow batches are kept in any case, of the
    others a sample (`streamfaas explain traces`).

    \b
      streamfaas traces orders --errors
      streamfaas traces 0af7651916cd
    """  # noqa: D301 - click wants a real backspace
    path = client.socket_of(config, socket)
    if _ID.fullmatch(what):
        found = client.found(path, "GET", f"/traces/{what.lower()}")
        if not output.written(found, form):
            for line in drawn(found, output.console().width):
                output.coloured(line.text, line.colour)
        return
    asked = {"mapping": what, "errors": errors, "slow": slow, "limit": limit}
    query = urlencode({name: value for name, value in asked.items() if value})
    found = client.found(path, "GET", f"/traces?{query}")
    if not output.written(found, form):
        _show(found)


def _show(found: Mapping[str, Any]) -> None:
    heads = ("!TRACE", "WHEN", "!TRIGGER", "?LANE", ">RECORDS", "?OFFSETS", ">TRIES", "!>TOOK",
             "!WHY", "NOTE")  # fmt: skip
    rows = [_row(each) for each in found["traces"]]
    if not rows:
        click.echo("no trace is kept (of these); see: streamfaas explain traces")
        return
    console = output.console()
    console.print(output.table(heads, rows, width=console.width, colours=_COLOURS))
    if found["more"]:
        click.echo("… and older ones (-n)")


def _row(each: Mapping[str, Any]) -> tuple[str, ...]:
    notes = ("goes on" if each["going"] else "", str(each["error"]))
    return (
        str(each["trace_id"])[:ID_DIGITS],
        moment(int(each["start_ns"])),
        printable(str(each["mapping"])),
        printable(str(each["lane"])),
        output.count(each["records"]),
        _offsets(each["first"], each["last"]),
        output.count(each["attempts"]),
        took(float(each["seconds"])),
        str(each["kept"]),
        ", ".join(note for note in notes if note),
    )


def _offsets(first: int | None, last: int | None) -> str:
    if first is None or len(str(last)) > DIGITS_MAX:
        return ""
    return str(first) if first == last else f"{first}..{last}"
