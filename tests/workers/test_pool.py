"""The pool with real launchers and real worker processes."""

import asyncio
import contextlib
import os
import re
import signal
import sys
import time
from functools import partial
from pathlib import Path

import anyio
import anyio.lowlevel
import orjson
import pytest

from daemon_process import descendants, wait_gone
from pool_scene import function, pool
from streamfaas.flow.admission import Share
from streamfaas.flow.event import Encoding, Event
from streamfaas.flow.invocation import Invocation
from streamfaas.flow.outcome import Failure, Fault, Success
from streamfaas.flow.trace import Context
from streamfaas.functions import Isolation, Mount
from streamfaas.telemetry.signals import LogWritten
from streamfaas.workers.logs import RATE_LINE_COST_BYTES

pytestmark = pytest.mark.slow


def test_answers_come_back_and_workers_are_used_again(tmp_path):
    async def body(s):
        answers = [await s.call("echo", n=n) for n in range(5)]
        assert [orjson.loads(a.answer)["n"] for a in answers] == list(range(5))
        assert len({a.report.worker for a in answers}) == 1
        assert answers[0].report.init_seconds is not None
        assert all(a.report.init_seconds is None for a in answers[1:])

    pool(tmp_path, body)


@pytest.mark.parametrize(
    ("do", "more", "fault", "kind"),
    [
        ("fail", {}, Fault.FUNCTION, "KeyError"),
        ("exit", {"status": 3}, Fault.CRASH, "Runtime.ExitError"),
        ("crash", {}, Fault.CRASH, "Runtime.ExitError"),
        ("large", {}, Fault.FUNCTION, "Function.ResponseSizeTooLarge"),
        ("unserialisable", {}, Fault.FUNCTION, "Runtime.MarshalError"),
        ("sleep", {"seconds": 60}, Fault.TIMEOUT, "Sandbox.Timedout"),
        ("garbage", {}, Fault.CRASH, "Runtime.ExitError"),
        ("shut", {}, Fault.CRASH, "Runtime.ExitError"),
    ],
)
def test_whatever_a_handler_does_only_its_own_call_fails(tmp_path, do, more, fault, kind):
    async def body(s):
        outcome = await s.call(do, **more)
        assert isinstance(outcome, Failure)
        assert (outcome.fault, outcome.type) == (fault, kind)
        after = await s.call("echo")
        assert isinstance(after, Success)

    pool(tmp_path, body, function(tmp_path, timeout_seconds=1.0))


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGTERM, signal.SIGUSR1, signal.SIGKILL])
def test_a_signal_that_a_handler_sends_itself_is_how_it_ended(tmp_path, number):
    async def body(s):
        outcome = await s.call("signal", number=number)
        assert isinstance(outcome, Failure)
        assert outcome.type == "Runtime.ExitError"
        assert f"signal: {signal.strsignal(number).lower()}" in outcome.message
        outcome = await s.call("abort")
        assert "signal: aborted" in outcome.message
        outcome = await s.call("exit", status=100)
        assert "exit status 100" in outcome.message

    pool(tmp_path, body)


def test_a_process_that_asks_for_far_more_than_its_memory_gets_none(tmp_path):
    async def body(s):
        outcome = await s.call("allocate", megabytes=1500)
        assert isinstance(outcome, Failure)
        assert (outcome.fault, outcome.type) == (Fault.FUNCTION, "MemoryError")
        assert isinstance(await s.call("reserve", megabytes=300), Success)
        assert isinstance(await s.call("threads", count=60), Success)
        outcome = await s.call("reserve", function="large", megabytes=1500)
        assert isinstance(outcome, Success)
        outcome = await s.call("reserve", function="told", megabytes=300)
        assert isinstance(outcome, Failure)

    told = function(tmp_path, "told", isolation=Isolation(enforce=False, data_bytes=256 << 20))
    pool(tmp_path, body, function(tmp_path), function(tmp_path, "large", memory_mb=1600), told)


