"""`streamfaas send`."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from streamfaas.cli import client, exits, output
from streamfaas.cli.exits import printable
from streamfaas.cli.tap import lines as passing

VALUE_BYTES_MAX = 4 << 20


@click.command()
@click.argument("target", metavar="FUNCTION/TRIGGER")
@click.argument("value", required=False)
@click.option("-e", "--event", metavar="FILE|-", help="The value is what a file holds; - is stdin.")
@click.option("--sample", is_flag=True, help="Send a built-in event of the right shape.")
@click.option("-k", "--key", help="A record's key, or a file's path in its bucket.")
@click.option("-H", "--header", "headers", multiple=True, metavar="NAME=TEXT", help="A header.")
@click.option("--topic", default="", help="Where the trigger reads several topics.")
@click.option("--partition", type=click.IntRange(min=0), help="Where its key does not say which.")
@click.option("--count", type=click.IntRange(1, 10_000), default=1, help="So many of them.")
@click.option("--rate", type=click.FloatRange(0.1, 1_000), help="So many a second, at most.")
@click.option("--wait/--no-wait", default=True, help="Until it is known what becomes of it.")
@click.option("--through", is_flag=True, help="Wait through failures until it is finished with.")
@click.option(
    "--timeout", type=click.FloatRange(0.1, 3_600), default=30.0, show_default=True,
    help="Seconds to wait.",
)  # fmt: skip
@client.options
@click.option(
    "-o", "--output", "form", type=click.Choice(["text", "json"]), default="text",
    show_default=True, help="json: one object a line.",
)  # fmt: skip
def command(
    target: str,
    value: str | None,
    *,
    event: str | None,
    sample: bool,
    headers: tuple[str, ...],
    config: Path | None,
    socket: Path | None,
    form: str,
    **asked: Any,
) -> None:
    """Put a test event where a trigger finds it, and tell what becomes of it.

    \b
      streamfaas send hello/orders '{"id": 7, "total": 19.5}' --key c-1
      streamfaas send hello/orders --sample --count 1000 --rate 100
      streamfaas send thumbs/inbox -e cat.jpg --key in/cat.jpg
      streamfaas send receipts/async '{"id": 7}'

    It is a real one: a record is produced into the topic, acknowledged by all replicas; a file is
    written into the directory; an asynchronous invocation is kept on the disk. A record gets a
    traceparent header, if it has none, to which the trace of its batch is linked.

    Ends at the first failure, which is tried again all the same; --through waits for the end of it.
    Exits with 1 where it failed or nothing became of it in time. Ctrl-C leaves what was sent.
    """  # noqa: D301 - click wants a real backspace
    function, slash, trigger = target.partition("/")
    if not (function and slash and trigger):
        known = "streamfaas status shows the triggers; FUNCTION/async calls a function"
        raise click.UsageError(f"{target!r} is no FUNCTION/TRIGGER; {known}")
    if [value is not None, event is not None, sample].count(True) != 1:
        raise click.UsageError("give one of a VALUE, -e FILE and --sample")
    place = client.socket_of(config, socket)
    asked["headers"] = [_header(each) for each in headers]
    if sample:
        asked["sample"] = True
    else:
        asked["value"] = base64.b64encode(_value(value, event)).decode()
    path = f"/send/{quote(function, safe='')}/{quote(trigger, safe='')}"
    first = asked["timeout"] + client.FIRST_SECONDS  # it may have to connect
    with client.followed(place, "POST", path, asked, first=first) as rows:
        if form == "json":
            status = _as_json(rows)
        elif asked["count"] > 1:
            status = _many(_with_bar(rows, asked["count"], waits=asked["wait"]))
        else:
            status = _one(rows)
    sys.exit(status)


def _value(value: str | None, event: str | None) -> bytes:
    if event is None:
        data = (value or "").encode(errors="surrogateescape")
    else:
        try:
            if event == "-":
                data = sys.stdin.buffer.read(VALUE_BYTES_MAX + 1)
            else:
                with Path(event).open("rb") as file:
                    data = file.read(VALUE_BYTES_MAX + 1)
        except (OSError, ValueError) as cause:
            reason = getattr(cause, "strerror", None) or str(cause)
            exits.end(exits.USAGE, f"cannot read the event {event[:200]!r}: {reason}")
    if len(data) > VALUE_BYTES_MAX:
        exits.end(exits.USAGE, "the event is over 4 MB")
    return data


def _header(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise click.UsageError(f"{text!r} is no header: write NAME=TEXT")
    return name, value


def _as_json(rows: Iterable[Mapping[str, Any]]) -> int:
    last: Mapping[str, Any] = {}
    for row in rows:
        click.echo(json.dumps(row))
        last = row
    return _status(last)


def _one(rows: Iterable[Mapping[str, Any]]) -> int:
    """Line by line, for one event."""
    failures: list[Mapping[str, Any]] = []
    last: Mapping[str, Any] = {}
    failed: Mapping[str, Any] = {}
    for row in rows:
        last = row
        failed = row if row.get("ok") is False else failed
        what = row.get("what")
        if what == "sent":
            click.echo(f"sent to {printable(row['target'])}: {printable(row['place'])}")
        if what == "filtered" or (what == "sent" and row["filtered"]):
            output.coloured("  filtered: the trigger's filter leaves it out", "yellow")
        if what == "succeeded":
            output.coloured(_success(row), "green")
        elif what == "attempt" and not row["ok"]:
            failures.append(row)
        elif what in {"retrying", "split", "set aside"}:
            _failed(failures, row)
            failures = []
        elif what == "end":
            _failed(failures, None)
            _told_at_the_end(row, failed)
        elif "error" in row:
            click.echo(f"streamfaas: {printable(row['error'])}", err=True)
    return _status(last)


def _success(row: Mapping[str, Any]) -> str:
    parts = [f"{name} {row[f'{name}_ms']:.1f}" for name in ("init", "queue", "run", "settle")]
    again = f"  attempt {row['attempts']}" if row["attempts"] > 1 else ""
    place = printable(row["place"])
    times = ", ".join(part for part in parts if not part.endswith(" 0.0"))
    return f"  {place} → {row['function']}  200  {row['total_ms']:.1f} ms  ({times}){again}"


def _failed(failures: list[Mapping[str, Any]], then: Mapping[str, Any] | None) -> None:
    """What went wrong, and what comes next."""
    for row in failures:
        most = "" if row["attempts_max"] is None else f" of {row['attempts_max']}"
        told = f"{row['error_type']}: {row['error_message']}".removesuffix(": ")
        place = f"  {row['place']}" if row["place"] else ""
        text = f"  ✗ {row['function']}  {printable(told + place)}  attempt {row['attempt']}{most}"
        if then is not None and then["what"] == "retrying":
            text += f", next in {then['wait_seconds']:.1f} s"
            text += ", blocked" if then["blocked"] else ""
        output.coloured(text, "red")
    if then is not None and then["what"] != "retrying":
        for line, colour in passing(then, sys.maxsize):
            output.coloured(f"  {line.partition(' ')[2]}", colour)


def _told_at_the_end(row: Mapping[str, Any], failed: Mapping[str, Any]) -> None:
    """What helps; `failed` is the last attempt that did, if any."""
    place, most = failed.get("place", ""), failed.get("attempts_max")
    trigger = row["trigger"]
    function, _, own = trigger.partition("/")
    alone = own == "asynchronous" or row["returned"]  # it holds up nobody: nothing is to skip
    if row["failing"]:
        code = Path(row["code"]) / place.partition(":")[0]
        line = place.rpartition(":")[2]
        then = "what is saved is taken at once" if row["watches"] else "then: streamfaas reload"
        trace = row["trace_id"][:12]
        helps = [
            (f"mend {_near(code)}{':' if line else ''}{line}", then),
            (f"streamfaas logs {function}", "what it wrote"),
            (f"streamfaas tap {function} -e -p", "its next tries, and what it is given"),
            *([(f"streamfaas traces {trace}", "its way so far")] if trace else []),
            *([] if alone else [(f"streamfaas skip {trigger}", "give it up")]),
        ]
        width = max(len(command) for command, _ in helps)
        until = "until the function does not fail any more"
        until = until if most is None else f"up to {most} times in all, and then set aside"
        click.echo(f"  it is tried again {until}; what helps:")
        for command, told in helps:
            click.echo(f"    {command:{width}}  {told}")
    elif row["trace_id"]:
        click.echo(f"  its way: streamfaas traces {row['trace_id'][:12]}")
    if row["set_aside"]:
        click.echo(f"  it was set aside: streamfaas dlq list {trigger}")
    if row["waiting"] and row["why"]:
        output.coloured(f"  not run yet: {printable(row['why'])}", "yellow")


def _near(path: Path) -> str:
    """A path as it is called from here."""
    try:
        return printable(str(path.relative_to(Path.cwd())))
    except ValueError:
        return printable(str(path))


def _with_bar(
    rows: Iterable[Mapping[str, Any]], count: int, *, waits: bool
) -> Iterator[Mapping[str, Any]]:
    """The rows, while a bar on stderr shows how far it is, where somebody looks."""
    hidden, at, label = not sys.stderr.isatty(), 0, "done" if waits else "sent"
    with click.progressbar(length=count, label=label, file=sys.stderr, hidden=hidden) as bar:
        for row in rows:
            if row.get("what") == "progress":
                bar.update(row[label] - at)
                at = row[label]
            elif row.get("what") == "end":
                bar.update(count - at)
            yield row


def _many(rows: Iterable[Mapping[str, Any]]) -> int:
    """What became of many, in a few lines."""
    last: Mapping[str, Any] = {}
    failed: Mapping[str, Any] = {}
    target, failure = "", ""
    for row in rows:
        last = row
        target = target or row.get("target", "")
        if row.get("what") == "attempt" and not row["ok"] and not failure:
            failed = row
            failure = f"{row['error_type']}: {row['error_message']}  {row['place']}"
        if "error" in row:
            click.echo(f"streamfaas: {printable(row['error'])}", err=True)
    parts = [
        f"{last[name]:,} {name.replace('_', ' ')}"
        for name in ("succeeded", "filtered", "set_aside", "failing", "waiting")
        if last.get(name)
    ]
    click.echo(f"{last.get('sent', 0):,} sent to {printable(target)}: {', '.join(parts)}")
    if failure:
        output.coloured(f"  ✗ {printable(failure)}", "red")
    if last.get("what") == "end":
        _told_at_the_end(last, failed)
    return _status(last)


def _status(end: Mapping[str, Any]) -> int:
    """All is well if nothing failed and nothing waits for longer than was asked."""
    if end.get("what") != "end" or end["failing"] or end["set_aside"]:
        return exits.FAILED
    return exits.FAILED if end["waiting"] and end["why"] else 0
