"""`streamfaas logs`."""

from __future__ import annotations

import json
import os
import re
import sys
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click

from streamfaas.cli import client, exits, output

COUNT = 100
COUNT_MAX = 10_000

PAUSES_SECONDS = (0.2, 0.5, 1.0, 2.0)
"""Between attempts to reach a daemon that has gone; the last one again and again."""

COLOURS = ("cyan", "green", "magenta", "blue", "bright_cyan", "bright_green", "bright_magenta")
"""Of functions, by their names."""

ID_CHARS = 6
_SPARED = re.compile(
    r"\t?(Billed Duration|Memory Size): [^\t]*|\tSampled: true| (billedDurationMs|memorySizeMB)=\d+"
)
_STAMP = "%H:%M:%S.%f"
_STAMP_CHARS = 12
_LEVEL_COLOURS = {"WARN": "yellow", "ERROR": "red", "FATAL": "red"}


@click.command()
@click.argument("function", required=False, default="", metavar="[FUNCTION]")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, over restarts too.")
@click.option(
    "-n", "--count", type=click.IntRange(0, COUNT_MAX), default=COUNT, show_default=True,
    help="How many of the last lines.",
)  # fmt: skip
@click.option("--since", metavar="DURATION", help="Not older than this (30s, 10m, 2h).")
@click.option("--request-id", default="", metavar="ID", help="Of one invocation; its end will do.")
@click.option("--trace", default="", metavar="ID", help="Of one trace; its beginning will do.")
@click.option("-e", "--errors", is_flag=True, help="Only errors, and reports of what failed.")
@click.option("--platform/--no-platform", default=True, help="START, END and REPORT lines too.")
@client.options
@click.option(
    "-o", "--output", "form", type=click.Choice(["text", "json"]), default="text",
    show_default=True, help="json: one object a line, with the line as it was written.",
)  # fmt: skip
def command(
    function: str,
    *,
    follow: bool,
    count: int,
    since: str | None,
    request_id: str,
    trace: str,
    errors: bool,
    platform: bool,
    config: Path | None,
    socket: Path | None,
    form: str,
) -> None:
    """Show what functions write: the last lines, from memory and from files where there are any.

    \b
      streamfaas logs                         of all functions
      streamfaas logs hello -f                of one, and what comes
      streamfaas logs -f --errors             what goes wrong, as it does
      streamfaas logs --request-id 0001a3     all of one invocation
      streamfaas logs --since 10m -n 10000 -o json
    """  # noqa: D301 - click wants a real backspace
    asked: dict[str, Any] = {"function": function, "request_id": request_id, "trace": trace}
    asked |= {"limit": count, "errors": int(errors), "platform": int(platform)}
    after = 0 if since is None else _now_ns() - int(_seconds(since) * 1e9)
    place, screen = client.socket_of(config, socket), Screen(form)
    with client.interruptible():
        if follow:
            _follow(place, asked, after, screen)
        found = _last(place, {**asked, "after": after}, config, screen)
        screen.show(found)
    if not found and form == "text":
        click.echo("no line yet that was asked for; -f waits for one", err=True)


def _last(
    place: Path, asked: Mapping[str, Any], config: Path | None, screen: Screen
) -> list[dict[str, Any]]:
    """What the daemon knows, or where there is none, what its files hold."""
    try:
        client.ask(place, "GET", "/status")
    except client.Absent as gone:
        directory, rows = _in_files(asked, config)
        if directory is None:
            exits.end(exits.UNREACHABLE, gone.told())
        screen.tell(f"{gone}: from the files in {directory}")
        return rows
    found: list[dict[str, Any]] = client.found(place, "GET", _target(asked))["lines"]
    return found


def _in_files(
    asked: Mapping[str, Any], config: Path | None
) -> tuple[Path | None, list[dict[str, Any]]]:
    """The directory of the files, and what is asked for of them. Without a configuration, or where
    it names none, there is no directory."""
    path = config or Path(exits.DEFAULT_CONFIG)
    if not path.exists():
        return None, []
    found = exits.loaded(path)
    directory = found.telemetry.logs.directory
    if directory is None:
        return None, []
    from streamfaas.daemon.lines import in_files

    return directory, [json.loads(row) for row in in_files(directory, found.functions, asked)]


def _follow(place: Path, asked: Mapping[str, Any], after: int, screen: Screen) -> None:
    """Until Ctrl-C. A daemon that was there once is waited for; what it says anew is what it has
    said since."""
    attempts, known = 0, False
    while True:
        target = _target({**asked, "after": after, "follow": 1})
        try:
            with client.streamed(place, "GET", target) as rows:
                for row in rows:
                    screen.show([row])
                    attempts, known = 0, True
                    after = row.get("time_ns", after)
                raise client.Ended("the daemon has ended")
        except client.Absent as gone:
            known = known or isinstance(gone, client.Ended)
            if not known:
                exits.end(exits.UNREACHABLE, gone.told())
            if attempts == 0:
                screen.tell(f"{gone}; waiting for one (Ctrl-C ends this)")
            after = after or _now_ns()
            asked = {**asked, "limit": COUNT_MAX}
        time.sleep(PAUSES_SECONDS[min(attempts, len(PAUSES_SECONDS) - 1)])
        attempts += 1


