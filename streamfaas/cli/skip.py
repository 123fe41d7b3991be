"""`streamfaas skip`."""

from __future__ import annotations

from pathlib import Path

import click

from streamfaas.cli import client, exits, output


@click.command()
@click.argument("trigger", metavar="FUNCTION/TRIGGER")
@click.option("-l", "--lane", metavar="LANE", help="One lane only (orders-0). [default: all]")
@click.option("--dry-run", is_flag=True, help="Say what would be skipped, and change nothing.")
@client.options
@output.option
def command(
    trigger: str,
    *,
    lane: str | None,
    dry_run: bool,
    config: Path | None,
    socket: Path | None,
    form: str,
) -> None:
    """Give up the batches that a trigger waits to try again, and let its lanes go on.

    They go first where given-up batches go (on_failure, or a file below the state directory), with
    their records, and only then does the lane move on. What waits for a destination that is down
    goes to the file instead. All can be run again: `streamfaas dlq`.
    Exits with 1 where nothing is failing.
    """
    function, _, name = trigger.partition("/")
    if not function or not name or "/" in name:
        raise click.UsageError(f"{trigger!r} is not FUNCTION/TRIGGER")
    asked = {"lane": lane, "dry_run": dry_run}
    found = client.found(
        client.socket_of(config, socket), "POST", f"/skip/{function}/{name}", asked
    )
    if output.written(found, form):
        return
    if not found["skipped"]:
        exits.end(exits.FAILED, f"{trigger}: {_why_nothing(function, name, found['returned'])}")
    for each in found["skipped"]:
        span = f"{each['lane']} @{each['first']}..{each['last']}"
        verb = "would go" if dry_run else "goes"
        text = (
            f"{span}: {each['records']} records, failed {each['attempt']} times, "
            f"{verb} to {each['destination']}"
        )
        click.echo(exits.printable(text))


def _why_nothing(function: str, name: str, returned: int) -> str:
    if name == "asynchronous":
        held_up = "accepted events hold up no others: each is given up by itself"
        return f"{held_up}; functions.{function}.asynchronous (retries, max_age) say when"
    if returned:
        held_up = f"{returned} that failed went back, to be tried again, and hold up only their key"
        return f"{held_up}; give the trigger an on_failure and retries.max: streamfaas reload"
    return "nothing waits to be tried again"
