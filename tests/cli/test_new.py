"""`streamfaas new` writes a project that is right as it stands."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from ordinary_user import as_ordinary_user
from streamfaas.cli.main import main
from streamfaas.config.load import examine

FILES = {
    "streamfaas.yaml", "functions/hello/handler.py", "events/kafka.json", "tests/test_hello.py", ".gitignore",
    "streamfaas.schema.json",
}  # fmt: skip


@pytest.fixture
def made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["new", "hello"])
    assert result.exit_code == 0, result.output
    return tmp_path / "hello", result.output


def test_it_writes_the_files_and_says_what_to_do_next(made):
    path, output = made
    assert {str(each.relative_to(path)) for each in path.rglob("*") if each.is_file()} == FILES
    assert all(f"  created hello/{name}\n" in output for name in FILES)
    assert "  cd hello\n  streamfaas run " in output


def test_its_configuration_is_valid_without_a_warning(made):
    path, _ = made
    found = examine(path / "streamfaas.yaml", {})
    assert found.problems == ()
    (trigger,) = found.config.functions["hello"].triggers.values()
    assert trigger.type == "memory"
    assert found.config.functions["hello"].isolation.mode == "best-effort"


def test_the_kafka_trigger_that_it_proposes_is_valid_too(made):
    path, _ = made
    config = path / "streamfaas.yaml"
    text = config.read_text().replace(
        "      orders: {type: memory", "      # orders: {type: memory"
    )
    config.write_text(
        text.replace("# orders: {type: kafka", "orders: {type: kafka")
        .replace("# connections", "connections")
        .replace("#   main", "  main")
    )
    found = examine(config, {})
    assert found.problems == ()
    assert found.config.functions["hello"].triggers["orders"].type == "kafka"


@pytest.mark.slow
def test_its_own_test_passes(made):
    path, _ = made
    done = subprocess.run(
        [sys.executable, "-B", "-m", "unittest", "discover", "tests"], cwd=path, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Ran 1 test" in done.stderr


def test_nothing_that_is_there_is_overwritten(made, tmp_path):
    path, _ = made
    (path / "streamfaas.yaml").write_text("mine")
    result = CliRunner().invoke(main, ["new", "hello"])
    assert result.exit_code == 1
    assert (
        result.stderr == "streamfaas: hello/streamfaas.yaml is there already: nothing was written\n"
    )
    assert (path / "streamfaas.yaml").read_text() == "mine"
    other = tmp_path / "other"
    (other / "events").mkdir(parents=True)
    (other / "events" / "kafka.json").write_text("mine")
    assert CliRunner().invoke(main, ["new", "other"]).exit_code == 1
    assert [each.name for each in other.rglob("*")] == ["events", "kafka.json"]


def test_a_directory_with_other_files_is_added_to(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("readme").write_text("mine")
    assert CliRunner().invoke(main, ["new", "."]).exit_code == 0
    assert Path("streamfaas.yaml").exists()


def test_what_cannot_be_written_is_told_in_one_line(tmp_path):
    (tmp_path / "file").touch()
    result = CliRunner().invoke(main, ["new", str(tmp_path / "file" / "below")])
    assert result.exit_code == 1
    assert result.stderr == f"streamfaas: cannot write {tmp_path}/file/below: Not a directory\n"


@pytest.mark.parametrize("arguments", [["new", "/"], ["new", "/usr/.."], ["demo", "--dir", "/"]])
def test_no_project_is_laid_out_over_the_root(arguments):
    main.get_command(None, arguments[0])  # imported by us: another user may not be able to

    def asked():  # by one who could not write there anyway
        result = CliRunner().invoke(main, arguments)
        return f"{result.exit_code} {result.stderr}"

    told = f"{arguments[-1]} is the root of the file system: name a directory\n"
    assert as_ordinary_user(asked) == f"2 streamfaas: {told}"
