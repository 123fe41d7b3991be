"""`streamfaas version`."""

from __future__ import annotations

import platform

import click

from streamfaas import __version__


@click.command()
def command() -> None:
    """Print the version, and that of the Python that runs it."""
    click.echo(f"streamfaas {__version__} (Python {platform.python_version()})")
