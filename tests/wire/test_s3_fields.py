from __future__ import annotations

import pytest

from streamfaas.wire.s3_fields import milliseconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:01Z", 1000),
        ("1970-01-01T00:00:01.5Z", 1500),
        ("1970-01-01 00:00:01.123456Z", 1123),
        ("1970-01-01T01:00:01.123456789+01:00", 1123),
        ("1970-01-01T00:00:01", 1000),
        ("0.000000", None),
        ("1970-13-01T00:00:01Z", None),
        ("9999-12-31T23:59:59.999-12:00", None),
        (7, None),
        (None, None),
    ],
)
def test_times_come_in_many_forms(text, expected):
    assert milliseconds(text) == expected
