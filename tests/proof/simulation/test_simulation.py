"""Hundreds of histories of the real engine in a simulated world, each judged by its ledgers."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter
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
        history = live(draw(seed))
        assert not history.broken, "\n".join(
            [f"python -m proof.simulation --seed {seed} --story --shrink", *history.complaints]
        )


@pytest.mark.slow
def test_the_histories_go_through_all_that_can_happen():
    met: Counter[str] = Counter()
    for seed in range(0, SEEDS, 3):
        plan = draw(seed)
        history = live(plan)
        met.update({name: bool(count) for name, count in history.report.counts.items()})
        met.update({"fault " + fault.kind for fault in plan.faults})
        met[plan.kind] += 1
        for name in ALSO:
            met[name] += bool(getattr(plan, name))
        met["two daemons"] += plan.daemons > 1
        met["strands"] += plan.strands > 1
        met["answered"] += bool(history.ledgers.answered)
        met["a window ended"] += any(one.succeeded for one in history.ledgers.finals)
        met["a window ended early"] += any(one.pane.early for one in history.ledgers.finals)
        met["a window was lost"] += bool(history.ledgers.forgone)
        met["a window was given up"] += any(
            one.condition != "Success" for one in history.ledgers.partings
        )
        met["quiet"] += not plan.faults and plan.trouble == Trouble()
        met.update({"set aside: " + row.condition for row in history.ledgers.set_aside})
    assert not [name for name in MET if not met[name]]


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
