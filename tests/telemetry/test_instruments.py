import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamfaas.telemetry.instruments import (
    BYTES,
    RECORDS,
    SECONDS,
    SERIES_MAX,
    Buckets,
    Instrument,
    Registry,
)


@given(st.lists(st.floats(min_value=0, max_value=1000)))
def test_a_histogram_counts_each_value_at_its_bound_and_above(values):
    buckets = Buckets(SECONDS)
    for value in values:
        buckets.observe(value)
    assert sum(buckets.counts) == len(values)
    for at, bound in enumerate(SECONDS, 1):
        assert sum(buckets.counts[:at]) == sum(value <= bound for value in values)


@pytest.mark.parametrize("bounds", [SECONDS, BYTES, RECORDS])
def test_bounds_rise(bounds):
    assert list(bounds) == sorted(set(bounds))


def test_durations_have_the_bounds_of_opentelemetry_and_those_of_long_runs():
    assert SECONDS[:2] == (0.005, 0.01)
    assert SECONDS[13:] == (10.0, 30.0, 60.0, 300.0, 900.0)


def test_series_without_end_go_into_one():
    counter = Registry().counter("many", "Many.", "function")
    for number in range(SERIES_MAX + 10):
        counter.cell(f"f{number}").value += 1
    assert len(counter.cells) == SERIES_MAX + 1
    assert counter.cells["other",].value == 10
    counter.cell("f0").value += 1
    assert counter.cells["f0",].value == 2


@pytest.mark.parametrize("labels", [("request_id",), ("function", "offset"), ("worker",)])
def test_a_label_that_nothing_bounds_is_refused(labels):
    with pytest.raises(AssertionError, match="nothing bounds"):
        Instrument("a", "counter", "A.", labels)


@pytest.mark.parametrize(("name", "unit"), [("took", "seconds"), ("done_total", "")])
def test_a_name_says_its_unit_and_not_its_kind(name, unit):
    with pytest.raises(AssertionError):
        Instrument(name, "counter", "A.", (), unit)


def test_a_name_is_given_once():
    registry = Registry()
    registry.counter("a", "A.")
    with pytest.raises(AssertionError):
        registry.histogram("a", "A.", bounds=SECONDS)
