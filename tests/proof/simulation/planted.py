"""Faults that are put into the daemon on purpose, each where such a fault would be made. A
simulation that does not find them proves nothing."""

from __future__ import annotations

from proof.simulation import (
    planted_ends,
    planted_messages,
    planted_shards,
    planted_sources,
    planted_verdicts,
    planted_windows,
)
from proof.simulation.history import History, live
from proof.simulation.plan import draw
from proof.simulation.table import SEEDS, TABLE, Planted

__all__ = [
    "SEEDS",
    "TABLE",
    "Planted",
    "find",
    "planted_ends",
    "planted_messages",
    "planted_shards",
    "planted_sources",
    "planted_verdicts",
    "planted_windows",
]


def find(fault: Planted, seeds: int = SEEDS) -> History | None:
    """A history that shows the fault."""
    for seed in (*range(fault.first, seeds), *range(fault.first)):
        plan = draw(seed, fault.kind)
        if fault.windowed and not plan.tumbling:
            continue
        history = live(plan, fault.parts)
        if history.broken & fault.breaks:
            return history
    return None
