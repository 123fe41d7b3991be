"""Whatever a function does, in real workers: what its caller is told, and that the next call is
served (line 9.9; points 10.11 and 10.12; tables 3.1 and 3.2), and raw batches of Kafka (9.10)."""

from __future__ import annotations

import os
import re
import signal
from contextlib import suppress
from pathlib import Path

import anyio
import orjson
import pytest

from daemon_process import descendants
from kafka_batches import GZIP, NONE, Written, batch
from pool_scene import function, pool
from streamfaas.flow.admission import Share
from streamfaas.flow.batch import Batch
from streamfaas.flow.event import ANSWER_BYTES_MAX
from streamfaas.flow.invocation import Invocation
from streamfaas.flow.outcome import Failure, Fault, Success
from streamfaas.flow.partial import Style, read
from streamfaas.flow.record import Lane, run_of
from streamfaas.sources.kafka import Kafka, KafkaOptions
from streamfaas.sources.kafka.records import scan
from streamfaas.telemetry.signals import WorkerEnded
from streamfaas.wire.documents import error_payload
from streamfaas.workers import pool as workers

pytestmark = pytest.mark.slow

HANDLER = """
import ctypes, os, sys, time

calls = 0

class OrderError(Exception):
    pass

def inner(event):
    raise OrderError("no total in %s" % event)

def main(event, context):
    global calls
    calls += 1
    match event.get("do"):
        case "raise": inner(7)
        case "exit": sys.exit(event["status"])
        case "leave": os._exit(event["status"])
        case "allocate": bytearray(1 << 30)
        case "crash": ctypes.string_at(0)
        case "hang":
            with open("/proc/self/comm", "w") as name: name.write("hanging")
            time.sleep(60)
        case "large": return "x" * (event["bytes"] - 2)
        case "set": return {1, 2}
        case "nothing": return None
        case "return": return event["value"]
        case "keep":
            found = sorted(int(name[5:]) for name in os.listdir("/tmp") if name.startswith("call-"))
            with open(f"/tmp/call-{calls}", "w"): pass
            return [calls, found]
        case "count":
            (records,) = event["records"].values()
            return len(records)
        case None:
            (records,) = event["records"].values()
            return [record["offset"] for record in records]
    return calls
"""

TIMEOUT_SECONDS = 20.0


def calling(tmp_path, *calls, **options):
    """What becomes of calls, one after the other."""
    return ended(tmp_path, *calls, **options)[0]


def ended(tmp_path, *calls, **options):
    """What becomes of calls, one after the other; and the workers that have ended by then."""
    outcomes, gone = [], set()

    async def body(s):
        for call in calls:
            outcomes.append(await s.call(**call))
        gone.update(each.worker for each in s.signals if isinstance(each, WorkerEnded))

    options = {"timeout_seconds": TIMEOUT_SECONDS, **options}
    pool(tmp_path, body, function(tmp_path, source=HANDLER, **options))
    return outcomes, gone


def told(failure, call):
    assert isinstance(failure, Failure), failure
    return error_payload(failure, f"request-{call['do']}")


def failed(tmp_path, call, *, globals_gone, **options):
    """The payload that the caller gets. The next call is served; the process that failed, and its
    globals with it, is gone or not."""
    (failure, after), gone = ended(tmp_path, call, {"do": "number"}, **options)
    assert isinstance(after, Success)
    assert failure.report.worker
    assert (failure.report.worker in gone) is globals_gone
    return told(failure, call)


# -- errors of the function


def test_3_02_an_exception_is_told_with_its_class_its_request_and_its_own_frames(tmp_path):
    payload = failed(tmp_path, {"do": "raise"}, globals_gone=False)

    stack = payload.pop("stackTrace")
    assert payload == {
        "errorMessage": "no total in 7",
        "errorType": "OrderError",
        "requestId": "request-raise",
    }
    assert [re.search(r"in (\w+)", frame)[1] for frame in stack] == ["main", "inner"]
    assert all(frame.startswith('  File "') for frame in stack)


