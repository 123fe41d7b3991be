from __future__ import annotations

import base64
import json
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proof import ledgers
from proof.checker import Wanted, check
from proof.ledgers import Committed, Harmed, Produced, Writer
from proof.recorder import handler
from proof.recorder.handler import fingerprint, stretches

RECORDS = [
    (1_700_000_000_000 + n, b"k" if n % 2 else None, f"{n}".encode(), [("h", b"\x00\xff")])
    for n in range(20)
]


def event(offset: int) -> dict:
    """What the worker makes of the records from `offset` on."""
    return {
        "records": {
            "or-ders-1": [
                {
                    "topic": "or-ders",
                    "partition": 1,
                    "offset": offset + n,
                    "timestamp": timestamp,
                    "timestampType": "CREATE_TIME",
                    "key": key and base64.b64encode(key).decode(),
                    "value": base64.b64encode(value).decode(),
                    "headers": [{"h": [0, -1]}],
                }
                for n, (timestamp, key, value, _) in enumerate(RECORDS[offset:])
            ]
        }
    }


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with P and C, and the handler writing X into it."""
    where = ledgers.paths(tmp_path)
    with Writer(where["produced"]) as produced, Writer(where["committed"]) as committed:
        for offset, record in enumerate(RECORDS):
            row = Produced(f"r{offset}", "or-ders", 1, offset, fingerprint(*record).hex())
            produced.write(row)
        committed.write(Committed(1e12, "g", "or-ders", 1, len(RECORDS)))
    monkeypatch.setattr(handler, "LEDGER", str(where["executed"]))
    return tmp_path


CONTEXT = SimpleNamespace(aws_request_id="id", log_stream_name="stream")


def test_what_the_function_writes_agrees_with_what_the_producer_wrote(folder):
    handler.handle(event(0), CONTEXT)
    report = check(ledgers.read(folder), Wanted(records=20))
    assert not report.violations
    assert report.counts["executions: success"] == 1


def test_a_run_that_was_cut_off_has_no_end(folder):
    handler.handle(event(0), CONTEXT)
    where = ledgers.paths(folder)["executed"]
    begin, _, _ = where.read_text().partition("\n")
    where.write_text(begin + '\n{"execution": "')
    (execution,) = ledgers.read(folder).executed
    assert execution.end is None
    assert execution.outcome is None


def test_poison_fails_every_time(folder):
    bad = event(19)
    bad["records"]["or-ders-1"][0]["value"] = base64.b64encode(b"poison").decode()
    with pytest.raises(RuntimeError, match="poison"):
        handler.handle(bad, CONTEXT)
    (execution,) = ledgers.read(folder).executed
    assert execution.outcome == "failure"


def test_a_document_is_read_as_it_is_written(folder):
    document = {
        "requestContext": {"condition": "RetryAttemptsExhausted"},
        "KafkaBatchInfo": {
            "batchSize": 15,
            "recordsInfo": {"or-ders-1": {"firstRecordOffset": "5", "lastRecordOffset": "19"}},
        },
        "streamfaas": {"id": "d"},
        "payload": event(5),
    }
    with Writer(ledgers.paths(folder)["set_aside"]) as writer:
        writer.write({"at": 7.0, "document": document})
    read = ledgers.read(folder)
    (row,) = read.set_aside
    assert (row.at, row.place, row.first, row.last, row.size) == (7.0, ("or-ders", 1), 5, 19, 15)
    report = check(read, Wanted())
    # the five before it are lost, and committed all the same; the others are set aside
    assert report.broken == {"I-01", "I-03"}
    assert report.violations[0].detail == "5 lost: or-ders-1 0..4"


def test_rows_come_back_as_they_were_written(folder):
    rows = (Harmed("worker-kill", "12", 1.0, 2.0), Harmed("daemon-kill", "13", 3.0, None))
    with Writer(ledgers.paths(folder)["harmed"]) as writer:
        for row in rows:
            writer.write(row)
    assert ledgers.read(folder).harmed == rows
    assert len(json.loads(ledgers.paths(folder)["produced"].read_text().splitlines()[0])) == 5


@given(st.lists(st.integers(0, 30)))
def test_stretches_are_the_offsets_in_their_order(offsets):
    flat = [n for first, last in stretches(offsets) for n in range(first, last + 1)]
    assert flat == offsets


@given(
    st.lists(
        st.tuples(
            st.integers(-1, 1 << 40),
            st.none() | st.binary(max_size=4),
            st.none() | st.binary(max_size=4),
            st.lists(st.tuples(st.text(max_size=2), st.binary(max_size=3)), max_size=2),
        ),
        unique_by=repr,
        min_size=2,
        max_size=2,
    )
)
def test_records_that_differ_have_fingerprints_that_differ(two):
    one, other = two
    assert fingerprint(*one) != fingerprint(*other)
