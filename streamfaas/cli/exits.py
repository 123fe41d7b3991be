"""Exit statuses, and how a command ends: in one line, without a traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

if TYPE_CHECKING:
    from streamfaas.config.spec import Config

FAILED = 1
USAGE = 2
UNREACHABLE = 69  # EX_UNAVAILABLE of sysexits.h
CONFIG = 78  # EX_CONFIG

DEFAULT_CONFIG = "streamfaas.yaml"


def end(status: int, message: str) -> NoReturn:
    """Leaves with one line on stderr."""
    click.echo(f"streamfaas: {message}", err=True)
    sys.exit(status)


def printable(text: str) -> str:
    """One line without anything that moves the cursor."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


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
