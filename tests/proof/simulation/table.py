"""The table of planted faults, and how one gets into it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from proof.simulation.parts import Parts
from proof.simulation.plan import KINDS

SEEDS = 300
"""Within so many histories each must be found."""


@dataclass(frozen=True, slots=True)
class Planted:
    """A fault, and the invariants of which one at least must be seen to break."""

    name: str
    kind: str | None  # of the worlds in which it is, where it is not in all
    parts: Parts
    breaks: frozenset[str]


TABLE: list[Planted] = []


def planted(part: str, *breaks: str) -> Callable[[Any], Any]:
    """Enters a class (or what it stands for) into the table, in the place of a part."""

    def enter(made: Any) -> Any:
        name = made.__name__.replace("_", " ")
        words = "".join(f" {c.lower()}" if c.isupper() else c for c in name).strip()
        kind = part if part in KINDS else None
        TABLE.append(Planted(words, kind, Parts(**{part: made}), frozenset(breaks)))
        return made

    return enter
