"""Durations, sizes and ranges."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamfaas.config import units


@given(st.integers(0, 10**12))
def test_a_duration_reads_back_as_it_was_written(milliseconds):
    seconds = milliseconds / 1000
    assert units.parse_duration(units.format_duration(seconds)) == seconds


@given(st.integers(0, 10**12))
def test_a_size_reads_back_as_it_was_written(size):
    assert units.parse_size(units.format_size(size)) == size


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_a_range_reads_back_as_it_was_written(a, b):
    low, high = sorted((a / 1000, b / 1000))
    assert units.parse_range(units.format_range(low, high)) == (low, high)


@given(st.text())
def test_any_text_is_a_number_or_a_unit_error(text):
    for parse in (units.parse_duration, units.parse_size, units.parse_range):
        with suppress(units.UnitError):
            parse(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0.0),
        ("250ms", 0.25),
        ("30s", 30.0),
        ("2m", 120.0),
        ("1h", 3600.0),
        ("1.5m", 90.0),
        ("0.001s", 0.001),
        ("7d", 604_800.0),
    ],
)
def test_durations_mean_what_they_say(text, seconds):
    assert units.parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0B", 0),
        ("256KB", 1 << 18),
        ("128MB", 1 << 27),
        ("6MB", 6 << 20),
        ("1GB", 1 << 30),
        ("1MiB", 1 << 20),
    ],
)
def test_sizes_are_multiples_of_1024(text, size):
    assert units.parse_size(text) == size


@pytest.mark.parametrize(
    ("parse", "text", "hint"),
    [
        (units.parse_duration, "10", 'a unit is needed: write "10s"'),
        (units.parse_duration, "30S", 'write "30s"'),
        (units.parse_duration, "30 s", 'write "30s"'),
        (units.parse_duration, "half a minute", 'write "250ms", "30s", "2m" or "1h"'),
        (units.parse_duration, "0.1ms", "give a whole number of milliseconds"),
        (units.parse_duration, "-1s", 'write "250ms", "30s", "2m" or "1h"'),
        (units.parse_duration, "\u0661s", 'write "250ms", "30s", "2m" or "1h"'),
        (units.parse_size, "128", 'a unit is needed: write "128MB"'),
        (units.parse_size, "128mb", 'write "128MB"'),
        (units.parse_size, "1.5GB", 'write "256KB", "128MB" or "1GB"'),
        (units.parse_range, "1s", 'write it as "1s..60s"'),
        (units.parse_range, "60s..1s", 'write "1s..60s"'),
    ],
)  # fmt: skip
def test_what_is_no_unit_is_told_with_its_mend(parse, text, hint):
    with pytest.raises(units.UnitError) as error:
        parse(text)
    assert error.value.hint == hint
