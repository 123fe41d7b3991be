"""`streamfaas completion`."""

from __future__ import annotations

import sys

import click

PROGRAM = "streamfaas"

_INSTALL = {
    "bash": "streamfaas completion bash > ~/.local/share/bash-completion/completions/streamfaas",
    "zsh": 'streamfaas completion zsh > "${fpath[1]}/_streamfaas"',
    "fish": "streamfaas completion fish > ~/.config/fish/completions/streamfaas.fish",
}


@click.command()
@click.argument("shell", type=click.Choice(list(_INSTALL)))
def command(shell: str) -> None:
    """Complete commands, options, functions and triggers in your shell.

    Prints what your shell has to read: once, from a file, or each time it starts, as below. Names
    come from the daemon that runs, or from the configuration.

    \b
      source <(streamfaas completion bash)
    """  # noqa: D301 - click wants a real backspace
    from click.shell_completion import get_completion_class

    from streamfaas.cli.main import COMPLETING, main

    kind = get_completion_class(shell)
    assert kind is not None
    text = kind(main, {}, PROGRAM, COMPLETING)
    click.echo(text.source_template % text.source_vars())
    if sys.stdout.isatty():
        click.echo(f"\nto install it, in a new shell:  {_INSTALL[shell]}", err=True)
