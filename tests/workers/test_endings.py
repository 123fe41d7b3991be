from __future__ import annotations

import signal

import orjson
from hypothesis import given
from hypothesis import strategies as st

from streamfaas.flow.outcome import NO_REPORT, Failure, Fault
from streamfaas.workers import endings


def test_a_timeout_is_told_as_lambda_tells_it():
    failure = endings.timed_out(3).of("an-id")
    assert failure == Failure(
        Fault.TIMEOUT,
        "Sandbox.Timedout",
        "RequestId: an-id Error: Task timed out after 3.00 seconds",
    )


def test_a_process_that_ends_is_told_as_lambda_tells_it():
    told = {
        None: "Runtime exited without providing a reason",
        0: "Runtime exited without providing a reason",
        1 << 8: "Runtime exited with error: exit status 1",
        255 << 8: "Runtime exited with error: exit status 255",
        signal.SIGKILL: "Runtime exited with error: signal: killed",
        signal.SIGSEGV | 0x80: "Runtime exited with error: signal: segmentation fault",
        signal.SIGABRT: "Runtime exited with error: signal: aborted",
        40: "Runtime exited with error: signal: real-time signal 6",
    }
    for status, text in told.items():
        failure = endings.exited(Fault.CRASH, status).of("an-id")
        assert failure.type == "Runtime.ExitError"
        assert failure.message == f"RequestId: an-id Error: {text}"


def test_an_answer_that_is_too_large_is_told_as_lambda_tells_it():
    failure = endings.too_large(6_291_556).of("an-id")
    assert failure.fault is Fault.FUNCTION
    assert failure.type == "Function.ResponseSizeTooLarge"
    assert failure.message == (
        "Response payload size exceeded maximum allowed payload size (6291556 bytes)."
    )


def test_an_error_of_the_function_keeps_its_words_and_its_stack():
    text = orjson.dumps({"errorMessage": "no", "errorType": "ValueError", "stackTrace": ["a", "b"]})
    failure = endings.raised(text, 1, -1, NO_REPORT)
    assert failure == Failure(Fault.FUNCTION, "ValueError", "no", ("a", "b"))
    assert endings.raised(text, 2, 7, NO_REPORT).fault is Fault.OVERSIZE
    assert endings.raised(text, 2, 7, NO_REPORT).until == 7
    assert endings.raised(text, 3, -1, NO_REPORT).fault is Fault.CORRUPT


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(
    st.one_of(
        st.binary(max_size=200),
        st.builds(
            lambda message, kind, stack: orjson.dumps(
                {"errorMessage": message, "errorType": kind, "stackTrace": stack}
            ),
            json_values,
            json_values,
            json_values,
        ),
    ),
    st.integers(0, 2**32 - 1),
    st.integers(-(2**63), 2**63 - 1),
)
def test_whatever_an_error_says_is_a_failure(text, kind, until):
    failure = endings.raised(text, kind, until, NO_REPORT)
    assert isinstance(failure.type, str)
    assert failure.type
    assert isinstance(failure.message, str)
    assert all(isinstance(frame, str) for frame in failure.stack)


def test_a_message_of_any_size_is_cut():
    text = orjson.dumps(
        {"errorMessage": "x" * 200_000, "errorType": "y" * 9999, "stackTrace": ["z"] * 9999}
    )
    failure = endings.raised(text, 1, -1, NO_REPORT)
    assert len(failure.message) == endings.MESSAGE_CHARS_MAX
    assert len(failure.type) == 256
    assert len(failure.stack) == 256
