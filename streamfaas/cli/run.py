"""`streamfaas run`."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import click

from streamfaas.cli.exits import DEFAULT_CONFIG, PATH


@click.command()
@click.argument("config", type=PATH, default=DEFAULT_CONFIG)
@click.option("-q", "--quiet", is_flag=True, help="Show only what goes wrong.")
@click.option(
    "--json", "json_logs", is_flag=True, help="Write JSON lines, for a collector of logs."
)
def command(config: Path, *, quiet: bool, json_logs: bool) -> None:
    """Run the daemon in the foreground until SIGTERM or Ctrl-C.

    CONFIG is a YAML file, streamfaas.yaml if not given. Exits with 78 where it is not valid.
    """
    # to be read again before it is read at all changes nothing; children do not inherit a handler
    signal.signal(signal.SIGHUP, lambda *_: None)
    from streamfaas.daemon.main import run

    sys.exit(run(config, quiet=quiet, json_logs=json_logs))
