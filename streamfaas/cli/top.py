"""`streamfaas top`."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from streamfaas.cli import client, exits, output, screens
from streamfaas.cli.client import Absent
from streamfaas.cli.exits import printable
from streamfaas.cli.status import viewed

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

REFRESH_SECONDS = 1.0
LISTS = {"f": "functions", "t": "triggers", "e": "errors"}
NAMED_KEYS = {
    b"\x1b[A": "up", b"\x1bOA": "up", b"\x1b[B": "down", b"\x1bOB": "down", b"\r": "enter",
    b"\n": "enter", b"\x1b": "back", b"\x7f": "erase", b"\x08": "erase", b"\x03": "q",
}  # fmt: skip
HELP = "q quit  f functions  t triggers  e errors  / filter  ↑↓ enter details  esc back"

Ask = Callable[[str], dict[str, Any]]


@click.command()
@client.options
def command(config: Path | None, socket: Path | None) -> None:
    """Watch functions and triggers, each second; without a terminal, one look.

    Keys: f functions, t triggers, e errors, / filter, arrows and enter for details, esc back,
    q quit.
    """
    place = client.socket_of(config, socket)
    view, console = viewed(place), output.console()
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        for part in frame(view, State(), console.width, 10_000):
            console.print(part)
        return
    try:
        _watch(console, lambda target: _asked(place, target))
    except KeyboardInterrupt:
        return
    except Absent as gone:
        exits.end(exits.UNREACHABLE, gone.told())


def _asked(place: Path, target: str) -> dict[str, Any]:
    import json

    answer = client.ask(place, "GET", target)
    found: dict[str, Any] = json.loads(answer.body)
    return found if answer.status == 200 else {}


def _watch(console: Console, ask: Ask) -> None:
    """Until `q`. The terminal is left as it was, whatever happens."""
    from rich.console import Group
    from rich.live import Live

    state, view, due = State(), ask("/status"), 0.0
    with _keys() as keys, Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            if (now := time.monotonic()) >= due:
                view, due = ask("/status"), now + REFRESH_SECONDS
                if state.shown:
                    view |= {"detail": _detail(ask, state)}
            width, height = console.size
            live.update(Group(*frame(view, state, width, height)), refresh=True)
            for key in keys(max(0.0, due - time.monotonic())):
                before, state = state, state.pressed(key, _names(view, state))
                if state.over:
                    return
                if state.shown and state.shown != before.shown:
                    due = 0.0


def _detail(ask: Ask, state: State) -> dict[str, Any]:
    return ask(f"/triggers/{quote(state.shown)}") if "/" in state.shown else {}


@contextmanager
def _keys() -> Iterator[Callable[[float], list[str]]]:
    """Keys as they are pressed, waited for so many seconds, and not shown."""
    import termios
    import tty

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)

    def read(seconds: float) -> list[str]:
        ready, _, _ = select.select([terminal], [], [], seconds)
        return keys_of(os.read(terminal, 64)) if ready else []

    try:
        tty.setcbreak(terminal)
        yield read
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def keys_of(data: bytes) -> list[str]:
    """What was typed, key by key: letters, and the names of others."""
    found = []
    while data:
        name = next((raw for raw in NAMED_KEYS if len(raw) > 1 and data.startswith(raw)), data[:1])
        found.append(NAMED_KEYS.get(name) or name.decode("ascii", "ignore"))
        data = data[len(name) :]
    return [key for key in found if key]


# -- what is looked at


@dataclass(frozen=True, slots=True)
class State:
    """Which list is looked at, what of it is wanted, which row is chosen, and what is shown in
    full (empty: the list)."""

    list: str = "triggers"
    wanted: str = ""
    typing: bool = False
    row: int = 0
    shown: str = ""
    over: bool = False

    def pressed(self, key: str, names: Sequence[str]) -> State:  # noqa: C901 - one case a key
        """What is looked at next. `names` are those in the list."""
        last = max(0, len(names) - 1)
        match key:
            case "up" | "down":
                row = min(self.row, last) + (1 if key == "down" else -1)
                return replace(self, row=min(max(row, 0), last))
            case "enter" if self.typing:
                return replace(self, typing=False)
            case "enter":
                return replace(self, shown=names[min(self.row, last)] if names else "")
            case "back" if self.typing or not self.shown:
                return replace(self, typing=False, wanted="", row=0)
            case "back":
                return replace(self, shown="")
            case "erase" if self.typing:
                return replace(self, wanted=self.wanted[:-1], row=0)
            case _ if self.typing and len(key) == 1 and key.isprintable():
                return replace(self, wanted=self.wanted + key, row=0)
            case "q":
                return replace(self, over=True)
            case "/":
                return replace(self, typing=True, shown="")
            case "f" | "t" | "e":
                return replace(self, list=LISTS[key], row=0, shown="")
            case _:
                return self


def _names(view: Mapping[str, Any], state: State) -> list[str]:
    """What is in the list that is looked at."""
    named = view["functions" if state.list == "functions" else "triggers"]
    return [
        name
        for name, each in sorted(named.items())
        if state.wanted.lower() in name.lower()
        and (state.list != "errors" or screens.trouble(each)[0] or each["state"] == "retrying")
    ]


def frame(
    view: Mapping[str, Any], state: State, width: int, height: int
) -> Iterator[RenderableType]:
    """One look, of so many lines at most."""
    from rich.text import Text

    head = Text(printable(f"{view.get('state', '?')}  {'  '.join(screens.header(view))}"))
    head.stylize(screens.COLOURS.get(str(view.get("state")), ""), 0, len(str(view.get("state"))))
    yield _cut(head, width)
    yield _cut(Text(_totals(view)), width)
    yield Text()
    body = _shown(view, state, width) if state.shown else _listed(view, state, width, height - 6)
    lines = 0
    for part in body:
        size = getattr(part, "row_count", 0) + 1
        if lines + size > height - 5 and lines:
            break
        lines += size
        yield part
    yield Text()
    filtering = (
        f"filter: {state.wanted}{'_' if state.typing else ''}  "
        if (state.typing or state.wanted)
        else ""
    )
    yield _cut(Text(f"{filtering}{HELP}", style="dim"), width)


def _totals(view: Mapping[str, Any]) -> str:
    recent = [each.get("recent", {}) for each in view["functions"].values()]
    calls = sum(each.get("invocations_per_second") or 0 for each in recent)
    records = sum(
        each.get("recent", {}).get("records_per_second") or 0 for each in view["triggers"].values()
    )
    wrong = sum(bool(screens.trouble(each)[0]) for each in view["triggers"].values())
    return (
        f"{len(view['functions'])} functions  {screens.rate(calls)} inv/s    "
        f"{len(view['triggers'])} triggers  {screens.rate(records)} rec/s    "
        f"{wrong} need attention"
    )


def _listed(
    view: Mapping[str, Any], state: State, width: int, rows: int
) -> Iterator[RenderableType]:
    from rich.text import Text

    names = _names(view, state)
    if not names:
        yield Text(f"no {state.list}" + (f" like {state.wanted!r}" if state.wanted else ""))
        return
    chosen = min(state.row, len(names) - 1)
    first = max(0, min(chosen - rows // 2, len(names) - rows))
    seen = names[first : first + max(rows, 1)]
    if state.list == "functions":
        table = screens.functions([(each, view["functions"][each]) for each in seen], width=width)
    elif state.list == "triggers":
        table = screens.triggers([(each, view["triggers"][each]) for each in seen], width=width)
    else:
        rows_of = [(each, *_wrong(view["triggers"][each])) for each in seen]
        heads = ("!TRIGGER", "!STATE", "WHY")
        table = output.table(heads, rows_of, width=width, colours=screens.COLOURS)
    if sys.stdout.isatty():
        table.rows[chosen - first].style = "reverse"
    yield table


def _wrong(trigger: Mapping[str, Any]) -> tuple[str, str]:
    word, why = screens.trouble(trigger)
    return (word, why) if word else (str(trigger["state"]), screens.note(trigger))


def _shown(view: Mapping[str, Any], state: State, width: int) -> Iterator[RenderableType]:
    """A function with its triggers, or a trigger with its lanes, last errors and what helps."""
    from rich.text import Text

    name = state.shown
    if "/" not in name:
        if name in view["functions"]:
            yield screens.functions([(name, view["functions"][name])], width=width)
            own = [(n, t) for n, t in sorted(view["triggers"].items()) if n.startswith(f"{name}/")]
            yield screens.triggers(own, width=width)
        return
    trigger = view["triggers"].get(name)
    if trigger is None:
        yield Text(f"{name} is gone")
        return
    yield screens.triggers([(name, trigger)], width=width)
    for helps, told in screens.remedies(name, trigger):
        yield _cut(Text(f"  {helps}  # {told}"), width)
    for each in view.get("detail", {}).get("errors", ())[:3]:
        said = (
            f"  {each['lane']} @{each['first']}..{each['last']}  {each['type']}: {each['message']}"
        )
        yield _cut(Text(printable(said), style="red"), width)
    yield screens.lanes([("", trigger)], width=width)


def _cut(text: Any, width: int) -> Any:
    text.truncate(max(width - 1, 1), overflow="ellipsis")
    return text
