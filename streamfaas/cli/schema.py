"""`streamfaas schema`."""

from __future__ import annotations

import json

import click


@click.command()
def command() -> None:
    """Print the JSON schema (draft-07) of a configuration.

    \b
    Save it beside the configuration, and editors complete and check as you type:
      streamfaas schema > streamfaas.schema.json
      # yaml-language-server: $schema=./streamfaas.schema.json
    """  # noqa: D301 - click wants a real backspace
    from streamfaas.config.schema import schema

    click.echo(json.dumps(schema(), indent=2))
