"""`streamfaas diff`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from streamfaas.cli import changes, client, exits, output

INVALID = 422


@click.command()
@click.argument("files", nargs=-1, type=exits.PATH, metavar="[[OLD] NEW]")
@client.options
@output.option
def command(files: tuple[Path, ...], config: Path | None, socket: Path | None, form: str) -> None:
    """Show what another configuration would change, and what that means for what runs.

    With one file (streamfaas.yaml if none is given): against the daemon that runs, which reads what
    is put into it by ${…}. With two: against each other, and nothing has to run.

    \b
      streamfaas diff streamfaas.yaml
      streamfaas diff streamfaas.yaml new.yaml

    Exits with 0 where nothing differs, 1 where something does, 78 where a file is not valid.
    """  # noqa: D301 - click wants a real backspace
    if len(files) > 2:
        raise click.UsageError("give one file, or two")
    files = files or (config or Path(exits.DEFAULT_CONFIG),)
    if len(files) == 2:
        found = _between(*files)
    else:
        # the daemon's own file stands here, or its socket beside the file that is given
        here = Path(exits.DEFAULT_CONFIG)
        place = config if config or socket else here if here.exists() else files[0]
        found = _against_the_daemon(files[0], client.socket_of(place, socket))
    if not output.written(found, form):
        for line in changes.lines(found):
            click.echo(line)
    if found["changed"]:
        sys.exit(exits.FAILED)


def _between(old: Path, new: Path) -> dict[str, Any]:
    from streamfaas.daemon.effects import effects

    return effects(exits.loaded(old), exits.loaded(new)).view()


def _against_the_daemon(file: Path, socket: Path) -> dict[str, Any]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as cause:
        exits.end(exits.CONFIG, f"cannot read {file}: {getattr(cause, 'strerror', None) or cause}")
    asked = {"path": str(file.absolute()), "text": text}
    status, told = client.told(socket, "POST", "/diff", asked)
    if status == INVALID:
        click.echo(told["report"], err=True)
        sys.exit(exits.CONFIG)
    if status != 200:
        exits.end(exits.FAILED, exits.printable(str(told.get("error", status))))
    return told
