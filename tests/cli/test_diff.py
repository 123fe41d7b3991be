"""`diff` and `reload` without a daemon: what is shown, and the exit status."""

import json

import pytest
from click.testing import CliRunner

from config_project import KAFKA, project  # noqa: F401
from streamfaas.cli.main import main

SECRET = (
    "tls: {}, sasl: {mechanism: PLAIN, username: u, password: '${file:pw}'}, brokers: [k1:9092]"
)


def run(*words):
    done = CliRunner().invoke(main, list(map(str, words)))
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture
def files(project):  # noqa: F811
    project.chmod(0o755)
    old, new = project / "old.yaml", project / "new.yaml"
    old.write_text(KAFKA + "}\n")
    new.write_text(
        KAFKA + ", batch: {size: 7}}\n      u: {type: memory, topic: b}\n    memory: 256MB\n"
    )
    return old, new


def test_two_files_are_compared_and_nothing_has_to_run(files):
    code, shown, _ = run("diff", *files)
    assert code == 1
    assert shown.splitlines() == [
        "functions",
        "  ~ f                                   its workers are replaced",
        "      memory: 128MB → 256MB",
        "triggers",
        "  ~ f/t                                 is restarted",
        "      batch.size: 100 → 7",
        "  + f/u",
    ]


def test_no_difference_is_a_success_and_a_bad_file_is_none(files):
    old, new = files
    assert run("diff", old, old) == (0, "no difference\n", "")
    new.write_text("version: 1\n")
    code, _, told = run("diff", old, new)
    assert code == 78
    assert "SF1043" in told


def test_json_has_every_key_and_no_secret(files, project):  # noqa: F811
    old, new = files
    (project / "pw").write_text("hunter1")
    (project / "pw2").write_text("hunter2")
    old.write_text(KAFKA.replace("brokers: [k1:9092]", SECRET) + "}\n")
    new.write_text(old.read_text().replace("file:pw", "file:pw2"))
    code, shown, _ = run("diff", "-o", "json", *files)
    assert code == 1
    found = json.loads(shown)
    assert found["connections"][0]["keys"] == [
        {"path": "connections.main.sasl.password", "old": "***", "new": "***"}
    ]
    assert found["restarted"] == ["f/t"]
    assert found["triggers"][0]["by"] == ["main"]
    assert "hunter" not in shown


def test_what_needs_a_restart_is_said(files):
    old, new = files
    new.write_text("state: {path: ./other}\n" + old.read_text())
    _, shown, _ = run("diff", *files)
    assert shown.splitlines()[-1] == "NEEDS A RESTART: state.path"


def test_without_a_daemon_the_status_says_so(files):
    assert run("diff", files[0])[0] == 69
    code, _, told = run("reload", "-c", files[0])
    assert code == 69
    assert "no daemon answers" in told
    assert run("diff")[0] == 78  # of streamfaas.yaml, which is not there


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("10s", ", tumbling_window: 0s}", "end at once: their last invocation comes before"),
        ("10s", ", tumbling_window: 1m}", "keep their end, and those that follow are as asked"),
        ("10s", ", tumbling_window: 10s, group: g}", "where something else is read: that state"),
        ("10s", ", tumbling_window: 10s, batch: {size: 7}}", None),
        ("0s", ", tumbling_window: 10s}", None),
    ],
)
def test_what_becomes_of_windows_that_are_open_is_said(files, before, after, said):
    old, new = files
    old.write_text(KAFKA + ", tumbling_window: " + before + "}\n")
    new.write_text(KAFKA + after + "\n")
    _, shown, _ = run("diff", old, new)
    told = [line for line in shown.splitlines() if line.startswith("windows of f/t: open windows")]
    assert len(told) == (said is not None)
    assert said is None or said in told[0]
    text = old.read_text().replace("      t: ", "      other: ")
    assert text != old.read_text()
    new.write_text(text)
    assert ("stay as they are until it is back" in run("diff", old, new)[1]) == (before != "0s")
