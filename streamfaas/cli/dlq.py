"""`streamfaas dlq`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import click

from streamfaas.cli import client, exits, output

_COLOURS = {"intended": "yellow", "delivered": "green"}
_LINES_MAX = 40


@click.group()
def command() -> None:
    """List, show and purge what was put aside.

    What was given up is in the daemon's catalogue, with its event and the letters that went to its
    destination. It stays there for 14 days, or until 256 MB of it are newer. What lies in a queue
    or a bucket is not read: `streamfaas explain documents` says more.
    """


@command.command("list")
@click.option("-m", "--mapping", metavar="FUNCTION/TRIGGER", help="Of one trigger only.")
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="How many."
)
@click.option("--before", metavar="PLACE", help="What an earlier list gave as the next place.")
@client.options
@output.option
def list_(
    *,
    mapping: str | None,
    limit: int,
    before: str | None,
    config: Path | None,
    socket: Path | None,
    form: str,
) -> None:
    """List what was put aside, the newest first."""
    asked = {"limit": limit, "mapping": mapping, "before": before}
    query = urlencode({key: value for key, value in asked.items() if value is not None})
    found = _told(client.socket_of(config, socket), "GET", f"/dlq?{query}")
    if not output.written(found, form):
        _show_list(found)


@command.command()
@click.argument("entry", metavar="ID")
@client.options
@output.option
def show(entry: str, config: Path | None, socket: Path | None, form: str) -> None:
    """Show one entry whole: why it is there, its event, and the letters about it."""
    target = f"/dlq/{quote(entry, safe='')}"
    found = _told(client.socket_of(config, socket), "GET", target)
    if not output.written(found, form):
        for line in _described(found):
            click.echo(line)


@command.command()
@click.argument("entries", metavar="[ID]...", nargs=-1)
@click.option("-m", "--mapping", metavar="FUNCTION/TRIGGER", help="Of one trigger only.")
@click.option("--older-than", metavar="DURATION", help="Older than this (30m, 12h, 7d) only.")
@click.option(
    "--force",
    is_flag=True,
    help="Also what is not over with: its function may run again, its letters are not sent.",
)
@client.options
@output.option
def purge(
    *,
    entries: tuple[str, ...],
    mapping: str | None,
    older_than: str | None,
    force: bool,
    config: Path | None,
    socket: Path | None,
    form: str,
) -> None:
    """Forget entries for good: those that are named, or all of a trigger, or of an age.

    What is still on its way to its destination stays.
    """
    if not entries and mapping is None and older_than is None:
        raise click.UsageError("which ones? give an ID, --mapping or --older-than")
    asked: dict[str, object] = {"force": force}
    if entries:
        asked["ids"] = entries
    if mapping is not None:
        asked["mapping"] = mapping
    if older_than is not None:
        asked["older_than_seconds"] = _seconds(older_than)
    found = _told(client.socket_of(config, socket), "POST", "/dlq/purge", asked)
    if not output.written(found, form):
        kept = len(set(entries)) - found["purged"] if entries else 0
        why = f"; {kept} are not there, or not over with (--force)" if kept > 0 else ""
        click.echo(f"purged {found['purged']}{why}")


@command.command()
@click.argument("entries", metavar="[ID]...", nargs=-1)
@click.option("-m", "--mapping", metavar="FUNCTION/TRIGGER", help="All of one trigger.")
@click.option("--rate", type=click.FloatRange(0.1), help="Records a second, at most.")
@click.option("--dry-run", is_flag=True, help="Say what would run, and run nothing.")
@client.options
def redrive(
    *,
    entries: tuple[str, ...],
    mapping: str | None,
    rate: float | None,
    dry_run: bool,
    config: Path | None,
    socket: Path | None,
) -> None:
    """Run entries once more, the oldest first: those that are named, or all of a trigger.

    They run as asynchronous invocations of their function, marked as replays, and stay listed.
    """
    from streamfaas.cli.replay import redrive as run_again

    if bool(entries) == (mapping is not None):
        raise click.UsageError("which ones? give IDs, or --mapping")
    place = client.socket_of(config, socket)
    ids = list(entries) if entries else list(reversed(_all_of(place, mapping)))
    if not ids:
        exits.end(exits.FAILED, "nothing was put aside")
    run_again(place, ids, rate=rate, dry_run=dry_run)


def _all_of(socket: Path, mapping: str | None) -> list[str]:
    ids: list[str] = []
    before: str | None = ""
    while before is not None:
        asked = {"limit": 1000, "mapping": mapping, **({"before": before} if before else {})}
        found = _told(socket, "GET", f"/dlq?{urlencode(asked)}")
        ids += [each["id"] for each in found["entries"]]
        before = found["next"]
    return ids


def _told(
    socket: Path, method: str, target: str, asked: Mapping[str, object] | None = None
) -> dict[str, Any]:
    status, found = client.told(socket, method, target, asked)
    if status != 200:
        wrong = exits.USAGE if status == 400 else exits.FAILED
        exits.end(wrong, exits.printable(str(found.get("error", f"the daemon answered {status}"))))
    return found


def _seconds(text: str) -> float:
    from streamfaas.config.units import UnitError, parse_duration

    try:
        return parse_duration(text)
    except UnitError as error:
        hint = f" ({error.hint})" if error.hint else ""
        raise click.UsageError(f"--older-than: {text!r} {error}{hint}") from error


def _show_list(found: Mapping[str, Any]) -> None:
    entries = found["entries"]
    if not entries:
        click.echo("nothing was put aside")
        return
    heads = ("ID", "WHEN", "TRIGGER", "?LANE", ">RECORDS", "STATE", "?>REPLAYS", "CONDITION")
    rows = [
        (
            each["id"],
            _time(each["made_ms"]),
            each["mapping"],
            each["lane"],
            output.count(each["records"]),
            each["state"],
            output.count(each["replays"]),
            each["condition"],
        )
        for each in entries
    ]
    console = output.console()
    console.print(output.table(heads, rows, width=console.width, colours=_COLOURS))
    if found["next"]:
        console.print(f"… and older ones: --before {found['next']}", soft_wrap=True)


def _described(found: Mapping[str, Any]) -> Iterator[str]:
    places = ", ".join(f"{a}" if a == b else f"{a}..{b}" for a, b in found["ranges"])
    where = f"{found['mapping']} {found['lane']}".rstrip()
    yield from _fields(
        {
            "id": found["id"],
            "why": found["condition"],
            "where": f"{where} at {places}",
            "records": output.count(found["records"]),
            "when": _time(found["made_ms"]),
            "state": f"{found['state']}, to {found['destination']}",
            "replays": f"{found['replays']} (hops: {found['hops']})",
        }
    )
    yield ""
    yield "event"
    yield from _pretty(found["event"])
    for number, letter in enumerate(found["letters"], 1):
        of = f" {number} of {len(found['letters'])}" if len(found["letters"]) > 1 else ""
        key = "" if letter["key"] is None else f", key {letter['key']}"
        yield ""
        yield exits.printable(f"letter{of}: {letter['id']}{key}")
        yield from _fields({f"  {name}": value for name, value in letter["attributes"].items()})
        yield from _pretty(letter["document"])


def _fields(fields: Mapping[str, str]) -> Iterator[str]:
    for name, value in fields.items():
        yield f"{name:<9} {exits.printable(value)}"


def _pretty(value: object) -> Iterator[str]:
    """The first lines of it; all of it is what `-o json` is for."""
    import json

    lines = json.dumps(value, indent=2).splitlines()
    for line in lines[:_LINES_MAX]:
        yield f"  {line}"
    if len(lines) > _LINES_MAX:
        yield f"  … and {len(lines) - _LINES_MAX:,} more lines (all: -o json)"


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
