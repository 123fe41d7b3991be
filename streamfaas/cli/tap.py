"""`streamfaas tap`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click

from streamfaas.cli import client, output
from streamfaas.cli.exits import printable

PAYLOAD_LINES_MAX = 40
"""Of a payload in the terminal."""

STAMP = 12  # characters of a time


@click.command()
@click.argument("target", required=False, default="", metavar="[FUNCTION[/TRIGGER]]")
@click.option("-p", "--payload", is_flag=True, help="Show the event, as the handler sees it.")
@click.option("-e", "--errors", is_flag=True, help="Only what fails, and what becomes of it.")
@click.option("-n", "--count", type=click.IntRange(min=1), help="End after so many attempts.")
@click.option(
    "--last",
    type=click.IntRange(1, 200),
    is_flag=False,
    flag_value=10,
    metavar="[N]",
    help="Show the last ones that have passed (10, if no number is given), and end.",
)
@client.options
@click.option(
    "-o", "--output", "form", type=click.Choice(["text", "json"]), default="text",
    show_default=True, help="json: one object a line.",
)  # fmt: skip
def command(
    target: str,
    *,
    payload: bool,
    errors: bool,
    count: int | None,
    last: int | None,
    config: Path | None,
    socket: Path | None,
    form: str,
) -> None:
    """Watch events pass: each attempt at a batch, when it has ended.

    \b
      streamfaas tap                          everything
      streamfaas tap hello --payload -n 1     one event whole, of the function hello
      streamfaas tap hello/orders --errors    what fails of one trigger
      streamfaas tap hello --last             the last ten that passed

    Shows up to 200 attempts a second, with payloads up to 10 and 1 MB; what is left out is counted.
    Payloads are read only while they are watched, and kept nowhere. Ctrl-C ends it.
    """  # noqa: D301 - click wants a real backspace
    if last is not None and (payload or count is not None):
        raise click.UsageError(
            "--last takes neither --payload (none is kept) nor --count: write --last N"
        )
    asked: dict[str, Any] = {"target": target}
    asked |= {"payload": 1} if payload else {}
    asked |= {"errors": 1} if errors else {}
    asked |= {"last": last} if last is not None else {}
    place, path = client.socket_of(config, socket), f"/tap?{urlencode(asked)}"
    if last is not None:
        _tell(client.found(place, "GET", path)["passed"], form, None)
        return
    with client.followed(place, "GET", path) as rows:
        _tell(rows, form, count)


def _tell(rows: Iterable[dict[str, Any]], form: str, count: int | None) -> None:
    seen = 0
    width = output.width()
    for row in rows:
        if row.get("what") == "watching":
            if sys.stderr.isatty():
                click.echo("watching; Ctrl-C ends it", err=True)
            continue
        if form == "json":
            click.echo(json.dumps(row))
        else:
            for line, colour in lines(row, width):
                output.coloured(line, colour)
        seen += row.get("what") == "attempt"
        if seen == count:
            return


def lines(row: Mapping[str, Any], width: int) -> Iterator[tuple[str, str]]:
    """What is shown of a row, and in which colour."""
    if "missed" in row:
        yield f"{'':{STAMP}} … {row['missed']:,} not shown", "yellow"
        return
    stamp = datetime.fromisoformat(row["time"]).astimezone().strftime("%H:%M:%S.%f")[:STAMP]
    place = printable(row["function"])
    if row["lane"] is not None:
        span = str(row["first"])
        span += f"..{row['last']}" if row["last"] != row["first"] else ""
        place += f"/{row['trigger']} {printable(row['lane'])}@{span}"
    what = row["what"]
    if what == "attempt":
        yield from _attempt(row, f"{stamp} ", place, width)
    elif what == "retrying":
        state = "blocked, " if row["blocked"] else ""
        told = f"{state}failure {row['attempt']}, again in {row['wait_seconds']:.1f} s"
        yield f"{stamp} ↻ {place}  {told}", "red" if row["blocked"] else "yellow"
    elif what == "split":
        parts = " + ".join(map(str, row["parts"]))
        yield f"{stamp} ÷ {place}  split into {parts} records", "yellow"
    else:
        told = f"{row['records']} → {row['destination']} ({row['condition']})"
        yield f"{stamp} ⇥ {place}  set aside: {printable(told)}", "yellow"


def _attempt(
    row: Mapping[str, Any], stamp: str, place: str, width: int
) -> Iterator[tuple[str, str]]:
    init = "" if row["init_ms"] is None else f" (init {row['init_ms']:.0f})"
    most = "" if row["attempts_max"] is None else f" of {row['attempts_max']}"
    again = "" if row["attempt"] == 1 and row["ok"] else f"  attempt {row['attempt']}{most}"
    records = "" if row["lane"] is None else f"  {_records(row['records'])}"
    text = f"{stamp}{'✓' if row['ok'] else '✗'} {place}{records}  {row['duration_ms']:.1f} ms"
    who = f"{again}  {row['worker']}".rstrip()
    tails = (f"{init}{who}  {row['request_id']}", f"{init}{who}", f"{init}{again}", again)
    tail = next((each for each in tails if len(text) + len(each) <= width), again)
    yield text + tail, "green" if row["ok"] else "red"
    if not row["ok"]:
        told = f"{row['error_type']}: {row['error_message']}".removesuffix(": ")
        where = f"  {row['place']}" if row["place"] else ""
        yield f"{'':{STAMP}}   {printable(told)}{printable(where)}", "red"
    yield from ((line, "") for line in _payload(row))


def _payload(row: Mapping[str, Any]) -> Iterator[str]:
    if "payload" not in row:
        return
    if "payload_error" in row:
        yield f"{'':{STAMP}}   the event cannot be read: {printable(row['payload_error'])}"
        return
    text = json.dumps(row["payload"], indent=2, ensure_ascii=False).split("\n")
    shown = text if not sys.stdout.isatty() else text[:PAYLOAD_LINES_MAX]
    yield from (f"  {printable(line)}" for line in shown)
    if len(shown) < len(text):
        yield f"  … {len(text) - len(shown):,} lines more: pipe it, or -o json"
    if "payload_records" in row:
        yield f"  … of {row['records']:,} records the first {row['payload_records']:,}"


def _records(count: int) -> str:
    return f"{count:,} record" + ("s" if count != 1 else "")
