"""`streamfaas doctor`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from streamfaas.cli import client, exits, output
from streamfaas.cli.exits import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from streamfaas.config.spec import Config
    from streamfaas.daemon.doctor import Check, Finding
    from streamfaas.daemon.doctor.checks import Units

STATUS_SECONDS = 5.0
TWO_COLUMNS = 116
"""The least width for what is well in two columns."""

_MARKS = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "bad": ("✗", "bold red")}


@click.command()
@click.argument("config", type=exits.PATH, required=False)
@output.option
def command(config: Path | None, form: str) -> None:
    """Try all that a daemon needs, and tell what is missing and what helps.

    Nothing is inferred: a worker is started and tries to get out, files are synchronised, brokers
    are asked. With a CONFIG also all that it names is tried: connections, topics, groups,
    directories, addresses, functions. Without one streamfaas.yaml is taken, where there is one.

    \b
      streamfaas doctor
      streamfaas doctor /etc/streamfaas/streamfaas.yaml

    Exits with 1 where something will not work (✗), and with 0 where nothing is worse than
    worth a look (!).
    """  # noqa: D301 - click wants a real backspace
    from streamfaas.daemon.doctor.software import software

    found = software()
    if all(each.mark == "ok" for each in found):  # else there is little use in anything else
        found += _all_of(config)
    end_with(found, form)


def end_with(found: Sequence[Finding], form: str) -> NoReturn:
    """Shows the findings in the form that was asked for, and ends the command by them."""
    if not output.written(_as_data(found), form):
        _show(found, output.console())
    sys.exit(exits.FAILED if any(each.mark == "bad" for each in found) else 0)


def examined(checks: Sequence[Check]) -> list[Finding]:
    """Performs them, and shows on a terminal what is still waited for."""
    import uvloop

    from streamfaas.daemon.doctor import examine

    waiting: list[str] = []

    def begun(name: str) -> None:
        waiting.append(name)

    def ended(name: str) -> None:
        waiting.remove(name)
        if sys.stderr.isatty():
            done = f"{len(checks) - len(waiting)}/{len(checks)}"
            listed = printable(", ".join(waiting))[:60]
            click.echo(f"\r\x1b[K{done} {listed}" if waiting else "\r\x1b[K", err=True, nl=False)

    return uvloop.run(examine(checks, begun, ended))


def _all_of(path: Path | None) -> list[Finding]:
    from streamfaas.daemon.doctor import checks

    if path is None and Path(exits.DEFAULT_CONFIG).is_file():
        path = Path(exits.DEFAULT_CONFIG)
    if path is None:
        return examined(checks.of_machine(None))
    config, told = _validated(path)
    wanted = checks.of_machine(config)
    if config is not None:
        view = _status(config.socket)
        wanted += checks.of_state(config.state.path, view) + checks.of_config(config, _units())
    return told + examined(wanted)


def _validated(path: Path) -> tuple[Config | None, list[Finding]]:
    """As `validate` has it."""
    from streamfaas.config.load import examine
    from streamfaas.daemon.doctor import bad, ok, warn

    seen = examine(path, os.environ)
    wrong = [each for each in seen.problems if not each.warning]
    first = (wrong or list(seen.problems))[:1]
    if not first:
        return seen.config, [ok("config", f"{path} is valid")]
    (problem,) = first
    count = f"{len(wrong)} wrong" if wrong else f"{len(seen.problems)} to look at"
    told = f"{path}: {count}, first: line {problem.line}: {problem.message}"
    made: Callable[[str, str, str, str], Finding] = bad if wrong else warn
    return seen.config, [made("config", told, f"streamfaas validate {path}", problem.code)]


def _status(socket: Path) -> Mapping[str, Any] | None:
    """Of the daemon that runs, if one does."""
    import json

    try:
        answer = client.ask(socket, "GET", "/status", timeout=STATUS_SECONDS)
        view = json.loads(answer.body)
    except (client.Absent, ValueError):
        return None
    return view if isinstance(view, dict) else None


def _units() -> Units:
    from streamfaas.cli import install_service
    from streamfaas.daemon.doctor.checks import Units

    folders = {
        install_service.SYSTEM_UNITS: (),
        install_service.own_units(): ("--user",),
    }
    return Units(folders, install_service.ORIGIN)


# -- the screen


def _as_data(found: Sequence[Finding]) -> dict[str, Any]:
    return {
        "ok": not any(each.mark == "bad" for each in found),
        "findings": [
            {
                "mark": each.mark,
                "subject": each.subject,
                "found": each.told,
                "remedy": each.remedy or None,
                "explain": each.code or None,
            }
            for each in found
        ],
    }


def _show(found: Sequence[Finding], console: Console) -> None:
    well: list[tuple[Text, ...]] = [_cells(each) for each in found if each.mark == "ok"]
    if console.width >= TWO_COLUMNS and len(well) > 1:
        half = (len(well) + 1) // 2
        right = [*well[half:], (_text(""), _text(""))]
        well = [(*left, *other) for left, other in zip(well[:half], right, strict=False)]
    console.print(_grid(well))
    rest = [each for mark in ("warn", "bad") for each in found if each.mark == mark]
    if rest:
        console.print(_grid([_cells(each) for each in rest]))
    counts = [f"{sum(each.mark == mark for each in found)} {_MARKS[mark][0]}" for mark in _MARKS]
    code = next((each.code for each in reversed(rest) if each.code), "")  # of the worst
    more = f"   more: streamfaas explain {code}" if code else ""
    console.print(f"{'  '.join(counts)}{more}", soft_wrap=True)


def _grid(rows: Sequence[Sequence[Text]]) -> Table:
    from rich.table import Table

    made = Table.grid(padding=(0, 1, 0, 0))
    for at in range(len(rows[0]) if rows else 0):
        made.add_column(ratio=1 if at % 2 else None, overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made


def _cells(each: Finding) -> tuple[Text, Text]:
    mark, style = _MARKS[each.mark]
    told = _text(printable(each.told))
    if each.remedy:
        told.append(f" → {printable(each.remedy)}", style="bold")
    if each.code:
        told.append(f" ({each.code})", style="dim")
    return _text(mark, style), told


def _text(text: str, style: str = "") -> Text:
    from rich.text import Text

    return Text(text, style=style)
