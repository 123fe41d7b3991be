from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guest_parts import libraries
from streamfaas.guest.python.failure import (
    FAILURE_BYTES_MAX,
    encode,
    failure,
    failure_of,
)
from streamfaas.guest.python.marshalling import make_dumps

DUMPS = make_dumps(libraries().orjson)


def raised(act) -> BaseException:
    with pytest.raises(BaseException) as caught:
        act()
    return caught.value


def test_an_exception_is_told_as_lambda_does():
    told = failure_of(raised(lambda: {}["missing"]), "id-1")
    assert list(told) == ["errorMessage", "errorType", "requestId", "stackTrace"]
    assert (told["errorMessage"], told["errorType"]) == ("'missing'", "KeyError")
    assert told["requestId"] == "id-1"
    assert told["stackTrace"][-1].startswith('  File "')
    assert "missing" in told["stackTrace"][-1]


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


def test_an_exception_that_cannot_be_printed_is_still_told():
    def act():
        raise Unprintable

    assert failure_of(raised(act))["errorMessage"] == "<unprintable Unprintable object>"


def test_endless_recursion_is_told_in_bounded_space():
    def dive(depth):
        return dive(depth + 1)

    told = failure_of(raised(lambda: dive(0)))
    assert told["errorType"] == "RecursionError"
    assert "repeated 197 more times" in told["stackTrace"][-1]
    assert len(encode(told, DUMPS)) <= FAILURE_BYTES_MAX


@given(
    st.text(max_size=50).map(lambda text: text * 4000),
    st.lists(st.text(max_size=30).map(lambda text: text * 1000), max_size=60),
    st.text(max_size=10).map(lambda text: text * 1000),
)
def test_no_failure_is_larger_than_the_bound(message, stack, kind):
    body = encode(failure(kind, message, "id", stack), DUMPS)
    assert len(body) <= FAILURE_BYTES_MAX
    told = json.loads(body)
    assert message.startswith(told["errorMessage"])
    assert told["requestId"] == "id"
