"""How grave a line of a function is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamfaas.telemetry.severity import LEVELS, level_of


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("[INFO]\t2026-11-25T19:46:40.250Z\tid\tpaid", "INFO"),
        ("[WARNING]\t2026-11-25T19:46:40.250Z\tid\tlate", "WARN"),
        ("[CRITICAL]\tx", "FATAL"),
        ("[ERROR] KeyError: 'total'\nTraceback (most recent call last):", "ERROR"),
        ("[1, 2, 3]", ""),
        ("[ORDERS] all", ""),
        ('{"timestamp":"2026","level":"ERROR","message":"no"}', "ERROR"),
        ('{"level": "warning", "message": "no"}', "WARN"),
        ('{"message":"' + "x" * 600 + '","level":"ERROR"}', ""),
        ("Traceback (most recent call last):", "ERROR"),
        ("paid", ""),
        ("", ""),
    ],
)
def test_a_line_tells_its_level(line, level):
    assert level_of(line, platform=False) == level


def test_a_platform_line_is_a_warning_where_something_failed():
    told = "REPORT RequestId: id\tDuration: 1.00 ms"
    assert level_of(told, platform=True) == "INFO"
    assert level_of(told + "\tStatus: timeout", platform=True) == "WARN"
    assert (
        level_of('{"type":"platform.report","record":{"status":"failure"}}', platform=True)
        == "WARN"
    )


@given(st.text(), st.booleans())
def test_no_line_has_another_level_than_there_are(line, platform):
    assert level_of(line, platform=platform) in {"", *LEVELS}
