"""`streamfaas drain`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from streamfaas.cli import client, exits, resting
from streamfaas.cli.client import Absent
from streamfaas.cli.pause import pause

END_SECONDS = 30.0
"""What the daemon may take for the rest, once nothing is in flight."""


@click.command()
@click.argument("what", metavar="[FUNCTION/TRIGGER]", default="")
@click.option("-w", "--wait", is_flag=True, help="Return once the daemon has ended.")
@client.options
@click.pass_context
def command(
    context: click.Context, what: str, *, wait: bool, config: Path | None, socket: Path | None
) -> None:
    """Stop the daemon gracefully, or pause one trigger and wait until it rests.

    \b
      streamfaas drain --wait
      streamfaas drain orders/stream     # as pause --wait

    Nothing more is read; what is in flight ends within the grace (`shutdown: {grace: …}`) and is
    committed; what does not is let go, and comes again. Exits with 0 once the daemon has ended.
    """  # noqa: D301 - click wants the character itself
    if what:
        context.invoke(pause, what=what, wait=True, config=config, socket=socket)
        return
    place = client.socket_of(config, socket)
    before = client.found(place, "GET", "/status")
    client.found(place, "POST", "/stop")
    if not wait:
        click.echo("it drains, and ends then: streamfaas status")
        return
    grace = _seen(place).get("grace_left_seconds") or 0.0

    def look() -> Mapping[str, int]:
        return resting.in_flight(_seen(place))

    left = resting.wait(look, grace + END_SECONDS, "draining")
    deadline = time.monotonic() + END_SECONDS
    while _lives(int(before["pid"])):
        if time.monotonic() > deadline:
            exits.end(exits.FAILED, f"the daemon (pid {before['pid']}) has not ended yet")
        time.sleep(resting.LOOK_SECONDS)
    told = ", ".join(f"{name}: {count:,} records" for name, count in left.items())
    click.echo(f"ended; let go, and coming again: {told}" if told else "drained, and ended")


def _seen(place: Path) -> dict[str, Any]:
    """How it stands, as long as it answers."""
    import json

    try:
        answer = client.ask(place, "GET", "/status")
        found: dict[str, Any] = json.loads(answer.body)
    except (Absent, ValueError):
        return {"triggers": {}}
    return found


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
