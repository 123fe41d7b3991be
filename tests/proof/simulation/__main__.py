"""By hand, out of `tests/`: any number of histories, or one of them told from its beginning."""

from __future__ import annotations

import argparse
import sys
import time

from proof.simulation.history import History, live
from proof.simulation.plan import KINDS, draw
from proof.simulation.planted import SEEDS, TABLE, find
from proof.simulation.shrink import shrink


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m proof.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many histories")
    parser.add_argument("--first", type=int, default=0, help="the first seed of them")
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--kind", choices=KINDS, help="only worlds of this kind")
    parser.add_argument("--story", action="store_true", help="what happened, line by line")
    parser.add_argument("--shrink", action="store_true", help="the smallest plan that still fails")
    parser.add_argument("--faults", action="store_true", help="which seed finds each planted fault")
    asked = parser.parse_args()
    if asked.faults:
        return faults()
    if asked.seed is not None:
        return one(asked.seed, asked.kind, story=asked.story, small=asked.shrink)
    return many(range(asked.first, asked.first + asked.seeds), asked.kind)


def one(seed: int, kind: str | None, *, story: bool, small: bool) -> int:
    history = live(draw(seed, kind))
    if small and history.broken:
        history = shrink(history.plan)
    if story:
        print(history.story)
    print(history.plan)
    for name, count in history.report.counts.items():
        print(f"{name:36}{count:10,}")
    return said(history)


def said(history: History, most: int = 1000) -> int:
    for complaint in history.complaints[:most]:
        print(f"seed {history.plan.seed}: {complaint}")
    return bool(history.broken)


def many(seeds: range, kind: str | None) -> int:
    start, simulated, records, failed = time.perf_counter(), 0.0, 0, []
    for seed in seeds:
        history = live(draw(seed, kind))
        simulated += history.seconds
        records += history.report.counts["records produced"]
        if said(history, 3):
            failed.append(seed)
    took = time.perf_counter() - start
    print(
        f"{len(seeds)} histories, {simulated:,.0f} simulated seconds and {records:,} records in "
        f"{took:.1f} s: {simulated / took:,.0f} times as fast as life, {records / took:,.0f} "
        "records/s"
    )
    print(f"failed: {' '.join(map(str, failed))}" if failed else "nothing is broken")
    return bool(failed)


def faults() -> int:
    missed = 0
    for fault in TABLE:
        history = find(fault)
        missed += history is None
        seed = "-" if history is None else history.plan.seed
        seen = "not found" if history is None else " ".join(sorted(history.broken))
        print(f"{fault.name:42}{seed:>6}  {seen}", flush=True)
    print(f"{len(TABLE)} planted faults, {missed} not found within {SEEDS} histories")
    return bool(missed)


sys.exit(main())
