"""Lambda's two formats of a function's log."""

from __future__ import annotations

import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamfaas.guest.python.failure import failure
from streamfaas.guest.python.log_format import LINE_BYTES_MAX, log_format, one_line

TEXT, JSON = log_format("Text", ""), log_format("JSON", "INFO")
FAILURE = failure("ValueError", "two\nlines", "id", ['  File "app.py", line 1\n    x = 1\n'])


def record(message="paid", *args, level=logging.INFO, **fields):
    made = logging.LogRecord(
        "shop.orders", level, "/var/task/app.py", 7, message, args, None, "pay"
    )
    made.created, made.msecs = 1_764_100_000.25, 250.0
    made.__dict__.update({"aws_request_id": "an-id", **fields})
    return made


def raised():
    try:
        raise KeyError("total")
    except KeyError as error:
        return type(error), error, error.__traceback__


def document(made):
    return json.loads(JSON.formatter.format(made))


def test_a_record_of_text_is_lambda_s_line():
    line = TEXT.formatter.format(record("paid %d", 17))
    assert line == "[INFO]\t2025-11-25T19:46:40.250Z\tan-id\tpaid 17\n"


def test_a_record_of_json_has_lambda_s_fields_in_their_order():
    assert list(document(record("paid %d", 17)).items()) == [
        ("timestamp", "2025-11-25T19:46:40.250Z"),
        ("level", "INFO"),
        ("message", "paid 17"),
        ("logger", "shop.orders"),
        ("requestId", "an-id"),
    ]


def test_an_exception_has_its_fields():
    told = document(record("no", level=logging.ERROR, exc_info=raised()))
    assert told["errorType"] == "KeyError"
    assert told["errorMessage"] == "'total'"
    assert told["location"] == "/var/task/app.py:pay:7"
    assert "raise KeyError" in told["stackTrace"][-1]
    assert document(record(exc_info=(None, None, None))) == document(record())


def test_what_is_extra_stands_beside_and_takes_no_field_s_place():
    told = document(record(order=17, when=object, level_of_trust=None, requestId="forged"))
    assert told["order"] == 17
    assert told["when"] == "<class 'object'>"
    assert "level_of_trust" not in told
    assert told["requestId"] == "an-id"


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (10, "DEBUG"),
        (25, "INFO"),
        (30, "WARNING"),
        (49, "ERROR"),
        (50, "CRITICAL"),
        (70, "CRITICAL"),
    ],
)
def test_a_level_between_two_is_the_lower_one(number, name):
    assert document(record(level=number))["level"] == name


@pytest.mark.parametrize(
    ("name", "level"),
    [("", None), ("TRACE", 10), ("DEBUG", 10), ("WARN", 30), ("FATAL", 50), ("LOUD", None)],
)
def test_levels_have_lambda_s_names(name, level):
    assert log_format("JSON", name).level == level


def test_an_uncaught_error_of_text_is_one_line_with_lambda_s_marks():
    assert TEXT.error_line(FAILURE) == (
        "[ERROR] ValueError: two\rlines\rTraceback (most recent call last):\r"
        '\xa0\xa0File "app.py", line 1\r\xa0\xa0\xa0\xa0x = 1\n'
    )


def test_an_uncaught_error_of_json_is_a_document():
    told = json.loads(JSON.error_line(FAILURE))
    assert list(told)[:2] == ["timestamp", "level"]
    assert told["level"] == "ERROR"
    assert {name: told[name] for name in FAILURE} == FAILURE


@given(
    st.text(max_size=30).map(lambda text: text * 4_000),
    st.lists(st.text(max_size=5).map(lambda text: text * 2_000), max_size=40),
)
def test_a_document_that_is_too_large_for_a_line_is_cut_and_is_one_still(message, values):
    fields = {f"extra{at}": value for at, value in enumerate(values)}
    line = JSON.formatter.format(record(message, **fields))
    assert len(line.encode("utf-8", "backslashreplace")) <= LINE_BYTES_MAX
    told = json.loads(line)
    assert told["level"] == "INFO"
    assert told["requestId"] == "an-id"
    assert message.startswith(told["message"].removesuffix("…"))


@given(st.text(), st.dictionaries(st.text(min_size=1), st.text() | st.integers(), max_size=3))
def test_whatever_is_logged_is_one_line_in_either_format(message, extra):
    fields = {name: value for name, value in extra.items() if name not in record().__dict__}
    for form in (TEXT, JSON):
        line = one_line(form.formatter.format(record(message, **fields)))
        assert line.count("\n") == 1
        assert line.endswith("\n")
    assert document(record(message, **fields))["message"] == message
