"""Hundreds of histories of the real engine in a simulated world, each judged by its ledgers."""

from __future__ import annotations

import functools
import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from proof.simulation.history import live
from proof.simulation.parts import Parts
from proof.simulation.plan import KINDS, Fault, Plan, Trouble, draw, smaller
from proof.simulation.planted import SEEDS, TABLE, find
from proof.simulation.planted_sources import CommitsOneTooEarly
from proof.simulation.shrink import shrink

TESTS = Path(__file__).parents[2]
SLICES = 10
LARGE = 91
"""A seed of a plan with many faults."""


@pytest.mark.slow
@pytest.mark.parametrize("part", range(SLICES))
def test_whatever_happens_every_invariant_holds(part):
    for seed in range(part, SEEDS, SLICES):
        complaints, _ = lived(seed)
        assert not complaints, "\n".join(
            [f"python -m proof.simulation --seed {seed} --story --shrink", *complaints]
        )


@pytest.mark.slow
def test_the_histories_go_through_all_that_can_happen():
    assert not set(MET) - {name for seed in range(0, SEEDS, 3) for name in lived(seed)[1]}


@functools.cache
def lived(seed: int) -> tuple[Sequence[str], frozenset[str]]:
    """What is wrong with a history, and what it went through."""
    plan = draw(seed)
    history = live(plan)
    ledgers = history.ledgers
    met = {
        "two daemons": plan.daemons > 1,
        "strands": plan.strands > 1,
        "answered": ledgers.answered,
        "a window ended": any(one.succeeded for one in ledgers.finals),
        "a window ended early": any(one.pane.early for one in ledgers.finals),
        "a window was lost": ledgers.forgone,
        "a window was given up": any(one.condition != "Success" for one in ledgers.partings),
        "quiet": not plan.faults and plan.trouble == Trouble(),
    }
    met |= history.report.counts
    met |= {name: getattr(plan, name) for name in ALSO}
    names = {name for name, so in met.items() if so} | {plan.kind}
    names |= {"fault " + fault.kind for fault in plan.faults}
    names |= {"set aside: " + row.condition for row in ledgers.set_aside}
    assert bool(history.broken) == bool(history.complaints)
    return history.complaints, frozenset(names)


ALSO = ("bisect", "lowest", "unwanted", "singly", "aggregated", "mute", "retention", "fifo")
ALSO += ("redrive", "twice", "changes", "tumbling", "tardy")
MET = (
    *("records run again", "records set aside", "documents", "two daemons"),
    *KINDS,
    *("fault split", "fault merge", "fault expire", "fault throttled", "fault slow-service"),
    *("changes", "tumbling", "tardy", "a window ended", "a window ended early"),
    *("a window was lost", "a window was given up"),
    *("aggregated", "mute", "retention", "fifo", "redrive", "twice", "set aside: Redriven"),
    *("faults: daemon-kill", "faults: daemon-stop", "faults: worker-kill", "faults: seat-lost"),
    *("faults: ack-lost", "fault source-away", "fault guest", "fault cut-off", "fault wall"),
    *("fault destination-down", "fault destination-slow", "fault destination-deaf"),
    *("fault destination-refuses", "fault queue-deaf", "executions: cut off"),
    *("executions: timeout", "executions: crash", "executions: init", "executions: failure"),
    *(
        "executions: partial",
        "executions: garbage",
        "fault store-full",
        "fault kill-on",
        "fault skip",
        "answered",
    ),
    *("set aside: RetryAttemptsExhausted", "set aside: MaximumPayloadSizeExceeded"),
    *("set aside: RecordAgeExceeded", "bisect", "lowest", "strands", "unwanted", "singly", "quiet"),
)


@pytest.mark.slow
@pytest.mark.parametrize("fault", TABLE, ids=lambda fault: fault.name.replace(" ", "-"))
def test_a_planted_fault_is_found(fault):
    assert find(fault) is not None


def test_the_same_seed_is_the_same_history():
    for seed, kind in enumerate(KINDS):
        assert str(live(draw(seed, kind)).story) == str(live(draw(seed, kind)).story)


@pytest.mark.slow
def test_a_history_is_the_same_in_every_process():
    code = (
        "from proof.simulation.history import live; from proof.simulation.plan import draw; "
        "from proof.simulation.plan import KINDS; import hashlib; "
        "print([hashlib.sha256(str(live(draw(s, k)).story).encode()).hexdigest() "
        "for s in (4, 321) for k in KINDS])"
    )
    here = [
        hashlib.sha256(str(live(draw(seed, kind)).story).encode()).hexdigest()
        for seed in (4, 321)
        for kind in KINDS
    ]
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=TESTS, check=True, capture_output=True, text=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
        )  # fmt: skip
        assert done.stdout.strip() == str(here)


@pytest.mark.slow
def test_a_failing_history_is_made_small():
    parts = Parts(stream=CommitsOneTooEarly)
    large = draw(LARGE, "stream")
    assert len(large.faults) > 1
    small = shrink(large, parts)
    assert small.broken & {"I-01", "I-03"}
    assert not small.plan.faults
    assert small.plan.trouble == Trouble()
    assert small.plan.lanes == 1
    assert small.plan.records <= 2


def test_a_plan_is_written_as_it_is_made():
    names = {"Plan": Plan, "Fault": Fault, "Trouble": Trouble}
    for seed in range(50):
        plan = draw(seed)
        assert eval(str(plan), names) == plan


def test_a_smaller_plan_is_another_one():
    plan = draw(LARGE)
    assert all(candidate != plan for candidate in smaller(plan))
