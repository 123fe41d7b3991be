"""Asynchronous invocations (line 9.5; points 10.1, 10.2 and 10.5; 3.5), from the durable backlog
to the destinations, in simulated time."""

from __future__ import annotations

from itertools import pairwise

import anyio
import orjson
import pytest

from asynchronous_scene import Invocations, invoked
from streamfaas.destinations import HOPS_MAX
from streamfaas.destinations.function import Function
from streamfaas.flow.outcome import Failure, Fault, Success
from streamfaas.testing.simulation import simulate
from streamfaas.wire import documents
from streamfaas.wire.documents import AsyncEnding

pytestmark = pytest.mark.slow

EVENT = b'{"order": 7}'
QUALIFIED = "arn:aws:lambda:us-east-1:000000000000:function:f:$LATEST"
BAD = Failure(Fault.FUNCTION, "KeyError", "'total'", ("line 1",))
THROTTLED = Failure(Fault.THROTTLED, "TooManyRequestsException", "Rate Exceeded.")
FINE = Success(b'{"done": true}')
SIX_HOURS = 6 * 3600


def failing(event, attempt):
    return BAD


def in_turn(*outcomes):
    left = list(outcomes)
    return lambda event, attempt: left.pop(0) if len(left) > 1 else left[0]


# -- three runs


def test_9_05_an_event_that_fails_runs_3_times_at_0_60_and_180_s_under_one_request_id(tmp_path):
    done = invoked(Invocations(tmp_path, failing), EVENT, "r-7")

    assert done.runs() == [0, 60, 180]
    assert {(id_, event) for _, id_, event, _ in done.calls} == {("r-7", EVENT)}
    (document,) = done.failed.documents
    assert document["requestContext"] == {
        "requestId": "r-7",
        "functionArn": QUALIFIED,
        "condition": "RetriesExhausted",
        "approximateInvokeCount": 3,
    }
    assert document["responseContext"] == {
        "statusCode": 200,
        "executedVersion": "$LATEST",
        "functionError": "Unhandled",
    }
    assert document["requestPayload"] == {"order": 7}
    assert document["responsePayload"]["errorType"] == "KeyError"


@pytest.mark.parametrize(("retries", "runs"), [(0, [0]), (1, [0, 60]), (2, [0, 60, 180])])
def test_9_05_fewer_retries_may_be_asked_for(tmp_path, retries, runs):
    done = invoked(Invocations(tmp_path, failing, f"{{retries: {retries}}}"), EVENT)

    assert done.runs() == runs
    count = done.failed.documents[0]["requestContext"]["approximateInvokeCount"]
    assert count == len(runs)


def test_9_05_an_event_that_succeeds_at_last_is_told_as_a_success(tmp_path):
    done = invoked(Invocations(tmp_path, in_turn(BAD, FINE)), EVENT)

    assert done.runs() == [0, 60]
    assert done.failed.documents == done.dead.documents == []
    (document,) = done.answered.documents
    assert document["requestContext"]["condition"] == "Success"
    assert document["requestContext"]["approximateInvokeCount"] == 2
    assert document["responseContext"] == {"statusCode": 200, "executedVersion": "$LATEST"}
    assert document["responsePayload"] == {"done": True}


def test_9_05_the_next_run_is_due_when_it_was_though_the_daemon_ends_in_between(tmp_path):
    first = invoked(Invocations(tmp_path, failing), EVENT, "r-7", seconds=20)

    second = Invocations(tmp_path, failing, start=30.0)

    async def main():
        async with second.running():
            await second.until_nothing_waits()

    simulate(main)

    assert first.runs() + second.runs() == [0, 60, 180]
    assert {id_ for _, id_, *_ in first.calls + second.calls} == {"r-7"}
    context = second.failed.documents[0]["requestContext"]
    assert context["approximateInvokeCount"] == 3


# -- dead letters


def test_9_05_a_dead_letter_is_the_event_alone_with_three_attributes_beside_it(tmp_path):
    done = invoked(Invocations(tmp_path, failing), EVENT, "r-7")

    (letter,) = done.dead.letters
    assert orjson.loads(letter.document) == {"order": 7}
    assert [tuple(each) for each in letter.attributes] == [
        ("RequestID", "String", "r-7"),
        ("ErrorCode", "Number", "200"),
        ("ErrorMessage", "String", "'total'"),
    ]
    # both may be asked for, and both are sent
    assert len(done.failed.letters) == 1


def test_9_05_of_an_error_message_a_dead_letter_has_the_first_kilobyte(tmp_path):
    long = Failure(Fault.FUNCTION, "E", "é" * 1000)

    done = invoked(Invocations(tmp_path, in_turn(long), "{retries: 0}"), EVENT)

    assert done.dead.letters[0].attributes[2].value == "é" * 512


# -- throttles, and what is too old


