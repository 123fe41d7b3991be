from __future__ import annotations

from dataclasses import replace

import pytest

from proof.ledgers import Executed
from proof.reloads import COURSE, Changes, longest_pauses, prove

SMALL = replace(COURSE, records=12_000, seconds=25.0, seed=5)


@pytest.mark.slow
@pytest.mark.kafka
def test_nothing_is_lost_or_run_twice_while_the_configuration_changes(kafka, tmp_path):
    changes = Changes(reloads=40, kafka=8, seed=5)
    proof = prove(changes, SMALL, kafka, tmp_path)
    assert not proof.problems
    for report in (proof.changed, proof.untouched):
        assert not report.violations, "\n".join(map(str, report.violations[:10]))
        assert report.counts["records run again"] == 0
        assert report.counts["records produced"] == SMALL.records
    assert changes.told["kafka"] == 8
    assert changes.told["reloaded"] >= 20


def test_a_pause_is_when_nothing_runs_and_belongs_to_what_was_done_meanwhile():
    def ran(start, end):
        return Executed("e", "i", "w", "t", 0, ((0, 0),), "", start, end, "success")

    changes = Changes(0, 0, 0, first=10.0, last=30.0, replaced=[(20.0, 21.0)])
    executed = [
        ran(1, 2), ran(2.5, 9), ran(3, 4), ran(9, 12), ran(13, 20.5), ran(22, 28), ran(40, 41)
    ]  # fmt: skip
    assert longest_pauses(executed, changes) == {
        "before": 0.5,
        "its workers replaced": 1.5,
        "else": 1.0,
    }
