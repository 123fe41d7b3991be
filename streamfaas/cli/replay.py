"""`streamfaas replay`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from streamfaas.cli import client, exits

PAGE = 500
"""Records that are asked for at a time."""

ANSWER_SECONDS = 60.0


@click.command()
@click.argument("what", metavar="ID|FUNCTION/TRIGGER")
@click.option("-l", "--lane", metavar="LANE", help="One partition only (orders-0).")
@click.option("--from", "first", type=click.IntRange(0), help="The first offset.")
@click.option("--to", "last", type=click.IntRange(0), help="The last offset.")
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

    Each runs as an asynchronous invocation of the trigger's function, in order for each lane, with
    the header streamfaas-replays, and is retried and put aside as those are (asynchronous: in the
    function's configuration). No checkpoint moves, and nothing else stops.
    """  # noqa: D301 - click wants the character itself
    place = client.socket_of(config, socket)
    bounds = {"first": first, "last": last, "since": _time(since), "until": _time(until)}
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
    )["lanes"]
    if not plan:
        exits.end(exits.FAILED, "there are no such records")
    total = sum(each["last"] - each["first"] + 1 for each in plan)
    if dry_run:
        for each in plan:
            click.echo(f"would run {each['lane']} @{each['first']}..{each['last']}")
        click.echo(f"{total:,} positions in {len(plan)} lanes")
        return
    events, reached = 0, ""
    try:
        with _bar(total, exits.printable(what)) as bar:
            for page in _paced(_pages(place, target, plan, rate), rate):
                events += page["events"]
                reached = f"{page['lane']} up to {page['next'] - 1}"
                bar.update(page["positions"])
    except (SystemExit, KeyboardInterrupt):
        told = f"handed on before that: {events:,} records, {reached or 'nothing'}"
        click.echo(exits.printable(told), err=True)
        raise
    click.echo(f"{events:,} records will run: streamfaas status")


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
    place: Path, target: str, plan: list[dict[str, Any]], rate: float | None
) -> Iterator[dict[str, Any]]:
    size = PAGE if rate is None else max(1, min(PAGE, int(rate)))
    for each in plan:
        at = each["first"]
        while at <= each["last"]:
            asked = {"lane": each["lane"], "first": at, "last": each["last"], "records_max": size}
            page = client.found(place, "POST", target, asked, timeout=ANSWER_SECONDS)
            following = min(page["next"], each["last"] + 1)
            yield {**page, "positions": following - at}
            at = following


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


def _time(text: str | None) -> str | None:
    return None if text is None else exits.time(text)
