"""`streamfaas replay`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

import click

from streamfaas.cli import client, exits

PAGE = 500
"""Records that are asked for at a time."""

ANSWER_SECONDS = 60.0

Asked: TypeAlias = dict[str, Any]
"""A lane, and what is wanted of it, as the daemon takes it."""


@click.command()
@click.argument("what", metavar="ID|FUNCTION/TRIGGER")
@click.option("-l", "--lane", metavar="LANE", help="One partition (orders-0) or shard only.")
@click.option(
    "--from",
    "first",
    type=click.IntRange(0),
    help="The first offset; of a shard, a sequence number.",
)
@click.option("--to", "last", type=click.IntRange(0), help="The last one.")
@click.option("--since", metavar="TIME", help="Records from this time on (2026-01-31T08:00:00Z).")
@click.option("--until", metavar="TIME", help="Records before this time.")
@click.option("--rate", type=click.FloatRange(0.1), help="Records a second, at most.")
@click.option("--dry-run", is_flag=True, help="Say what would run, and run nothing.")
@click.option("-y", "--yes", is_flag=True, help="All of a trigger's log, without a bound.")
@client.options
def command(
    what: str,
    *,
    lane: str | None,
    first: int | None,
    last: int | None,
    since: str | None,
    until: str | None,
    rate: float | None,
    dry_run: bool,
    yes: bool,
    config: Path | None,
    socket: Path | None,
) -> None:
    """Run records once more: a failed batch by its ID (see `dlq list`), or a stretch of a log.

    \b
      streamfaas replay 0123456789abcdef0123456789abcdef
      streamfaas replay orders/stream --lane orders.v1-0 --from 1200 --to 1300
      streamfaas replay orders/stream --since 2026-01-31T08:00:00Z --rate 100
      streamfaas replay clicks/stream --lane shardId-000000000000 --from 4958…098

    Each runs as an asynchronous invocation of the trigger's function, in order for each lane, with
    the header streamfaas-replays, and is retried and put aside as those are (asynchronous: in the
    function's configuration). No checkpoint moves, and nothing else stops.
    """  # noqa: D301 - click wants the character itself
    place = client.socket_of(config, socket)
    ends = {"first": _text(first), "last": _text(last)}
    bounds = {**ends, "since": _time(since), "until": _time(until)}
    if "/" not in what:
        if lane is not None or any(bound is not None for bound in bounds.values()):
            raise click.UsageError("an ID stands for a whole batch: no lane, offsets or times")
        redrive(place, [what], rate=rate, dry_run=dry_run)
        return
    function, _, name = what.partition("/")
    if not function or not name or "/" in name:
        raise click.UsageError(f"{what!r} is neither an ID nor FUNCTION/TRIGGER")
    if not yes and all(bound is None for bound in bounds.values()):
        raise click.UsageError("which records? give --from, --to, --since or --until, or --yes")
    target = f"/replay/{function}/{name}"
    asked = {name: value for name, value in bounds.items() if value is not None}
    plan = client.found(
        place, "POST", target, {**asked, "lane": lane, "plan": True}, timeout=ANSWER_SECONDS
    )
    _end_if_none(len(plan["lanes"]))
    if dry_run and plan["counted"]:
        _tell(plan["lanes"])
    elif dry_run:
        _look(place, target, plan["lanes"])
    else:
        _run(place, target, plan, rate, exits.printable(what))


def _tell(lanes: list[Asked]) -> None:
    """What positions that rise one by one say."""
    for each in lanes:
        click.echo(f"would run {each['lane']} @{each['first']}..{each['last']}")
    click.echo(f"{sum(map(_positions, lanes)):,} positions in {len(lanes)} lanes")


def _look(place: Path, target: str, lanes: list[Asked]) -> None:
    """Where only the records say it."""
    events, read, found = 0, 0, 0
    for each in lanes:
        pages = list(_pages(place, target, [{**each, "dry_run": True}], PAGE))
        read += sum(page["records"] for page in pages)
        if count := sum(page["events"] for page in pages):
            first = next(page["first"] for page in pages if page["first"])
            told = f"would run {each['lane']} @{first}..{pages[-1]['reached']}"
            click.echo(f"{told}: {count:,} records")
            events, found = events + count, found + 1
    _end_if_none(read)
    click.echo(f"{events:,} records in {found} lanes")


def _run(place: Path, target: str, plan: dict[str, Any], rate: float | None, what: str) -> None:
    lanes, counted = plan["lanes"], plan["counted"]
    size = PAGE if rate is None else max(1, min(PAGE, int(rate)))
    events, read, reached = 0, 0, ""
    try:
        with _bar(sum(map(_positions, lanes)) if counted else len(lanes), what) as bar:
            for page in _paced(_pages(place, target, lanes, size), rate):
                events, read = events + page["events"], read + page["records"]
                reached = f"{page['lane']} up to {page['reached']}"
                bar.update(page["positions"] if counted else not page["more"])
    except (SystemExit, KeyboardInterrupt):
        told = f"handed on before that: {events:,} records, {reached or 'nothing'}"
        click.echo(exits.printable(told), err=True)
        raise
    if not counted:
        _end_if_none(read)
    click.echo(f"{events:,} records will run: streamfaas status")


def _end_if_none(found: int) -> None:
    if not found:
        exits.end(exits.FAILED, "there are no such records")


def redrive(place: Path, ids: list[str], *, rate: float | None, dry_run: bool) -> None:
    """Runs entries of the catalogue once more, each once. Where one is not there, none."""
    ids = list(dict.fromkeys(ids))
    found = [client.found(place, "GET", f"/dlq/{quote(id_, safe='')}") for id_ in ids]
    if dry_run:
        for each in found:
            records = f"{each['records']} records of {each['mapping']}"
            click.echo(exits.printable(f"would run {each['id']}: {records}"))
        return
    targets = (f"/redrive/{quote(id_, safe='')}" for id_ in ids)
    with _bar(len(ids), "redrive") as bar:
        sent = (client.found(place, "POST", to, {}, timeout=ANSWER_SECONDS) for to in targets)
        total = 0
        for answer in _paced(sent, rate):
            total += answer["events"]
            bar.update(1)
    click.echo(f"{total:,} records will run: streamfaas status")


def _pages(
    place: Path, target: str, lanes: list[Asked], records_max: int
) -> Iterator[dict[str, Any]]:
    for each in lanes:
        asked, more = {**each, "records_max": records_max}, True
        before = int(each["first"] or 0) - 1
        while more:
            page = client.found(place, "POST", target, asked, timeout=ANSWER_SECONDS)
            asked["after"], more = page["reached"], page["more"]
            reached = before if page["reached"] is None else int(page["reached"])
            yield {**page, "positions": reached - before}
            before = reached


def _paced(pages: Iterator[dict[str, Any]], rate: float | None) -> Iterator[dict[str, Any]]:
    """Waits after each so long that the records come no faster than asked for."""
    started, records = time.monotonic(), 0
    for page in pages:
        yield page
        records += page["records"]
        if rate is not None:
            time.sleep(max(0.0, started + records / rate - time.monotonic()))


def _bar(length: int, label: str) -> Any:
    """On stderr, and only where somebody looks."""
    looked_at = sys.stderr.isatty()
    return click.progressbar(length=length, label=label, file=sys.stderr, hidden=not looked_at)


def _positions(lane: Asked) -> int:
    return int(lane["last"]) - int(lane["first"]) + 1


def _text(position: int | None) -> str | None:
    """JSON that others read has no numbers as large as those of a shard."""
    return None if position is None else str(position)


def _time(text: str | None) -> str | None:
    return None if text is None else exits.time(text)
