"""How a command shows what it found: as JSON, as YAML, or in a table."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from streamfaas.cli.exits import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

F = TypeVar("F", bound=Callable[..., Any])

WIDTH_WITHOUT_TERMINAL = 160
NARROW = 110
"""Below this width, columns that are marked by `?` are left out. Where that is not enough, others
follow, from the last one back, but for those that are marked by `!`."""

NOTE_MIN = 12
_GAP = 2


def option(command: F) -> F:
    """The option `-o`; `written` takes what it gives."""
    forms = click.Choice(["table", "json", "yaml"])
    told = "The form of the output."
    return click.option(
        "-o", "--output", "form", type=forms, default="table", show_default=True, help=told
    )(command)


def written(value: Any, form: str) -> bool:
    """Whether it was written as what was asked for, JSON or YAML."""
    if form == "json":
        import json

        click.echo(json.dumps(value, indent=2))
    elif form == "yaml":
        import yaml  # type: ignore[import-untyped]

        click.echo(yaml.safe_dump(value, sort_keys=False), nl=False)
    return form != "table"


def indented(value: Any) -> str:
    """As YAML, in few lines, below a heading."""
    import yaml

    text = yaml.safe_dump(value, sort_keys=False, default_flow_style=None, width=90)
    return "\n".join(f"  {printable(line)}" for line in text.splitlines())


def console() -> Console:
    """For tables: as wide as the terminal, or as COLUMNS says where there is none."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else _width_asked()
    return Console(highlight=False, markup=False, emoji=False, width=width)


def table(
    heads: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    width: int,
    colours: Mapping[str, str],
) -> Table:
    """A table without lines. Before a head, `>` means that its column is of numbers, `?` that it
    can be spared, `!` that it cannot. The last column, of notes, is cut to the room that the
    others leave."""
    from rich.table import Table
    from rich.text import Text

    lines = [[printable(str(cell)) for cell in row] for row in rows]
    spans = [
        max([len(head.lstrip("?!>")), *(len(line[at]) for line in lines)])
        for at, head in enumerate(heads)
    ]
    kept = _kept(heads, spans, width)
    names = [heads[at].lstrip("?!>") for at in kept]
    noted = kept[-1] == len(heads) - 1
    room = max(width - sum(spans[at] for at in kept[:-1]) - _GAP * len(names), NOTE_MIN)
    made = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for name, at in zip(names, kept, strict=True):
        number = heads[at].lstrip("?!").startswith(">")
        made.add_column(name, justify="right" if number else "left", no_wrap=True)
    for line in lines:
        cells = [line[at] for at in kept]
        if noted and len(cells[-1]) > room:
            cells[-1] = f"{cells[-1][: room - 1]}…"
        made.add_row(*(Text(cell, style=colours.get(cell, "")) for cell in cells))
    return made


def _kept(heads: Sequence[str], spans: Sequence[int], width: int) -> list[int]:
    """The columns that there is room for."""
    kept = [at for at, head in enumerate(heads) if width >= NARROW or not head.startswith("?")]
    least = [*spans[:-1], min(spans[-1], NOTE_MIN)]
    for at in reversed(kept.copy()):
        if sum(least[each] + _GAP for each in kept) <= width:
            break
        if not heads[at].startswith("!"):
            kept.remove(at)
    return kept


def width() -> int:
    """Of lines: as wide as the terminal, or without end where there is none."""
    if sys.stdout.isatty():
        return shutil.get_terminal_size().columns
    asked = os.environ.get("COLUMNS", "")
    return int(asked) if asked.isdecimal() else sys.maxsize


def coloured(line: str, colour: str) -> None:
    """One line, in colour where that is wanted."""
    plain = not colour or "NO_COLOR" in os.environ
    click.echo(line if plain else click.style(line, fg=colour))


def count(number: int | None) -> str:
    """A number with its thousands apart."""
    return "-" if number is None else f"{number:,}"


def _width_asked() -> int:
    asked = os.environ.get("COLUMNS", "")
    return max(int(asked), 40) if asked.isdecimal() else WIDTH_WITHOUT_TERMINAL
