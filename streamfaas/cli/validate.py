"""`streamfaas validate`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from streamfaas.cli import exits


@click.command()
@click.argument("config", type=exits.PATH, default=exits.DEFAULT_CONFIG)
@click.option("--online", is_flag=True, help="Also ask brokers, and all else that it names.")
def command(config: Path, *, online: bool) -> None:
    """Check a configuration, and tell all that is wrong with it.

    Looks at files and directories; with --online also at the network: brokers, topics, groups,
    addresses, as `streamfaas doctor` does. Exits with 78 where there are errors; warnings alone are
    no failure; 1 where something outside does not answer as it should.
    """
    from streamfaas.config.load import examine
    from streamfaas.config.report import report

    found = examine(config, os.environ)
    if found.problems:
        click.echo(report(found.problems, str(config), found.text) + "\n", err=True)
    warnings = sum(problem.warning for problem in found.problems)
    if found.config is None:
        errors = _count(len(found.problems) - warnings, "error")
        click.echo(f"config not valid ({errors}, {_count(warnings, 'warning')})", err=True)
        sys.exit(exits.CONFIG)
    functions = _count(len(found.config.functions), "function")
    triggers = _count(sum(1 for _ in found.config.mappings()), "trigger")
    click.echo(f"config OK ({functions}, {triggers}, {_count(warnings, 'warning')})")
    if online:
        from streamfaas.cli import doctor
        from streamfaas.daemon.doctor import checks

        doctor.end_with(doctor.examined(checks.online(found.config)), "table")


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}" + ("" if number == 1 else "s")
