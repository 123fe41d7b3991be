"""The command line: which commands there are; each is imported only when it is run."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import click

from streamfaas import __version__

COMMANDS: Mapping[str, tuple[str, str]] = {
    "demo": ("streamfaas.cli.demo", "See it work, with nothing to set up."),
    "new": ("streamfaas.cli.new", "Write a project that runs as it stands."),
    "run": ("streamfaas.cli.run", "Run the daemon in the foreground."),
    "install-service": ("streamfaas.cli.install_service", "Run it by systemd, from now on."),
    "validate": ("streamfaas.cli.validate", "Check a configuration, and tell all that is wrong."),
    "invoke": ("streamfaas.cli.invoke", "Call a function with an event, and print its answer."),
    "status": ("streamfaas.cli.status", "Show what a running daemon does."),
    "send": ("streamfaas.cli.send", "Put a test event where a trigger finds it, and follow it."),
    "logs": ("streamfaas.cli.logs", "Show what functions write, and go on with -f."),
    "traces": ("streamfaas.cli.traces", "List what was kept of batches, or draw one as a tree."),
    "tap": ("streamfaas.cli.tap", "Watch events pass, with what the handler sees on request."),
    "reload": ("streamfaas.cli.reload", "Let a running daemon read its configuration again."),
    "diff": ("streamfaas.cli.diff", "Show what another configuration would change."),
    "dlq": ("streamfaas.cli.dlq", "List, show and purge what was put aside."),
    "replay": ("streamfaas.cli.replay", "Run records once more: of a failed batch, or a log."),
    "triggers": ("streamfaas.cli.triggers", "List triggers, or show one in full."),
    "lag": ("streamfaas.cli.lag", "Show how far each partition is behind."),
    "top": ("streamfaas.cli.top", "Watch functions and triggers, each second."),
    "drain": ("streamfaas.cli.drain", "Stop the daemon gracefully, and wait for it."),
    "pause": ("streamfaas.cli.pause:pause", "Read and run nothing more of a trigger."),
    "resume": ("streamfaas.cli.pause:resume", "Let a trigger that was paused go on."),
    "seek": ("streamfaas.cli.seek", "Read a trigger's log on from another place."),
    "skip": ("streamfaas.cli.skip", "Give up what a trigger keeps failing at, and go on."),
    "filter": ("streamfaas.cli.filter", "Try a pattern on an event: does it match, or why not?"),
    "doctor": ("streamfaas.cli.doctor", "Try all that a daemon needs, and tell what helps."),
    "explain": ("streamfaas.cli.explain", "Explain a problem's code, or a key."),
    "schema": ("streamfaas.cli.schema", "Print the JSON schema of a configuration, for editors."),
    "completion": ("streamfaas.cli.completion", "Complete commands and names in your shell."),
    "version": ("streamfaas.cli.version", "Print the version."),
}
"""Name to module and help: the list must cost no import."""

COMPLETING = "_STREAMFAAS_COMPLETE"
"""The variable by which a shell asks for completions."""

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""What a device says that takes no more."""


class Commands(click.Group):
    """The group, with its commands looked up in the table."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """A device that takes no more of what is printed is told in one line."""
        _open_standard_files()
        try:
            return super().main(*args, **extra)
        except OSError as error:
            if error.errno not in FULL:
                raise
            from streamfaas.cli import exits

            with contextlib.suppress(OSError), open(os.devnull, "wb") as nothing:  # noqa: PTH123
                os.dup2(nothing.fileno(), sys.stdout.fileno())  # or the rest fails at the exit
            exits.end(exits.FAILED, f"cannot write: {os.strerror(error.errno or 0)}")

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            near = get_close_matches(cmd_name, COMMANDS, 1)
            hint = f" Did you mean {near[0]}?" if near else ""
            ctx.fail(f"there is no command {cmd_name!r}.{hint}")
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        found: click.Command = getattr(importlib.import_module(module), name or "command")
        if COMPLETING in os.environ:
            from streamfaas.cli.names import teach

            teach(found)
        return found

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        """The commands, without importing them, and the options."""
        from click.shell_completion import CompletionItem

        items = [
            CompletionItem(name, help=told)
            for name, (_, told) in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return items + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, told) for name, (_, told) in COMMANDS.items()])


def _open_standard_files() -> None:
    """Where they were closed, they lead nowhere; or a socket would be taken for one of them."""
    while (free := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(free, True)
    os.close(free)
    sys.stdin = sys.stdin or os.fdopen(0)
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
def main() -> None:
    """AWS Lambda's event-source contract on your own machine: one daemon, one YAML file.

    \b
      streamfaas demo                 see it work
      streamfaas new hello            write a project
      streamfaas run streamfaas.yaml  run it
    """  # noqa: D301 - click wants a real backspace
