"""`streamfaas seek`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from streamfaas.cli import client, exits, output
from streamfaas.cli.output import count

PLAN_SECONDS = 40.0
"""What may be asked of brokers, one after the other."""

DIGITS_MAX = 60
"""Of a position: the sequence numbers of shards have fewer."""


@click.command()
@click.argument("trigger", metavar="FUNCTION/TRIGGER")
@click.option(
    "--to",
    required=True,
    metavar="PLACE",
    help="earliest, latest, a time, an offset; of a shard, a sequence number.",
)
@click.option(
    "-p", "--partition", "partitions", multiple=True, metavar="P",
    help="A partition (0, or orders-0) or shard; may be given again. [default: all that are here]",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Say what would come again or be skipped.")
@click.option("-y", "--yes", is_flag=True, help="Skip records without being asked.")
@click.option(
    "--grace",
    type=click.FloatRange(0, 900),
    default=30.0,
    show_default=True,
    help="Seconds for what is in flight to end; after that it is let go.",
)
@client.options
@output.option
def command(
    trigger: str,
    *,
    to: str,
    partitions: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    grace: float,
    config: Path | None,
    socket: Path | None,
    form: str,
) -> None:
    """Read a trigger's log on from another place.

    \b
      streamfaas seek orders/stream --to earliest --dry-run
      streamfaas seek orders/stream --to 2026-01-31T08:00:00Z
      streamfaas seek orders/stream --to 1204 --partition orders-0
      streamfaas seek clicks/stream --to 4958…098 --partition shardId-000000000000

    What is in flight ends first, the new place is made durable, and reading goes on from there: a
    trigger that is paused stays so, one that is blocked begins anew. A shard that is sent back
    takes along those that came out of it. For a look at old records that moves nothing:
    `streamfaas replay`. More: `streamfaas explain seek`.
    """  # noqa: D301 - click wants the character itself
    function, _, name = trigger.partition("/")
    if not function or not name or "/" in name:
        raise click.UsageError(f"{trigger!r} is not FUNCTION/TRIGGER")
    place, target = client.socket_of(config, socket), f"/seek/{function}/{name}"
    asked: dict[str, Any] = {**_place(to), "partitions": partitions}
    plan = client.found(place, "POST", target, asked, timeout=PLAN_SECONDS)
    moves = plan["lanes"]
    if not moves:
        exits.end(exits.FAILED, f"{trigger} has no partition or shard here: streamfaas status")
    if dry_run:
        if not output.written(plan, form):
            _show(moves)
            _tell_elsewhere(plan["elsewhere"])
        return
    if form == "table":
        _show(moves)
    _agreed(moves, yes=yes)
    asked = {
        "spots": {each["lane"]: each["to"] for each in moves},
        "onward": [each["lane"] for each in moves if each["again"] == 0],
        "grace_seconds": grace,
        "by": exits.who(),
    }
    done = client.found(place, "POST", target, asked, timeout=PLAN_SECONDS + grace)
    if not output.written(done, form):
        if _ways(done["lanes"]) != _ways(moves):  # it went on meanwhile
            click.echo("it had gone on by then:")
            _show(done["lanes"])
        more = f"; it is paused: streamfaas resume {trigger}" if done["paused"] else ""
        click.echo(exits.printable(f"{trigger} goes on from there{more}"))
        _tell_elsewhere(plan["elsewhere"])


def _place(text: str) -> dict[str, str]:
    if text in {"earliest", "latest"}:
        return {"to": text}
    if text.isdecimal():
        if len(text) > DIGITS_MAX:
            raise click.UsageError(f"no log has a position of more than {DIGITS_MAX} digits")
        return {"at": text}
    told = "earliest, latest, an offset, or a time as 2026-01-31T08:00:00Z"
    return {"to": exits.time(text, told)}


def _show(moves: list[dict[str, Any]]) -> None:
    heads = ("!PARTITION", "!>FROM", "!>TO", "!>AGAIN", "!>SKIPPED")
    rows = [
        (m["lane"], m["from"], m["to"], _count(m["again"]), _count(m["skipped"])) for m in moves
    ]
    console = output.console()
    console.print(output.table(heads, rows, width=console.width, colours={}))
    again, skipped = (_sum(moves, key) for key in ("again", "skipped"))
    if again is None or skipped is None:
        click.echo("how many records lie between two places no shard says (?)")
    else:
        told = f"{count(again)} records come again, {count(skipped)} are skipped"
        click.echo(f"{told} (at most: not every offset holds a record)")


def _ways(moves: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(move["lane"], move["from"], move["to"]) for move in moves]


def _count(number: int | None) -> str:
    return "?" if number is None else count(number)


def _sum(moves: list[dict[str, Any]], key: str) -> int | None:
    """None: not known."""
    numbers = [move[key] for move in moves]
    return None if None in numbers else sum(numbers)


def _tell_elsewhere(names: list[str]) -> None:
    if names:
        some = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        told = f"other members of the group have {some}: they stay where they are"
        click.echo(exits.printable(told), err=True)


def _agreed(moves: list[dict[str, Any]], *, yes: bool) -> None:
    """Ends the command where nobody agrees that records are skipped."""
    skipped = _sum(moves, "skipped")
    if yes or skipped == 0:
        return
    what = "records may" if skipped is None else f"{count(skipped)} records would"
    told = f"{what} be skipped, and never run"
    if not sys.stdin.isatty():
        exits.end(exits.USAGE, f"{told}: give --yes")
    click.confirm(f"{told}: skip them?", abort=True, err=True)