def test_9_05_a_throttle_is_waited_out_longer_and_longer_and_is_no_retry(tmp_path):
    done = invoked(Invocations(tmp_path, in_turn(*[THROTTLED] * 14, BAD)), EVENT)

    waits = [after - before for before, after in pairwise(done.runs())]
    assert waits[:3] == [1, 1, 2]
    assert max(waits[:14]) == 300
    assert waits[14:] == [60, 120]
    context = done.failed.documents[0]["requestContext"]
    assert context["condition"] == "RetriesExhausted"
    assert context["approximateInvokeCount"] == 3


def test_10_05_an_event_is_too_old_as_soon_as_its_next_retry_would_be_too_late(tmp_path):
    done = invoked(Invocations(tmp_path, failing, "{max_age: 179s}"), EVENT, seconds=61)

    # the third run would be at 180 s: it is given up right after the second, and not at 179 s
    assert done.runs() == [0, 60]
    context = done.failed.documents[0]["requestContext"]
    assert context["condition"] == "EventAgeExceeded"
    assert context["approximateInvokeCount"] == 2
    assert done.failed.documents[0]["responseContext"]["functionError"] == "Unhandled"


def test_10_05_an_event_whose_next_retry_is_in_time_is_not_too_old(tmp_path):
    done = invoked(Invocations(tmp_path, failing, "{max_age: 181s}"), EVENT)

    assert done.runs() == [0, 60, 180]
    assert done.failed.documents[0]["requestContext"]["condition"] == "RetriesExhausted"


def test_10_05_an_event_that_is_throttled_for_ever_is_given_up_within_6_hours(tmp_path):
    done = invoked(Invocations(tmp_path, in_turn(THROTTLED)), EVENT)

    assert SIX_HOURS - 300 <= done.runs()[-1] <= SIX_HOURS
    assert done.failed.documents[0]["requestContext"]["condition"] == "EventAgeExceeded"


def test_10_02_what_never_ran_for_want_of_concurrency_tells_of_no_invoke_and_no_response():
    ending = AsyncEnding(documents.ZERO_CONCURRENCY, 0, None, "r-7", QUALIFIED[:-8], EVENT, 0.0)

    document = orjson.loads(documents.async_letters(ending)[0].document)

    assert document["requestContext"]["condition"] == "ZeroReservedConcurrency"
    assert document["requestContext"]["approximateInvokeCount"] == 0
    assert "responseContext" not in document


def test_10_01_the_arn_of_an_asynchronous_ending_is_qualified_and_its_words_are_its_own(tmp_path):
    done = invoked(Invocations(tmp_path, failing, "{retries: 0}"), EVENT)

    context = done.failed.documents[0]["requestContext"]
    assert context["functionArn"] == QUALIFIED
    assert context["condition"] == "RetriesExhausted"


# -- chains of functions


@pytest.mark.parametrize("outcome", [FINE, BAD], ids=["success", "failure"])
def test_3_05_a_loop_of_functions_ends_after_16_hops_where_it_can_be_seen(tmp_path, outcome):
    way = "on_success" if outcome is FINE else "set_aside"
    # a configuration with such a loop is refused; this is what stands behind it
    itself = {way: lambda backlog: Function("f", backlog.accept)}
    loop = Invocations(tmp_path, in_turn(outcome), "{retries: 0}", **itself)

    done = invoked(loop, EVENT)

    assert len(done.calls) == HOPS_MAX + 1 == 17
    (document,) = done.last.documents
    assert document["requestContext"]["condition"] == "RecursiveInvocation"
    assert "responseContext" not in document
    assert len({id_ for _, id_, *_ in done.calls}) == 17  # each is an event of its own


@pytest.mark.parametrize(("hops", "sent_on"), [(0, True), (15, True), (16, False)])
def test_3_05_an_event_of_15_hops_is_told_of_and_one_of_16_goes_no_further(tmp_path, hops, sent_on):
    done = invoked(Invocations(tmp_path, in_turn(FINE)), EVENT, hops=hops)

    assert len(done.calls) == 1
    assert len(done.answered.documents) == sent_on
    assert len(done.last.documents) == (not sent_on)
    if sent_on:
        assert done.answered.letters[0].hops == hops + 1


# -- many events


def test_3_05_events_are_retried_each_for_itself_and_no_failing_one_holds_up_another(tmp_path):
    def answer(event, attempt):
        return BAD if orjson.loads(event)["n"] % 10 == 3 else FINE

    made = Invocations(tmp_path, answer)

    async def main():
        async with made.running():
            for n in range(50):
                await made.backlog.accept("f", b'{"n": %d}' % n, f"r-{n}")
            await anyio.sleep(30)
            assert len(made.answered.documents) == 45
            await made.until_nothing_waits()

    simulate(main)

    failed = {document["requestPayload"]["n"] for document in made.failed.documents}
    assert failed == {3, 13, 23, 33, 43}
    assert len(made.calls) == 45 + 3 * 5
