from __future__ import annotations

import json
from dataclasses import replace

import pytest

from proof.poison import CLEAN, EXTRA_MAX, KILLED, POISONED, RECORDS, RETRIES
from proof.river import prove

pytestmark = [pytest.mark.slow, pytest.mark.kafka]


def test_one_bad_record_in_ten_thousand_is_found_at_little_cost(kafka, tmp_path):
    counts = {}
    for name, course in (("clean", CLEAN), ("poison", POISONED)):
        folder = tmp_path / name
        folder.mkdir()
        report, problems = prove(course, kafka, folder)
        assert not problems
        assert not report.violations, "\n".join(map(str, report.violations[:10]))
        counts[name] = report.counts
    assert counts["poison"]["records set aside"] == 1
    assert counts["poison"]["records produced"] == RECORDS
    more = counts["poison"]["executions"] - counts["clean"]["executions"]
    assert more <= EXTRA_MAX + RETRIES
    (line,) = (tmp_path / "poison" / "set-aside.jsonl").read_text().splitlines()
    (records,) = json.loads(line)["payload"]["records"].values()
    assert len(records) == 1


def test_and_the_same_with_the_daemon_killed_in_the_middle(kafka, tmp_path):
    killed = replace(KILLED, daemon_kills=3, seconds=15.0)
    report, problems = prove(killed, kafka, tmp_path)
    assert not problems
    assert not report.violations, "\n".join(map(str, report.violations[:10]))
    assert report.counts["records set aside"] == 1
