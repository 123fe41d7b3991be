"""Table 1.8 of the contract, a case for each cell, and that nothing is ever on both sides."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_runs import batch, logs, positions, stretch
from streamfaas.flow.batch import Batch
from streamfaas.flow.outcome import Failure, Fault, Report, Success
from streamfaas.flow.partial import REPORT_BYTES_MAX, Partial, Style, read, stretches

REPORT = Report("w#1", 0.1)
STYLES = list(Style)


def locate(whole: Batch, identifier: object) -> int | None:
    """Names of records are their positions, as text."""
    if not isinstance(identifier, str) or not identifier.isdigit():
        return None
    return int(identifier) if whole.holds(int(identifier)) else None


def told(answer: object, whole: Batch | None = None, style: Style = Style.LOWEST):
    said = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return read(Success(said, report=REPORT), whole or batch(0, 9), style, locate)


def items(*names: object) -> dict[str, object]:
    return {"batchItemFailures": [{"itemIdentifier": name} for name in names]}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(
    "answer",
    [
        items(),
        {"batchItemFailures": None},
        {},
        None,
        "",
        [],
        b"",
        b' { "batchItemFailures" : [ ] } ',
    ],
)
def test_an_empty_report_is_a_success(answer, style):
    assert isinstance(told(answer, style=style), Success)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (items(""), 'itemIdentifier "" names no record'),
        (items(None), "itemIdentifier null names no record"),
        ({"batchItemFailures": [{"foo": "3"}]}, "has no itemIdentifier"),
        ({"batchItemFailures": [{"foo": None}]}, "has no itemIdentifier"),
        (items("3", "10"), 'itemIdentifier "10" names no record'),
        (items("3", "who"), 'itemIdentifier "who" names no record'),
        (items(3), "itemIdentifier 3 names no record"),
        (items({"partition": "x-0", "offset": 3}), "names no record"),
        ({"batchItemFailures": ["3"]}, "has no itemIdentifier"),
        ({"batchItemFailures": {"itemIdentifier": "3"}}, "is no list"),
        ({"batchItemFailures": "3"}, "is no list"),
        ({"batchItemFailures": 3}, "is no list"),
        ({"foo": []}, "batchItemFailures is missing"),
        ({"statusCode": 200}, "batchItemFailures is missing"),
        ("done", "batchItemFailures is missing"),
        (7, "batchItemFailures is missing"),
        ([1], "batchItemFailures is missing"),
        (b"{", "cannot be read"),
        (b"\xff", "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
        (b'"' + b"x" * REPORT_BYTES_MAX + b'"', "too large for a report"),
    ],
)
def test_a_report_that_cannot_be_read_fails_the_whole_batch(answer, said, style):
    failed = told(answer, style=style)

    assert isinstance(failed, Failure)
    assert failed.fault is Fault.REPORT
    assert said in failed.message
    assert failed.report == REPORT


def test_on_a_stream_the_lowest_one_is_where_it_begins_again():
    partial = told(items("7", "4", "4"))

    assert isinstance(partial, Partial)
    assert (partial.done.first, partial.done.last) == (0, 3)
    assert (partial.rest.first, partial.rest.last) == (4, 9)


def test_elsewhere_exactly_the_listed_ones_stay():
    partial = told(items("7", "4", "5"), style=Style.LISTED)

    assert isinstance(partial, Partial)
    assert positions(partial.rest.runs) == [4, 5, 7]
    assert positions(partial.done.runs) == [0, 1, 2, 3, 6, 8, 9]


@pytest.mark.parametrize("style", STYLES)
def test_a_batch_of_which_everything_failed_has_nothing_done(style):
    partial = told(items(*map(str, range(10))), style=style)

    assert isinstance(partial, Partial)
    assert partial.done is None
    assert positions(partial.rest.runs) == list(range(10))


@given(logs(), st.data(), st.sampled_from(STYLES))
def test_each_position_is_on_one_side_and_what_failed_is_never_done(log, data, style):
    whole = Batch(tuple(log), attempt=2)
    held = positions(whole.runs)
    if not held:
        return
    failed = data.draw(st.lists(st.sampled_from(held), min_size=1))

    partial = told(items(*map(str, failed)), whole, style)

    done = stretch(partial.done.runs) if partial.done else []
    rest = stretch(partial.rest.runs)
    assert sorted(done + rest) == stretch(whole.runs)
    assert set(failed) <= set(rest)
    assert partial.rest.attempt == 2
    if style is Style.LISTED:
        assert positions(partial.rest.runs) == sorted(set(failed))
    else:
        assert rest[0] == min(failed)


@given(st.sets(st.integers(0, 60)))
def test_stretches_hold_the_same_positions_and_have_gaps_between_them(chosen):
    found = stretches(sorted(chosen))

    assert [p for first, last in found for p in range(first, last + 1)] == sorted(chosen)
    assert all(b > a + 1 for (_, a), (b, _) in pairwise(found))
