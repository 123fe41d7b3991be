"""Shards are sent elsewhere in the midst of everything: from there on every invariant holds, and
what was sent together goes together."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from proof.simulation.history import live
from proof.simulation.parts import Parts
from proof.simulation.plan import Fault, Plan, draw
from proof.simulation.shards import Shards

SEEDS = 70


def sought(seed: int) -> Plan:
    """A world of shards that one daemon reads, some of which are sent elsewhere."""
    of, plan = random.Random(f"a seek of {seed}"), draw(seed, "shards")
    faults = [fault for fault in plan.faults if fault.kind != "down"]
    for _ in range(of.choice((1, 1, 2))):
        at = round(of.uniform(0.5, 60.0), 2)
        faults.append(Fault(at=at, kind="seek", count=of.randrange(24)))
        if of.random() < 0.4:
            near = round(at + of.choice((0.0, 0.01, 0.1, 2.0)), 2)
            faults.append(Fault(at=near, kind="kill", count=of.randint(1, 12)))
    faults.append(Fault(at=90.0, kind="wall", count=20))  # nothing: by then they are there
    faults.sort(key=lambda one: one.at)
    return replace(plan, daemons=1, retention=None, faults=tuple(faults))


@pytest.mark.slow
def test_from_where_shards_are_sent_to_every_invariant_holds():
    met: Counter[str] = Counter()
    for seed in range(SEEDS):
        history = live(sought(seed))
        assert not history.broken, "\n".join([f"{history.plan}", *history.complaints])
        told = str(history.story)
        for word in ("has sought earliest", "has sought latest", "has sought 1", "begins anew"):
            met[word] += word in told
        met["does not seek"] += "does not seek to" in told
    assert all(met.values()), met


class LeavesWhatCameOutOfIt(Shards):
    """A shard that is sent back goes alone."""

    async def places(self, lanes, to):
        found = await super().places(lanes, to)
        return {lane: found[lane] for lane in lanes}

    def _seeker(self):
        seeker = super()._seeker()
        seeker._check = lambda *_: None
        return seeker


class SaysSoOnly(Shards):
    """What is in memory goes elsewhere, and nothing on the disk."""

    async def seek(self, sought):
        async def nothing(*marks):
            """Not written."""

        put, self._keeper.put = self._keeper.put, nothing
        try:
            await super().seek(sought)
        finally:
            self._keeper.put = put


@pytest.mark.slow
@pytest.mark.parametrize("shards", [LeavesWhatCameOutOfIt, SaysSoOnly])
def test_who_sends_shards_elsewhere_in_a_wrong_way_is_found(shards):
    parts = Parts(shards=shards)
    assert any(live(sought(seed), parts).broken for seed in range(SEEDS))
