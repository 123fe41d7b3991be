"""`streamfaas explain`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click

from streamfaas.cli import exits

if TYPE_CHECKING:
    from streamfaas.config.keys import Key

WIDTH = 88


@click.command()
@click.argument("word", required=False)
def command(word: str | None) -> None:
    """Explain a problem's code, a key, or a word that the daemon uses; without one, list the words.

    \b
      streamfaas explain SF1042
      streamfaas explain functions.orders.triggers.orders.batch.window
      streamfaas explain batch.window
      streamfaas explain blocked
    """  # noqa: D301 - click wants a real backspace
    if word is None:
        click.echo(_words())
        return
    text = _of_code(word) or _of_topic(word) or _of_key(word)
    if not text:
        exits.end(exits.USAGE, f"there is nothing about {word[:100]!r}{_hint(word)}")
    click.echo(text)


def _words() -> str:
    """All that has something to itself, beside codes and keys."""
    from streamfaas.docs import topics

    listed = textwrap.fill(", ".join(sorted(topics())), WIDTH, initial_indent="  ",
                           subsequent_indent="  ", break_on_hyphens=False)  # fmt: skip
    return f"words (and each code SF…, and each key of a configuration):\n\n{listed}"


def _of_code(word: str) -> str:
    from streamfaas.docs import explanations

    found = explanations().get(word.upper())
    if found is None:
        return ""
    return f"{found.code}  {found.title}\n\n{_wrapped(found.cause)}\n\n{_wrapped(found.mend)}"


def _of_topic(word: str) -> str:
    from streamfaas.docs import topics

    found = topics().get(word.lower())
    return f"{word.lower()}\n\n{found}" if found else ""


def _of_key(word: str) -> str:
    from streamfaas.config import keys

    path = word.split(".")
    found = [key for key in keys.known() if _ends_with(key.path, path)]
    whole = [key for key in found if len(key.path) == len(path)]
    return "\n\n\n".join(_told(group) for group in _alike(whole or found))


def _ends_with(pattern: Sequence[str], path: Sequence[str]) -> bool:
    """Whether a key's path ends in this one; a `*` in it stands for any one name."""
    if len(path) > len(pattern) or pattern[-1] != path[-1]:
        return False
    tail = pattern[len(pattern) - len(path) :]
    return all(want in ("*", part) for want, part in zip(tail, path, strict=True))


def _alike(found: Iterable[Key]) -> list[list[Key]]:
    """Keys that are told of in the same words, together."""
    groups: dict[tuple[object, ...], list[Key]] = {}
    for key in found:
        groups.setdefault((key.field.description, key.says, key.default), []).append(key)
    return list(groups.values())


def _told(group: Sequence[Key]) -> str:
    from streamfaas.config import keys

    first = group[0]
    lines = []
    for path in dict.fromkeys(key.path for key in group):
        kinds = [key.kind.replace("|", ", ") for key in group if key.path == path and key.kind]
        of = f"   ({', '.join(kinds)})" if kinds else ""
        lines.append(".".join("<name>" if part == "*" else part for part in path) + of)
    lines += ["", _wrapped(first.field.description or ""), "", f"takes     {first.says}"]
    if first.default:
        lines.append(f"default   {first.default}")
    elif first.field.is_required():
        lines.append("default   none: it must be given")
    for example in first.field.examples or ():
        lines.append(f"example   {first.path[-1]}: {_example(example)}")
    inside = keys.inside(first)
    if inside:
        lines.append(_wrapped(f"keys      {', '.join(inside)}", indent=" " * 10))
    return "\n".join(lines)


def _example(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_example, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_example(each)}" for key, each in value.items()) + "}"
    return str(value)


def _hint(word: str) -> str:
    from difflib import get_close_matches

    from streamfaas.config import keys
    from streamfaas.docs import explanations, topics

    known = [*explanations(), *topics(), *dict.fromkeys(key.path[-1] for key in keys.known())]
    near = get_close_matches(word.rpartition(".")[2][:100], known, 1)
    return f"; did you mean {near[0]}?" if near else "; `streamfaas explain` lists the words"


def _wrapped(text: str, *, indent: str = "") -> str:
    return textwrap.fill(
        text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
