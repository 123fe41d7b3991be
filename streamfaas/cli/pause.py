"""`streamfaas pause` and `streamfaas resume`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from streamfaas.cli import client, exits, output, resting

WAIT_SECONDS = 900.0
"""The longest a function may run."""


@click.command()
@click.argument("what", metavar="FUNCTION[/TRIGGER]")
@click.option("-w", "--wait", is_flag=True, help="Return once nothing is in flight any more.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=WAIT_SECONDS,
    show_default=True,
    help="Seconds to wait for that.",
)
@client.options
@output.option
def pause(
    what: str, *, wait: bool, timeout: float, config: Path | None, socket: Path | None, form: str
) -> None:
    """Read and run nothing more of a trigger, until it is resumed.

    \b
      streamfaas pause orders/stream --wait    # one trigger, and nothing of it is in flight
      streamfaas pause orders                  # all triggers of a function, and asynchronous calls
      streamfaas pause orders/async            # asynchronous calls: kept, and not run

    What is in flight ends, and is committed. The source stays open (a Kafka group keeps its member)
    and the pause outlives restarts and reloads. Calls by `streamfaas invoke` go on.
    """  # noqa: D301 - click wants the character itself
    place = client.socket_of(config, socket)
    found = _braked(place, "pause", what)
    if wait:
        _wait(place, found["triggers"], timeout)
    if not output.written(found, form):
        _tell(what, found, "paused", "resume")


@click.command()
@click.argument("what", metavar="FUNCTION[/TRIGGER]")
@client.options
@output.option
def resume(what: str, *, config: Path | None, socket: Path | None, form: str) -> None:
    """Let a trigger that was paused go on, from where it stands.

    \b
      streamfaas resume orders/stream
      streamfaas resume orders         # all triggers of a function, and its asynchronous calls
    """  # noqa: D301 - click wants the character itself
    found = _braked(client.socket_of(config, socket), "resume", what)
    if not output.written(found, form):
        _tell(what, found, "resumed", "pause")


def _wait(place: Path, names: list[str], seconds: float) -> None:
    """Until nothing of these triggers is in flight, or the end of the command."""

    def look() -> Mapping[str, int]:
        return resting.in_flight(client.found(place, "GET", "/status"), names)

    if left := resting.wait(look, seconds, "waiting"):
        told = ", ".join(f"{name}: {count:,} records in flight" for name, count in left.items())
        exits.end(exits.FAILED, f"paused, but not at rest after {seconds:g} s: {told}")


def _braked(place: Path, verb: str, what: str) -> dict[str, Any]:
    function, slash, trigger = what.partition("/")
    if not function or "/" in trigger or (slash and not trigger):
        raise click.UsageError(f"{what!r} is neither FUNCTION nor FUNCTION/TRIGGER")
    return client.found(place, "POST", f"/{verb}/{what}", {"by": exits.who()})


def _tell(what: str, found: dict[str, Any], done: str, undo: str) -> None:
    """Of a function only what has changed, if anything has."""
    whole = "/" not in what and found["changed"]
    for name in found["changed"] if whole else found["triggers"]:
        if name in found["changed"]:
            text = f"{done} {name}  (undo: streamfaas {undo} {name})"
        else:
            text = f"{name} was {done} already" if done == "paused" else f"{name} was not paused"
        click.echo(exits.printable(text))
