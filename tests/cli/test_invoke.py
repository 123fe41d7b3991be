"""`streamfaas invoke`: by a daemon, or alone."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from config_project import HEAD, project  # noqa: F401
from status_server import answering
from streamfaas.cli.main import main

HANDLER = """
def main(event, context):
    print("seen", event)
    if event.get("fail"):
        raise KeyError("total")
    return {"got": event}
"""


@pytest.fixture
def file(project):  # noqa: F811
    (project / "code" / "app.py").write_text(HANDLER)
    path = project / "streamfaas.yaml"
    path.write_text(f"{HEAD}    isolation: best-effort\n    timeout: 20s\n")
    path.chmod(0o600)
    (project / "event.json").write_text('{"id": 7}')
    return path


def invoke(*arguments, data=None):
    return CliRunner().invoke(main, ["invoke", *map(str, arguments)], input=data)


def test_a_daemon_is_asked_by_its_socket(file):
    socket = file.parent / "s.sock"
    headers = (
        "x-amzn-requestid: r-1\r\nx-streamfaas-worker: f#1\r\nx-streamfaas-duration-ms: 1.5\r\n"
    )
    with answering(socket, b'{"ok":true}', headers=headers) as asked:
        result = invoke("f", "-e", file.parent / "event.json", "--socket", socket)
    assert (result.exit_code, result.stdout) == (0, '{"ok":true}\n')
    assert result.stderr == "REPORT RequestId: r-1  Duration: 1.5 ms  Worker: f#1\n"
    assert asked[0].startswith(b"POST /invoke/f HTTP/1.1\r\n")
    assert asked[0].endswith(b'\r\n\r\n{"id": 7}')


@pytest.mark.parametrize(
    ("caller", "sent"),
    [
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", True),
        ("00-written-badly\r\nx: y", False),
    ],
)
def test_the_call_is_of_the_trace_that_the_environment_names(file, monkeypatch, caller, sent):
    monkeypatch.setenv("TRACEPARENT", caller)
    socket = file.parent / "s.sock"
    with answering(socket, b"{}") as asked:
        assert invoke("f", "-e", file.parent / "event.json", "--socket", socket).exit_code == 0
    head = asked[0].partition(b"\r\n\r\n")[0]
    assert (f"\r\ntraceparent: {caller}".encode() in head) == sent
    assert (b"traceparent" in head) == sent


def test_the_daemon_of_the_configuration_is_asked_if_it_runs(file):
    (file.parent / "state").mkdir(mode=0o700)
    with answering(file.parent / "state" / "streamfaas.sock", b"{}") as asked:
        result = invoke("f", "-e", "-", "-c", file, data="[1, 2]")
    assert (result.exit_code, result.stdout) == (0, "{}\n")
    assert [one.split()[:2] for one in asked] == [[b"GET", b"/status"], [b"POST", b"/invoke/f"]]


def test_a_function_that_fails_is_exit_1_with_its_error(file):
    socket = file.parent / "s.sock"
    body = b'{"errorType":"KeyError","errorMessage":"total"}'
    with answering(socket, body, headers="x-amz-function-error: Unhandled\r\n"):
        result = invoke("f", "-e", file.parent / "event.json", "--socket", socket)
    assert result.exit_code == 1
    assert json.loads(result.stdout)["errorType"] == "KeyError"


@pytest.mark.parametrize(
    ("status", "exit_code"), [(404, 2), (400, 2), (413, 2), (503, 1), (500, 1)]
)
def test_what_the_daemon_refuses_is_told_in_one_line(file, status, exit_code):
    socket = file.parent / "s.sock"
    with answering(socket, b'{"error":"no \\u001b[31mway"}', status=status):
        result = invoke("f", "-e", file.parent / "event.json", "--socket", socket)
    assert (result.exit_code, result.stderr) == (exit_code, "streamfaas: no \\x1b[31mway\n")


def test_no_daemon_on_a_socket_is_69(file):
    result = invoke("f", "-e", file.parent / "event.json", "--socket", file.parent / "s.sock")
    assert result.exit_code == 69
    assert "no daemon answers at" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "data", "told"),
    [
        (("g", "-e", "-"), "{}", "there is no function g; there are: f"),
        (("../f", "-e", "-"), "{}", "'../f' is not a function's name"),
        (("f", "-e", "-"), "", "the event is not JSON: "),
        (("f", "-e", "-"), "{", "the event is not JSON: "),
        (("f", "-e", "-"), "NaN", "the event is not JSON: "),
        (
            ("f", "-e", "nope.json"),
            None,
            "cannot read the event 'nope.json': No such file or directory",
        ),
        (("f", "-e", "/"), None, "cannot read the event '/': Is a directory"),
        (("f", "-e", "-"), '"' + "a" * (6 << 20) + '"', "the event is over 6 MB, Lambda's limit"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(file, arguments, data, told):
    result = invoke(*arguments, "-c", file, data=data)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith(f"streamfaas: {told}")
    assert result.stderr.count("\n") == 1


def test_a_bad_configuration_is_78(file):
    file.write_text("version: 1\n")
    result = invoke("f", "-e", "-", "-c", file, data="{}")
    assert result.exit_code == 78
    assert "SF1043" in result.stderr


def test_an_event_is_needed():
    assert invoke("f").exit_code == 2
    assert invoke("f", "-e", "-", "-c", "a", "--socket", "b").exit_code == 2


@pytest.mark.slow
@pytest.mark.parametrize(("event", "status"), [('{"id": 7}', 0), ('{"fail": true}', 1)])
def test_without_a_daemon_one_worker_runs_the_function(file, event, status):
    done = subprocess.run(
        [sys.executable, "-m", "streamfaas", "invoke", "f", "-e", "-", "-c", str(file)],
        input=event, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    answer = json.loads(done.stdout)
    assert answer == {"got": {"id": 7}} if status == 0 else answer["errorType"] == "KeyError"
    assert "seen" in done.stderr
    assert "REPORT RequestId:" in done.stderr
    assert "ended:" not in done.stderr  # there is no other worker


@pytest.mark.slow
def test_a_reader_of_stderr_who_has_gone_does_not_hold_it_up(file):
    command = [sys.executable, "-m", "streamfaas", "invoke", "f", "-e", "-", "-c", str(file)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        process.stderr.close()
        process.stdin.write('{"id": 7}')
        process.stdin.close()
        try:
            assert json.loads(process.stdout.read()) == {"got": {"id": 7}}
            assert process.wait(60) == 0
        finally:
            process.kill()