def test_a_timeout_says_so_in_lambda_s_words_and_takes_the_whole_tree(tmp_path):
    async def body(s):
        await s.call("echo")
        before = set(s.below())
        outcome = await s.call("daemonise")
        assert (
            outcome.message
            == "RequestId: request-daemonise Error: Task timed out after 1.00 seconds"
        )
        await s.call("echo")
        added = [p for p in set(s.below()) - before if "sleep" in _name(p)]
        assert wait_gone(added) == []

    pool(tmp_path, body, function(tmp_path, timeout_seconds=1.0))


def _name(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text()
    return ""


def test_output_is_attributed_and_a_flood_is_cut_with_a_mark(tmp_path):
    async def body(s):
        await s.call("print", text="hello\x1b[31m")
        said = s.lines()
        assert said[0] == "START RequestId: request-print Version: $LATEST"
        assert "\x1b" not in said[1]
        assert said[1].startswith("hello")
        assert said[2] == "END RequestId: request-print"
        assert said[3].startswith("REPORT RequestId: request-print\tDuration: ")
        await s.call("flood", lines=5000)
        kept = sum(len(line) for line in s.lines())
        assert kept < 1_200_000
        assert any("cut" in line for line in s.lines())

    pool(tmp_path, body, function(tmp_path, timeout_seconds=30.0))


def test_no_more_run_at_once_than_are_allowed_and_they_are_served_in_order(tmp_path):
    done = []

    async def body(s):
        async def one(number):
            await s.call("sleep", seconds=0.05)
            done.append(number)

        async with anyio.create_task_group() as tasks:
            for number in range(8):
                tasks.start_soon(one, number)
                await anyio.lowlevel.checkpoint()
            await anyio.sleep(0.08)
            assert s.pool.view()["f"]["workers"]["busy"] <= 2

    pool(tmp_path, body, function(tmp_path, share=Share(maximum=2)))
    assert done[::2] == sorted(done[::2])
    assert sorted(done) == list(range(8))


def test_a_call_that_is_given_up_kills_its_worker_and_frees_its_place(tmp_path):
    async def body(s):
        await s.call("echo")
        with anyio.move_on_after(0.3):
            await s.call("sleep", seconds=2.5)
        outcome = await s.call("echo")
        assert isinstance(outcome, Success)

    pool(tmp_path, body, function(tmp_path, share=Share(maximum=1)))


def test_a_handler_that_cannot_be_imported_fails_calls_without_spinning(tmp_path):
    async def body(s):
        outcome = await s.call("echo")
        assert outcome.fault is Fault.INIT
        assert outcome.type == "Runtime.ImportModuleError"
        started = [x for x in s.signals if type(x).__name__ == "WorkerEnded"]
        await anyio.sleep(0.5)
        ended = [x for x in s.signals if type(x).__name__ == "WorkerEnded"]
        assert len(ended) - len(started) <= 1

    pool(tmp_path, body, function(tmp_path, source="import nowhere_to_be_found\n"))


def test_workers_that_are_killed_are_replaced_and_leak_nothing(tmp_path):
    async def body(s):
        await s.call("echo")
        before = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(30):
            below = [p for p in s.below() if "zygote" in _name(p)]
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(s.call, "echo", "f")
                await anyio.sleep(0.01)
                with contextlib.suppress(ProcessLookupError):
                    if below:  # a launcher may be hit too, and takes its workers along
                        os.kill(below[-1], signal.SIGKILL)
        for _ in range(3):
            outcome = await s.call("echo")
        assert isinstance(outcome, Success)
        await anyio.sleep(0.5)
        assert len(list(Path("/proc/self/fd").iterdir())) <= before + 6

    pool(tmp_path, body, function(tmp_path, share=Share(maximum=2), timeout_seconds=2.0))


def test_a_bucket_is_seen_and_written_only_where_it_may_be(tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()

    async def body(s):
        assert isinstance(await s.call("count", seconds=0), Success)
        refused = await s.call("count", "g", seconds=0)
        assert refused.type == "OSError"
        assert "Read-only" in refused.message

    pool(
        tmp_path,
        body,
        function(tmp_path, mounts=(Mount(shared, "/mnt/shared", writable=True),)),
        function(tmp_path, "g", mounts=(Mount(shared, "/mnt/shared"),)),
    )
    assert (shared / "calls").read_bytes() == b"x"


def test_once_it_is_drained_who_waits_is_told_and_who_runs_goes_on(tmp_path):
    async def body(scene):
        async with asyncio.TaskGroup() as tasks:
            runs = tasks.create_task(scene.call("sleep", seconds=0.5))
            while not scene.pool.view()["f"]["workers"]["busy"]:  # noqa: ASYNC110 - nobody tells
                await anyio.sleep(0.01)
            waits = tasks.create_task(scene.call("echo"))
            await asyncio.sleep(0)
            scene.pool.drain()
            assert (await scene.call("echo")).fault is Fault.ABORTED
        assert isinstance(runs.result(), Success)
        assert waits.result().fault is Fault.ABORTED
        assert isinstance(await scene.call("echo"), Success)  # by the worker that is there

    pool(tmp_path, body, function(tmp_path, share=Share(maximum=1)))


def test_a_pool_moves_while_it_works_and_is_neither_late_nor_stalled(tmp_path):
    async def body(scene):
        rest = scene.pool.motion()
        assert (rest.stalled, rest.late_seconds) == (False, 0.0)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(scene.call, "sleep", seconds=0.3))
            await anyio.lowlevel.checkpoint()
            assert scene.pool.motion().stalled  # until a worker is there
            with anyio.fail_after(20):
                while not (work := scene.pool.motion()).late_seconds < 0:  # noqa: ASYNC110 - nobody tells
                    await anyio.sleep(0.01)
            assert not work.stalled
            assert work.late_seconds < -9
        after = scene.pool.motion()
        assert rest.steps < work.steps < after.steps
        assert (after.stalled, after.late_seconds) == (False, 0.0)

    pool(tmp_path, body, function(tmp_path, timeout_seconds=10.0))


def test_once_it_is_drained_no_worker_is_started(tmp_path):
    async def body(scene):
        scene.pool.drain()
        assert (await scene.call("echo")).fault is Fault.ABORTED
        assert scene.pool.view()["f"]["workers"]["starting"] == 0

    pool(tmp_path, body)


def test_a_launcher_that_is_killed_is_said_to_have_been(tmp_path):
    async def body(scene):
        assert isinstance(await scene.call("echo"), Success)
        launcher = scene.pool._teams["f"].launcher
        inner = descendants(launcher._process.pid)[0]
        os.kill(inner, signal.SIGKILL)
        calls = [asyncio.ensure_future(scene.call("echo")) for _ in range(4)]
        told = [each.message for each in await asyncio.gather(*calls) if type(each) is Failure]
        assert all("launcher ended with signal 9 (killed)" in each for each in told), told
        with anyio.fail_after(5):  # the workers may have answered once more before they died
            while scene.pool._teams["f"].launcher is launcher:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert told or "signal 9 (killed)" in scene.pool.view()["f"]["last_error"]

    pool(tmp_path, body)


LOGS = """
import logging
from aws_lambda_powertools import Logger

powertools, plain = Logger(service="shop"), logging.getLogger("orders")
plain.setLevel(logging.DEBUG)

@powertools.inject_lambda_context
def main(event, context):
    print("printed")
    plain.debug("too much")
    plain.warning("late", extra={"order": 17})
    powertools.info("paid", extra={"order": 18})
    try:
        event["total"]
    except KeyError:
        logging.exception("no total")
    raise ValueError("two\\nlines")
"""


def logging_function(folder, **options):
    return function(folder, source=LOGS, venv=Path(sys.prefix), init_seconds=60.0, **options)


def own(scene):
    return [each for each in scene.signals if isinstance(each, LogWritten) and not each.platform]


def test_text_is_logged_as_lambda_does_and_records_stay_whole(tmp_path):
    async def body(s):
        await s.call("log")
        printed, much, late, paid, no_total, raised = own(s)
        assert much.line.endswith("\ttoo much")
        assert printed.line == "printed"
        assert re.fullmatch(r"\[WARNING\]\t.{23}Z\trequest-log\tlate", late.line)
        document = orjson.loads(paid.line)
        assert (document["level"], document["order"]) == ("INFO", 18)
        assert document["function_request_id"] == "request-log"
        assert no_total.line.startswith("[ERROR]\t")
        assert no_total.line.endswith("\nKeyError: 'total'")
        assert raised.line.startswith("[ERROR] ValueError: two\nlines\nTraceback")
        assert {each.request_id for each in own(s)} == {"request-log"}
        assert all(each.time_ns > 10**18 for each in own(s))

    pool(tmp_path, body, logging_function(tmp_path))


def test_each_line_names_the_trace_that_it_belongs_to(tmp_path):
    async def body(s):
        context = Context(0x4BF92F3577B34DA6A3CE929D0E0E4736, 1)
        event = Event(Encoding.JSON, (b'{"do": "print", "text": "a"}',))
        await s.pool.call(Invocation("an-id", "f", event, context=context))
        lines = [each for each in s.signals if isinstance(each, LogWritten)]
        assert [each.trace_id for each in lines] == ["4bf92f3577b34da6a3ce929d0e0e4736"] * 4

    pool(tmp_path, body)


def test_json_is_logged_as_lambda_does_with_the_level_at_the_source(tmp_path):
    async def body(s):
        await s.call("log")
        printed, *documents = own(s)
        assert printed.line == "printed"
        late, paid, no_total, raised = (orjson.loads(each.line) for each in documents)
        assert late.pop("timestamp").endswith("Z")
        assert late == {
            "level": "WARNING",
            "message": "late",
            "logger": "orders",
            "requestId": "request-log",
            "order": 17,
        }
        assert (paid["level"], paid["order"]) == ("INFO", 18)
        assert (no_total["message"], no_total["errorType"]) == ("no total", "KeyError")
        assert (raised["level"], raised["errorMessage"]) == ("ERROR", "two\nlines")
        kinds = [orjson.loads(line)["type"] for line in s.lines() if '"platform.' in line]
        assert kinds == [f"platform.{each}" for each in ("start", "runtimeDone", "report")]

    pool(tmp_path, body, logging_function(tmp_path, log_format="json", log_level="INFO"))


FLOOD = """
import os, time

def main(event, context):
    if event["do"] == "echo": return event
    until, written = time.monotonic() + event["seconds"], 0
    while time.monotonic() < until:
        written += os.write(1, b"\\n" * 65_536)
    return written
"""


def test_a_flood_of_many_invocations_is_cut_with_a_mark_and_holds_nobody_up(tmp_path):
    """100 MB a second, of the lines that cost the most: empty ones."""

    async def body(s):
        await s.call("echo", "g")
        s.signals.clear()
        busy, echoes, written = time.thread_time(), 0, 0
        async with anyio.create_task_group() as tasks:

            async def echo():
                nonlocal echoes
                while True:
                    await s.call("echo", "g")
                    echoes += 1
                    await anyio.sleep(0.001)

            tasks.start_soon(echo)
            began = time.monotonic()
            for _ in range(40):
                outcome = await s.call("flood", seconds=0.05)
                written += int(outcome.answer)
            seconds = time.monotonic() - began
            busy = time.thread_time() - busy
            tasks.cancel_scope.cancel()
        lines = [each for each in own(s) if each.function == "f"]
        marks = [line for line in s.lines() if "over 2097152 bytes in a second" in line]
        assert written > 20_000_000
        assert len(lines) < (seconds + 1) * (2 << 20) / RATE_LINE_COST_BYTES + 100
        assert marks
        assert echoes > 100
        assert busy / seconds < 0.6  # 0.17 on a machine that does nothing else

    functions = [function(tmp_path, name, FLOOD) for name in "fg"]
    pool(tmp_path, body, *functions)
