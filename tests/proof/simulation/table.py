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
    first: int = 0  # the seed that showed it: looked at before the others

    @property
    def windowed(self) -> bool:
        """Whether it can only be seen where there are tumbling windows."""
        return "I-40" in self.breaks


TABLE: list[Planted] = []


def planted(
    part: str, *breaks: str, kind: str | None = None, first: int = 0
) -> Callable[[Any], Any]:
    """Enters a class (or what it stands for) into the table, in the place of a part. `kind`: of
    the worlds in which it is looked for, where the part does not say that."""

    def enter(made: Any) -> Any:
        name = made.__name__.replace("_", " ")
        words = "".join(f" {c.lower()}" if c.isupper() else c for c in name).strip()
        world = part if part in KINDS else kind
        TABLE.append(Planted(words, world, Parts(**{part: made}), frozenset(breaks), first))
        return made

    return enter
