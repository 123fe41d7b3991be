"""`streamfaas reload`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from streamfaas.cli import changes, client, exits, output

INVALID = 422


@click.command()
@click.option(
    "--timeout",
    type=click.FloatRange(1, 7_200),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for it; the reload goes on after that.",
)
@client.options
@output.option
def command(timeout: float, config: Path | None, socket: Path | None, form: str) -> None:
    """Let a running daemon read its configuration again, and wait until all of it holds.

    It is all or nothing: where the file is not valid, or anything fails on the way, the old
    configuration goes on. Triggers that nothing was changed of go on without a pause.

    \b
      streamfaas diff streamfaas.yaml    what it would change
      streamfaas reload

    Exits with 78 where the file is not valid, and with 1 where it could not be done.
    """  # noqa: D301 - click wants a real backspace
    path = client.socket_of(config, socket)
    try:
        status, told = client.answered(path, "POST", "/reload", timeout=timeout)
    except client.Silent as silent:
        goes_on = "a reload that has begun goes on: its end is in the log, and in streamfaas status"
        exits.end(exits.UNREACHABLE, f"{silent}; {goes_on}")
    except client.Absent as absent:
        exits.end(exits.UNREACHABLE, absent.told())
    if not output.written(told, form):
        _show(status, told)
    if status == INVALID:
        sys.exit(exits.CONFIG)
    if status != 200:
        sys.exit(exits.FAILED)


def _show(status: int, told: dict[str, Any]) -> None:
    if status == INVALID:
        click.echo(told["report"], err=True)
        click.echo("\nnot reloaded: the old configuration goes on", err=True)
        return
    if status != 200:
        reason = exits.printable(str(told.get("error", f"the daemon answered {status}")))
        click.echo(f"not reloaded: {reason}; the old configuration goes on", err=True)
        return
    for line in changes.lines(told["changes"]):
        click.echo(line)
    for name in told["unconnected"]:
        click.echo(exits.printable(f"not connected yet: {name} (look: streamfaas status)"))
    if told["state"] == "reloaded":
        click.echo(f"reloaded in {told['seconds']:.2f} s")
