"""Makes a failing history small enough to be read."""

from __future__ import annotations

from proof.simulation.history import History, live
from proof.simulation.parts import REAL, Parts
from proof.simulation.plan import Plan, smaller

LIVES_MAX = 400


def shrink(plan: Plan, parts: Parts = REAL, lives_max: int = LIVES_MAX) -> History:
    """The smallest plan that was found to break one of the same invariants, as a history."""
    best = live(plan, parts)
    breaks = best.broken
    assert breaks, "there is nothing wrong with it"
    lives, tried = 0, {plan}
    while lives < lives_max:
        for candidate in smaller(best.plan):
            if candidate in tried:
                continue
            tried.add(candidate)
            lives += 1
            if (found := live(candidate, parts)).broken & breaks:
                best = found
                break
            if lives >= lives_max:
                return best
        else:
            return best
    return best
