"""`streamfaas triggers`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streamfaas.cli import client, output, screens
from streamfaas.cli.exits import printable
from streamfaas.cli.status import viewed

if TYPE_CHECKING:
    from rich.console import Console


@click.group(invoke_without_command=True)
@client.options
@output.option
@click.pass_context
def command(context: click.Context, config: Path | None, socket: Path | None, form: str) -> None:
    """List triggers, or show one in full.

    \b
      streamfaas triggers
      streamfaas triggers show orders/stream
      streamfaas triggers show orders/async     # asynchronous invocations
    """  # noqa: D301 - click wants the character itself
    if context.invoked_subcommand is not None:
        context.obj = (config, socket)
        return
    named = sorted(viewed(client.socket_of(config, socket))["triggers"].items())
    if output.written({"triggers": dict(named)}, form):
        return
    if not named:
        click.echo("there are no triggers")
        return
    console = output.console()
    console.print(screens.triggers(named, width=console.width))


@command.command()
@click.argument("trigger", metavar="FUNCTION/TRIGGER")
@client.options
@output.option
@click.pass_context
def show(
    context: click.Context, trigger: str, *, config: Path | None, socket: Path | None, form: str
) -> None:
    """Show one trigger: its source, configuration, lanes, last errors, and what helps."""
    function, _, name = trigger.partition("/")
    if not function or not name or "/" in name:
        raise click.UsageError(f"{trigger!r} is not FUNCTION/TRIGGER")
    given_config, given_socket = context.obj or (None, None)
    place = client.socket_of(config or given_config, socket or given_socket)
    found = client.found(place, "GET", f"/triggers/{function}/{name}")
    if not output.written(found, form):
        _show(found)


def _show(found: Mapping[str, Any]) -> None:
    console, name = output.console(), found["name"]
    console.print(screens.triggers([(name, found)], width=console.width))
    _facts(console, found)
    if found["config"]:
        console.print()
        console.print("configuration", style="bold")
        console.print(output.indented(found["config"]), soft_wrap=True)
    console.print()
    if found["lanes"]:
        console.print(screens.lanes([("", found)], width=console.width))
    else:
        console.print("no lanes: it has none to read yet")
    if found["errors"]:
        console.print()
        _errors(console, found["errors"])
    console.print()
    _commands(console, name, found)


def _facts(console: Console, found: Mapping[str, Any]) -> None:
    """What is in effect, beside what is written."""
    details, counted = found["details"], ("records", "set_aside", "filtered", "expired")
    facts = {
        "source": "  ".join(
            f"{key} {_short(value)}"
            for key, value in details["source"].items()
            if value is not None
        ),
        "records": "  ".join(f"{found[key]:,} {key.replace('_', ' ')}" for key in counted),
        "on_failure": details["on_failure"],
        "on_success": details["on_success"],
        "dead_letter": details["dead_letter"],
        "retries": "  ".join(f"{k} {_short(v)}" for k, v in details["retries"].items() if v),
        "strands": details["strands"] if details["strands"] > 1 else None,
    }
    console.print()
    for key, value in facts.items():
        if value:
            console.print(f"{key:<12} {printable(str(value))}", soft_wrap=True)


def _errors(console: Console, errors: list[dict[str, Any]]) -> None:
    console.print("last errors", style="bold")
    for each in errors:
        at = datetime.fromtimestamp(each["at_ms"] / 1000).astimezone().strftime("%H:%M:%S")
        place = f"{each['lane']} @{each['first']}..{each['last']}"
        said = f"{each['type']}: {each['message']}"
        text = f"  {at}  {place}  attempt {each['attempt'] + 1}  {said}"
        console.print(printable(text)[: max(console.width, 40)], soft_wrap=True)


def _commands(console: Console, name: str, found: Mapping[str, Any]) -> None:
    word, why = screens.trouble(found)
    if word:
        console.print(f"{word}: {printable(why)}", soft_wrap=True)
    usual = [(f"streamfaas pause {name}", "read and run nothing more of it")]
    if any(not lane["by_key"] and lane["lag"] is not None for lane in found["lanes"]):
        usual.append((f"streamfaas lag {name}", "lane by lane, and when it will be caught up"))
    if found["set_aside"]:
        usual.append((f"streamfaas dlq list --mapping {name}", "what was put aside of it"))
    commands = [*screens.remedies(name, found), *(usual[1:] if found["paused"] else usual)]
    for helps, told in commands:
        if "triggers show" not in helps:
            console.print(f"  {printable(helps):<44} # {told}", soft_wrap=True)


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} by {told}" for name, told in value.items()) or "nothing"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