UNIMPORTABLE = {
    "import nowhere_to_be_found\n": (
        "Runtime.ImportModuleError",
        "Unable to import module 'app': No module named 'nowhere_to_be_found'",
    ),
    "def main(:\n": ("Runtime.UserCodeSyntaxError", "Syntax error in module 'app': "),
    "x = 1\n": ("Runtime.HandlerNotFound", "Handler 'main' missing on module 'app'"),
    "raise ValueError('early')\n": ("ValueError", "early"),
}


@pytest.mark.parametrize("source", UNIMPORTABLE, ids=[kind for kind, _ in UNIMPORTABLE.values()])
def test_10_11_what_cannot_be_imported_is_told_with_an_empty_request_id(tmp_path, source):
    outcomes = []

    async def body(s):
        outcomes.append(await s.call("any"))

    pool(tmp_path, body, function(tmp_path, source=source))

    payload = told(outcomes[0], {"do": "any"})
    kind, says = UNIMPORTABLE[source]
    assert payload["errorType"] == kind
    assert payload["errorMessage"].startswith(says)
    assert payload["requestId"] == ""
    assert isinstance(payload["stackTrace"], list)


def test_3_02_an_answer_that_is_no_json_is_a_marshal_error(tmp_path):
    payload = failed(tmp_path, {"do": "set"}, globals_gone=False)

    assert payload["errorType"] == "Runtime.MarshalError"
    assert payload["errorMessage"].startswith("Unable to marshal response: ")
    assert payload["requestId"] == "request-set"


# -- functions that do not come back


def test_9_09_a_timeout_is_told_in_lambda_s_words_and_the_next_invoke_works(tmp_path):
    payload = failed(tmp_path, {"do": "hang"}, globals_gone=True, timeout_seconds=1.0)

    assert payload == {
        "errorType": "Sandbox.Timedout",
        "errorMessage": "RequestId: request-hang Error: Task timed out after 1.00 seconds",
    }


@pytest.mark.parametrize("do", ["exit", "leave"])
def test_10_11_an_exit_inside_of_the_handler_is_a_runtime_without_a_reason(tmp_path, do):
    payload = failed(tmp_path, {"do": do, "status": 0}, globals_gone=True)

    assert payload == {
        "errorType": "Runtime.ExitError",
        "errorMessage": f"RequestId: request-{do} Error: Runtime exited without providing a reason",
    }


def test_9_09_a_status_of_the_exit_is_told(tmp_path):
    payload = failed(tmp_path, {"do": "leave", "status": 3}, globals_gone=True)

    assert payload["errorType"] == "Runtime.ExitError"
    assert payload["errorMessage"].endswith("Error: Runtime exited with error: exit status 3")


def test_9_09_a_crash_is_told_at_once_and_not_after_the_timeout(tmp_path):
    payload = failed(tmp_path, {"do": "crash"}, globals_gone=True, timeout_seconds=60.0)

    assert payload["errorType"] == "Runtime.ExitError"
    assert "Runtime exited with error: signal: segmentation fault" in payload["errorMessage"]


def named(name):
    """The process below this one that calls itself so."""
    for pid in descendants(os.getpid()):
        with suppress(OSError):
            if Path(f"/proc/{pid}/comm").read_text().strip() == name:
                return pid
    return None


def test_9_09_what_the_kernel_kills_for_want_of_memory_is_told_as_killed(tmp_path):
    outcomes = []

    async def body(s):
        assert await s.call("number")

        async def hang():
            outcomes.append(await s.call("hang"))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hang)
            while not (worker := named("hanging")):  # noqa: ASYNC110 - it is a process
                await anyio.sleep(0.01)
            # as the kernel does it, and nobody else sends that signal
            os.kill(worker, signal.SIGKILL)
        outcomes.append(await s.call("number"))

    one = Share(maximum=1)
    pool(tmp_path, body, function(tmp_path, source=HANDLER, share=one, timeout_seconds=30.0))

    failure, after = outcomes
    assert failure.fault is Fault.MEMORY
    payload = told(failure, {"do": "hang"})
    assert payload["errorType"] == "Runtime.ExitError"
    assert payload["errorMessage"].endswith("Error: Runtime exited with error: signal: killed")
    assert isinstance(after, Success)
    assert after.report.worker != failure.report.worker


def test_9_09_what_the_limit_of_a_worker_s_memory_refuses_is_an_error_of_the_function(tmp_path):
    payload = failed(tmp_path, {"do": "allocate"}, globals_gone=False)

    assert payload["errorType"] == "MemoryError"


