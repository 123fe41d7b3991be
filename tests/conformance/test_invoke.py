"""Calls from outside, of a daemon (3.1, 3.5; point 10.11): answered at once, or taken and run."""

from __future__ import annotations

import json
import time

import pytest

from daemon_process import DaemonProcess, write_project

pytestmark = pytest.mark.slow

CONFIG = """
version: 1
state: {path: ./state}
shutdown: {grace: 5s}
functions:
  f:
    code: f
    handler: app.main
    isolation: best-effort
    timeout: 20s
    asynchronous:
      retries: 0
      on_success: {type: file, path: done.jsonl}
      on_failure: {type: file, path: dead.jsonl}
      dead_letter: {type: file, path: events.jsonl}
"""

HANDLER = """
def main(event, context):
    if isinstance(event, dict) and "fail" in event:
        raise KeyError("total")
    return context.aws_request_id if event == {"id": True} else None
"""
MB = 1 << 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("invoke")
    path.chmod(0o755)
    return path


@pytest.fixture(scope="module")
def daemon(folder):
    config = write_project(folder, CONFIG, f=HANDLER)
    with DaemonProcess(config) as running:
        running.wait_ready()
        yield running


def call(daemon, body, path="/invoke/f"):
    status, headers, answer = daemon.request("POST", path, body)
    return status, {name.lower(): value for name, value in headers.items()}, answer


def test_3_01_a_function_that_returns_nothing_answers_null_and_tells_its_version(daemon):
    status, headers, answer = call(daemon, b"{}")

    assert (status, answer) == (200, b"null")
    assert headers["x-amz-executed-version"] == "$LATEST"
    assert "x-amz-function-error" not in headers


def test_3_01_the_request_id_of_the_answer_is_the_one_that_the_function_saw(daemon):
    _, headers, answer = call(daemon, b'{"id": true}')

    assert json.loads(answer) == headers["x-amzn-requestid"]


def test_3_01_a_function_that_fails_is_still_a_200_unhandled_with_its_error(daemon):
    status, headers, answer = call(daemon, b'{"fail": true}')

    assert status == 200
    assert headers["x-amz-function-error"] == "Unhandled"
    payload = json.loads(answer)
    assert set(payload) == {"errorMessage", "errorType", "requestId", "stackTrace"}
    assert payload["errorMessage"] == "'total'"
    assert payload["errorType"] == "KeyError"
    assert payload["requestId"] == headers["x-amzn-requestid"]


@pytest.mark.parametrize(
    ("path", "size", "status"),
    [
        ("/invoke/f", 6 * MB, 200),
        ("/invoke/f", 6 * MB + 1, 413),
        ("/invoke/f/event", MB, 202),
        ("/invoke/f/event", MB + 1, 413),
    ],
)
def test_3_01_events_are_at_most_6_mb_and_1_mb_where_nobody_waits(daemon, path, size, status):
    body = b'"%s"' % (b"x" * (size - 2))

    assert call(daemon, body, path)[0] == status


@pytest.mark.parametrize("path", ["/invoke/f", "/invoke/f/event"])
def test_3_01_an_event_that_is_no_json_is_refused(daemon, path):
    assert call(daemon, b"{", path)[0] == 400


@pytest.mark.parametrize("path", ["/invoke/g", "/invoke/g/event"])
def test_3_01_a_function_that_nobody_knows_is_refused(daemon, path):
    assert call(daemon, b"{}", path)[0] == 404


def document(path, wanted):
    """The first document of a file that is wanted, once it is there."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        lines = path.read_text().splitlines() if path.exists() else []
        if found := [told for line in lines if wanted(told := json.loads(line))]:
            return found[0]
        time.sleep(0.02)
    raise AssertionError(f"{path} has {lines}")


def test_3_05_an_event_is_taken_at_once_and_runs_under_the_request_id_that_was_told(daemon, folder):
    status, _, answer = call(daemon, b'{"id": true}', "/invoke/f/event")
    told = json.loads(answer)["request_id"]

    assert status == 202
    done = document(folder / "done.jsonl", lambda d: d["responsePayload"] == told)
    assert done["requestContext"]["requestId"] == told


def test_3_05_an_event_that_fails_goes_to_both_its_destination_and_its_dead_letters(daemon, folder):
    event = {"fail": "both"}
    call(daemon, json.dumps(event).encode(), "/invoke/f/event")

    dead = document(folder / "dead.jsonl", lambda d: d["requestPayload"] == event)
    assert dead["requestContext"]["condition"] == "RetriesExhausted"
    assert set(dead["responsePayload"]) == {"errorMessage", "errorType", "requestId", "stackTrace"}
    assert document(folder / "events.jsonl", lambda d: d == event)


def test_3_05_a_call_that_somebody_waits_for_makes_no_document(daemon, folder):
    call(daemon, b'{"fail": "waited for"}')
    call(daemon, b'{"fail": "later"}', "/invoke/f/event")

    document(folder / "events.jsonl", lambda d: d == {"fail": "later"})
    assert "waited for" not in (folder / "dead.jsonl").read_text()
    assert "waited for" not in (folder / "events.jsonl").read_text()
