"""Names that a shell completes: of functions and triggers, from the daemon or its configuration."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from streamfaas.cli import client, exits

DAEMON_SECONDS = 0.1
"""Nobody waits at a key for long."""


def teach(command: click.Command) -> None:
    """Lets every argument and option of a command that stands for a name complete it."""
    if isinstance(command, click.Group):
        for each in command.commands.values():
            teach(each)
    for parameter in command.params:
        if _wanted(parameter):
            parameter._custom_shell_complete = _complete  # noqa: SLF001 - made before we knew


def _wanted(parameter: click.Parameter) -> str:
    """What a parameter stands for: `function`, `trigger`, or nothing we know."""
    said = (parameter.metavar or parameter.name or "").upper()
    if "TRIGGER" in said:
        return "trigger"
    return "function" if "FUNCTION" in said else ""


def _complete(
    ctx: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem[str]]:
    known = _known(ctx)
    if _wanted(parameter) == "function":
        known = list(dict.fromkeys(name.partition("/")[0] for name in known))
    else:
        known = [name for name in known if "/" in name]
    return [CompletionItem(name) for name in known if name.startswith(incomplete)]


def _known(ctx: click.Context) -> list[str]:
    """Functions, and triggers as `function/trigger`; nothing where nobody knows."""
    config: Path = ctx.params.get("config") or Path(exits.DEFAULT_CONFIG)
    socket: Path | None = ctx.params.get("socket")
    written, beside = _of_file(config)
    return _of_daemon(socket or beside) or written


def _of_daemon(socket: Path | None) -> list[str]:
    try:
        answer = client.ask(socket or Path(), "GET", "/status", timeout=DAEMON_SECONDS)
        view = json.loads(answer.body)
        return [*view["functions"], *view["triggers"]]
    except (client.Absent, ValueError, LookupError, TypeError):
        return []


def _of_file(path: Path) -> tuple[list[str], Path | None]:
    """What it names, and where its daemon listens; without the models, which take long to load."""
    from streamfaas.config import document
    from streamfaas.config.files import default_state, read_small

    try:
        root, _ = document.parse(document.decode(read_small(path, document.BYTES_MAX)[0]))
    except (document.Unreadable, OSError, ValueError):
        return [], None
    names = []
    for function, spec in _values(document.find(root, ("functions",))).items():
        names.append(function)
        triggers = _values(spec).get("triggers")
        names += [f"{function}/{trigger}" for trigger in _values(triggers)]
    state = document.find(root, ("state", "path"))
    given = getattr(state, "value", None) or default_state(os.environ)
    return names, path.absolute().parent / str(given) / "streamfaas.sock"


def _values(node: Any) -> dict[str, Any]:
    found = getattr(node, "values", None)
    return found if isinstance(found, dict) else {}
