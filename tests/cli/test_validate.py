"""`streamfaas validate`."""

import pytest
from click.testing import CliRunner

from config_project import HEAD, KAFKA, project  # noqa: F401
from streamfaas.cli.main import main


@pytest.fixture
def file(project):  # noqa: F811
    path = project / "streamfaas.yaml"
    path.write_text(HEAD)
    path.chmod(0o600)
    return path


def validate(*arguments):
    return CliRunner().invoke(main, ["validate", *map(str, arguments)])


def test_a_good_file_is_counted(file):
    result = validate(file)
    assert (result.exit_code, result.stdout, result.stderr) == (
        0,
        "config OK (1 function, 0 triggers, 0 warnings)\n",
        "",
    )


def test_without_a_name_it_takes_the_usual_one(file, monkeypatch):
    monkeypatch.chdir(file.parent)
    assert validate().exit_code == 0


def test_warnings_are_shown_and_are_no_failure(file):
    file.write_text(
        KAFKA.replace("main: {", "spare: {type: kafka, brokers: [k2:9092]}\n  main: {") + "}\n"
    )
    result = validate(file)
    assert result.exit_code == 0
    assert result.stdout == "config OK (1 function, 1 trigger, 1 warning)\n"
    assert f"{file}:3:3: warning SF1093: connections.spare: nothing uses it\n" in result.stderr


def test_all_problems_are_shown_at_once(file):
    file.write_text(KAFKA + ", batch: {size: 500, window: 600s}, retries: {max: x}}\n")
    result = validate(file)
    assert result.exit_code == 78
    assert result.stdout == ""
    assert result.stderr == (
        f"{file}:9:97: error SF1042: functions.f.triggers.t.batch.window: 600s is over the limit of 300s\n"
        "    9 | …nection: main, topics: [a], start: latest, batch: {size: 500, window: 600s}, retries: {max: x}}\n"
        "      |                                                                        ^^^^ (streamfaas explain SF1042)\n"
        "\n"
        f"{file}:9:119: error SF1044: functions.f.triggers.t.retries.max: x is not a whole number from 0 to 10,000, or unlimited\n"
        "    9 | …nection: main, topics: [a], start: latest, batch: {size: 500, window: 600s}, retries: {max: x}}\n"
        "      |                                                                                              ^ (streamfaas explain SF1044)\n"
        "\n"
        "config not valid (2 errors, 0 warnings)\n"
    )


def test_a_secret_is_not_shown_with_its_line(file):
    file.write_text(
        KAFKA.replace(
            "brokers:", "sasl: {mechanism: PLAIN, usrname: u, password: hunter2}, brokers:"
        )
        + "}\n"
    )
    result = validate(file)
    assert result.exit_code == 78
    assert "usrname" in result.stderr
    assert "hunter2" not in result.stderr