class Screen:
    """Lines as a person reads them, or as objects."""

    def __init__(self, form: str) -> None:
        self._json = form == "json"
        self._narrow = output.width() < output.NARROW
        self._who_chars = 0

    def show(self, rows: Iterable[Mapping[str, Any]]) -> None:
        for row in rows:
            if self._json:
                click.echo(json.dumps(row))
                continue
            who = row.get("worker") or row.get("function", "")
            self._who_chars = max(self._who_chars, len(who))
            for parts in lines(row, self._who_chars, narrow=self._narrow):
                click.echo("".join(_styled(text, **style) for text, style in parts))
        sys.stdout.flush()

    def tell(self, text: str) -> None:
        """Something about the lines."""
        click.echo(_styled(f"— {exits.printable(text)}", fg="yellow"), err=True)


Styled = tuple[str, dict[str, Any]]


def lines(
    row: Mapping[str, Any], who_chars: int, *, narrow: bool = False
) -> Iterator[list[Styled]]:
    """A row as lines of parts, each with its style: time, worker, the end of the request's id,
    and what was written; what follows in a record of many lines stands below its first."""
    if "missed" in row:
        yield [
            (
                f"— {row['missed']:,} lines missed: they came faster than they were read",
                {"fg": "yellow"},
            )
        ]
        return
    stamp = datetime.fromisoformat(row["time"]).astimezone().strftime(_STAMP)[:_STAMP_CHARS]
    who, request_id = row["worker"] or row["function"], row["request_id"]
    head: list[Styled] = [
        (f"{stamp} ", {"dim": True}),
        (f"{exits.printable(who):<{who_chars}}", {"fg": colour_of(row["function"])}),
        (f" {request_id[-ID_CHARS:]:<{ID_CHARS}} ", {"dim": True}),
    ]
    style: dict[str, Any] = {}
    if (colour := _LEVEL_COLOURS.get(row["level"])) is not None:
        style = {"fg": colour}
    elif row["platform"]:
        style = {"dim": True}
    first, *rest = (text_of(row, narrow=narrow) or " ").split("\n")
    yield [*head, (shown(first), style)]
    margin = " " * (_STAMP_CHARS + 1)
    for line in rest:
        yield [(f"{margin}{shown(line)}", style)]


def text_of(row: Mapping[str, Any], *, narrow: bool = False) -> str:
    """What a line says beside what stands before it anyway: its time and its request. Where it is
    `narrow`, a report leaves out what is known or can be worked out."""
    line: str = row["line"]
    if row["platform"]:
        text = _platform(line, row["request_id"])
        return _SPARED.sub("", text) if narrow else text
    if line.startswith("[") and line.count("\t") >= 3:
        level, _, request_id, message = line.split("\t", 3)
        if request_id == row["request_id"]:
            return f"{level} {message}"
    if line.startswith("{"):
        return _document(line)
    return line


def _platform(line: str, request_id: str) -> str:
    match _parsed(line):
        case {"type": str(kind), "record": dict(record)}:
            fields = {name: each for name, each in record.items() if name != "requestId"}
            metrics = fields.pop("metrics", {})
            more = _pairs(metrics) if isinstance(metrics, dict) else ()
            return " ".join([kind, *_pairs(fields), *more])
        case _:
            return line.replace(f" RequestId: {request_id}", "", 1)


def _document(line: str) -> str:
    """A record in Lambda's form; any other document stays as it is."""
    said = _parsed(line)
    if not isinstance(said, dict) or not {"level", "timestamp"} <= said.keys():
        return line
    level, message = said.pop("level"), said.pop("message", None)
    for known in ("timestamp", "requestId", "logger", "location"):
        said.pop(known, None)
    stack, kind, error = (
        said.pop(key, None) for key in ("stackTrace", "errorType", "errorMessage")
    )
    raised = [] if kind is None else [f"{kind}: {error}"]
    told = raised if message is None else [str(message)]
    frames = stack if isinstance(stack, list) else []
    below = [str(frame).rstrip("\n") for frame in frames] + ([] if message is None else raised)
    return "\n".join([" ".join([f"[{level}]", *told, *_pairs(said)]), *below])


def _parsed(line: str) -> object:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _pairs(fields: Mapping[str, Any]) -> Iterator[str]:
    for name, value in fields.items():
        yield f"{name}={value if isinstance(value, str) else json.dumps(value)}"


def shown(line: str) -> str:
    """Nothing in it moves the cursor; blanks of every kind are blanks."""
    return exits.printable(line.replace("\t", "  ").replace("\N{NO-BREAK SPACE}", " "))


def colour_of(function: str) -> str:
    """The same for a function each time."""
    return COLOURS[zlib.crc32(function.encode()) % len(COLOURS)]


def _styled(text: str, **style: Any) -> str:
    return text if "NO_COLOR" in os.environ else click.style(text, **style)


def _target(asked: Mapping[str, Any]) -> str:
    return f"/logs?{urlencode(asked)}"


def _seconds(text: str) -> float:
    from streamfaas.config.units import UnitError, parse_duration

    try:
        return parse_duration(text)
    except UnitError as error:
        hint = f" ({error.hint})" if error.hint else ""
        raise click.UsageError(f"--since: {text!r} {error}{hint}") from error


def _now_ns() -> int:
    return time.time_ns()  # when lines were written is told by the clock that people have
