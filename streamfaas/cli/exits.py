"""Exit statuses, and how a command ends: in one line, without a traceback."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

if TYPE_CHECKING:
    from streamfaas.config.spec import Config

FAILED = 1
USAGE = 2
UNREACHABLE = 69  # EX_UNAVAILABLE of sysexits.h
CONFIG = 78  # EX_CONFIG
INTERRUPTED = 130  # by Ctrl-C, as a shell has it

DEFAULT_CONFIG = "streamfaas.yaml"

PATH = click.Path(path_type=Path, readable=False)
"""A file that may turn out not to be readable: its reader says so better than click."""


def end(status: int, message: str) -> NoReturn:
    """Leaves with one line on stderr."""
    click.echo(f"streamfaas: {message}", err=True)
    sys.exit(status)


def refuse_root(directory: Path) -> None:
    """Ends the command where a project would be laid out over the whole machine."""
    if directory.resolve().parent == directory.resolve():
        end(USAGE, f"{directory} is the root of the file system: name a directory")


def printable(text: str) -> str:
    """One line without anything that moves the cursor."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def time(text: str, wanted: str = "a time, as 2026-01-31T08:00:00Z") -> str:
    """What was meant, in UTC, or the end of the command."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.UsageError(f"{text!r} is not {wanted}") from error
    if moment.tzinfo is None:
        raise click.UsageError(f"{text!r} has no time zone: end it in Z or +01:00")
    return moment.astimezone(UTC).isoformat()


def who() -> str:
    """Who sits there, also behind sudo."""
    try:
        return (os.environ.get("SUDO_USER") or getpass.getuser())[:100]
    except (KeyError, OSError):  # a user without a name
        return f"uid {os.getuid()}"


def loaded(path: Path, environ: Mapping[str, str] = os.environ) -> Config:
    """The configuration, or the end of the command with all that is wrong with it."""
    from streamfaas.config.load import load
    from streamfaas.config.report import report
    from streamfaas.flow.errors import ConfigError

    try:
        return load(path, environ)
    except ConfigError as error:
        click.echo(report(error.problems, error.name, error.text), err=True)
        sys.exit(CONFIG)
