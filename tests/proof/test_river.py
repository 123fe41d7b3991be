from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from proof.river import Course, prove

SMALL = Course(
    records=20_000,
    seconds=20.0,
    partitions=4,
    batch=50,
    worker_kills=10,
    daemon_kills=1,
    daemon_stops=1,
    poison=2,
    hold_seconds=0.1,
    replay_max=2_500,
    seed=1,
)
TINY = replace(
    SMALL,
    records=3_000,
    seconds=6.0,
    batch=100,
    poison=0,
    failure_rate=0.0,
    daemon_stops=0,
)
CARELESS = str(Path(__file__).with_name("careless.py"))

pytestmark = [pytest.mark.slow, pytest.mark.kafka]


def test_nothing_is_lost_while_workers_and_a_daemon_are_killed(kafka, tmp_path):
    report, problems = prove(SMALL, kafka, tmp_path)
    assert not problems
    assert not report.violations, "\n".join(map(str, report.violations[:10]))
    assert report.counts["records produced"] == SMALL.records


def test_a_careful_consumer_of_another_make_is_accepted(kafka, tmp_path):
    report, problems = prove(TINY, kafka, tmp_path, CARELESS, "late")
    assert not problems
    assert not report.violations, "\n".join(map(str, report.violations[:10]))


def test_a_consumer_that_commits_before_the_work_is_done_is_rejected(kafka, tmp_path):
    report, _ = prove(TINY, kafka, tmp_path, CARELESS, "early")
    assert "I-03" in report.broken
