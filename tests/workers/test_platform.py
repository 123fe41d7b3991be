"""The platform's own lines, in either format."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from streamfaas.flow.event import Encoding, Event
from streamfaas.flow.invocation import Invocation
from streamfaas.flow.outcome import Failure, Fault, Report, Success
from streamfaas.flow.trace import Context
from streamfaas.functions import Function
from streamfaas.workers import endings
from streamfaas.workers.platform import Platform

REPORT = Report("f#1", 0.00123, 0.25, 73 << 20)
DONE = Success(b"null", report=REPORT)
ERROR = Failure(Fault.FUNCTION, "KeyError", "'total'", report=REPORT)
CALL = Invocation("id", "f", Event(Encoding.JSON, (b"{}",)))
TIMEOUT = Failure(Fault.TIMEOUT, "Sandbox.Timedout", "", report=REPORT)


def platform(**options):
    return Platform(Function("f", Path("f"), "app.main", **options))


def told(lines):
    documents = [json.loads(line) for line in lines]
    assert all(list(each) == ["time", "type", "record"] for each in documents)
    return [(each["type"].removeprefix("platform."), each["record"]) for each in documents]


def kinds(lines):
    return [kind for kind, _ in told(lines)]


def test_text_is_as_lambda_has_always_written_it():
    of = platform()
    assert of.started(CALL) == ("START RequestId: id Version: $LATEST",)
    end, report = of.ended(CALL, DONE, begun=True)
    assert end == "END RequestId: id"
    assert report.startswith("REPORT RequestId: id\tDuration: 1.23 ms\tBilled Duration: 2 ms\t")
    assert len(of.ended(CALL, DONE, begun=False)) == 3
    assert of.init_ended(1.0, None) == ()
    assert of.init_ended(1.0, endings.init_timed_out(1))[0].startswith("INIT_REPORT ")


@pytest.mark.parametrize("form", ["text", "json"])
def test_of_failures_alone_everything_is_told(form):
    of = platform(platform_logs=False, log_format=form)
    assert of.started(CALL) == ()
    assert of.ended(CALL, DONE, begun=True) == ()
    assert len(of.ended(CALL, ERROR, begun=True)) == 3


def test_a_report_of_json_has_lambda_s_metrics():
    ((kind, record),) = told(platform(log_format="json").ended(CALL, DONE, begun=True))
    assert kind == "report"
    assert record == {
        "requestId": "id",
        "status": "success",
        "metrics": {
            "durationMs": 1.23,
            "billedDurationMs": 2,
            "memorySizeMB": 128,
            "maxMemoryUsedMB": 73,
            "initDurationMs": 250.0,
        },
    }


def test_each_level_shows_what_lambda_shows_at_it():
    def seen(level, outcome):
        of = platform(log_format="json", system_level=level)
        return kinds((*of.started(CALL), *of.ended(CALL, outcome, begun=True)))

    assert seen("debug", DONE) == ["start", "runtimeDone", "report"]
    assert seen("info", DONE) == ["start", "report"]
    assert seen("warn", DONE) == []
    assert seen("info", ERROR) == ["start", "runtimeDone", "report"]
    assert seen("warn", ERROR) == ["runtimeDone", "report"]


@pytest.mark.parametrize(
    ("outcome", "status", "kind"),
    [
        (ERROR, "error", "KeyError"),
        (TIMEOUT, "timeout", None),
        (Failure(Fault.CRASH, "Runtime.ExitError", ""), "failure", "Runtime.ExitError"),
    ],
)
def test_how_it_ended_is_told(outcome, status, kind):
    _, (_, done), (_, report) = told(platform(log_format="json").ended(CALL, outcome, begun=False))
    assert (done["status"], done.get("errorType")) == (status, kind)
    assert (report["status"], report.get("errorType")) == (status, kind)


def test_an_init_is_told_where_it_failed_or_everything_is():
    assert kinds(platform(log_format="json").init_ended(0.5, None)) == []
    everything = platform(log_format="json", system_level="debug")
    assert told(everything.init_ended(0.5, None)) == [
        (
            "initReport",
            {
                "initializationType": "on-demand",
                "phase": "init",
                "status": "success",
                "metrics": {"durationMs": 500.0},
            },
        )
    ]
    failed = everything.init_ended(0.5, endings.exited(Fault.INIT, 256))
    assert told(failed)[0][1]["errorType"] == "Runtime.ExitError"


def test_what_was_cut_of_a_second_is_told():
    (mark,) = platform(log_rate_max=100).cut(17)
    assert mark == "… output cut: over 100 bytes in a second (17 bytes dropped)"
    ((kind, record),) = told(platform(log_format="json").cut(17))
    assert (kind, record["droppedBytes"]) == ("logsDropped", 17)


def test_a_call_that_is_traced_says_so_in_both_formats():
    context = Context(0x4BF92F3577B34DA6A3CE929D0E0E4736, 0xF067AA0BA902B7, sampled=True)
    traced = replace(CALL, context=context)
    *_, report = platform().ended(traced, DONE, begun=True)
    assert report.endswith(
        "\tXRAY TraceId: 1-4bf92f35-77b34da6a3ce929d0e0e4736"
        "\tSegmentId: 00f067aa0ba902b7\tSampled: true"
    )
    ((_, start),) = told(platform(log_format="json").started(traced))
    assert start["tracing"] == {
        "spanId": "00f067aa0ba902b7",
        "type": "X-Amzn-Trace-Id",
        "value": context.xray,
    }
    unseen = replace(CALL, context=replace(context, sampled=False))
    assert platform().ended(unseen, DONE, begun=True) == platform().ended(CALL, DONE, begun=True)