def test_9_09_tmp_and_globals_are_kept_from_one_invoke_to_the_next_of_the_same_worker(tmp_path):
    outcomes = calling(tmp_path, *[{"do": "keep"}] * 6)

    seen = {}
    for outcome in outcomes:
        calls, found = orjson.loads(outcome.answer)
        before = seen.setdefault(outcome.report.worker, [])
        assert (calls, found) == (len(before) + 1, list(range(1, calls)))
        before.append(calls)
    assert len(seen) < 6


# -- sizes


def test_9_09_an_answer_over_6_mb_and_100_bytes_is_told_in_lambda_s_words(tmp_path):
    call = {"do": "large", "bytes": ANSWER_BYTES_MAX + 1}

    payload = failed(tmp_path, call, globals_gone=False)

    assert payload == {
        "errorType": "Function.ResponseSizeTooLarge",
        "errorMessage": "Response payload size exceeded maximum allowed payload size "
        "(6291556 bytes).",
    }


def test_10_11_an_answer_of_6_mb_and_100_bytes_is_taken(tmp_path):
    call = {"do": "large", "bytes": ANSWER_BYTES_MAX}

    answer = calling(tmp_path, call)[0]

    assert isinstance(answer, Success)
    assert len(answer.answer) == ANSWER_BYTES_MAX == 6 * 1024 * 1024 + 100


def test_3_01_a_function_that_returns_nothing_answers_null(tmp_path):
    assert calling(tmp_path, {"do": "nothing"})[0].answer == b"null"


def test_1_8_what_a_python_function_returns_for_nothing_failed_is_read_as_success(tmp_path):
    lane = Lane("f/t", "topic-0")
    whole = Batch((run_of(lane, 0, 0, scan(_raw([b"v"]), 0, lane.name).batches),))
    nothing = [{"batchItemFailures": []}, {"batchItemFailures": None}, {}, None, "", []]

    outcomes = calling(tmp_path, *[{"do": "return", "value": each} for each in nothing])

    assert len(outcomes) == 6
    for outcome in outcomes:
        assert read(outcome, whole, Style.LISTED, lambda batch, name: None) is outcome


# -- the 6 MB of an event that a worker makes out of raw batches


def _raw(values, codec=NONE):
    written = [Written(at, 1, 0, None, value) for at, value in enumerate(values)]
    return batch(written, codec=codec)


def raw_calls(tmp_path, values, codec):
    """What a worker makes of one reply of a broker: the offsets that it ran, call by call."""
    options = KafkaOptions(("k1:9092",), "group", "latest", topics=("topic",))
    source = Kafka("f/t", options, clock=lambda: 0.0, emit=print)
    lane = Lane("f/t", "topic-0")
    reply = _raw(values, codec)
    left = Batch((run_of(lane, 0, len(values) - 1, scan(reply, 0, lane.name).batches),))
    outcomes = []

    async def body(s):
        nonlocal left
        while left is not None:
            outcome = await s.pool.call(Invocation("r", "f", source.shape(left)))
            outcomes.append(outcome)
            left = None if outcome.until is None else left.cut(outcome.until)[1]

    pool(tmp_path, body, function(tmp_path, source=HANDLER, timeout_seconds=30.0))
    return [orjson.loads(each.answer) for each in outcomes]


@pytest.mark.parametrize("codec", [NONE, GZIP], ids=["plain", "gzip"])
def test_9_10_of_raw_records_of_1_mb_a_worker_puts_at_most_4_into_one_event(tmp_path, codec):
    values = [bytes(1 << 20) for _ in range(10)]

    assert raw_calls(tmp_path, values, codec) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_10_12_a_throttle_is_told_in_lambda_s_words(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "WAITING_MAX", 1)
    outcomes = []

    async def body(s):
        async def one():
            outcomes.append(await s.call("hang"))

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(one)

    made = function(tmp_path, source=HANDLER, share=Share(maximum=1), timeout_seconds=0.2)
    pool(tmp_path, body, made)

    throttled = [each for each in outcomes if each.fault is Fault.THROTTLED]
    assert {(each.type, each.message) for each in throttled} == {
        ("TooManyRequestsException", "Rate Exceeded.")
    }
