"""`streamfaas completion`: what real shells make of it."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from click.testing import CliRunner

from streamfaas.cli.main import COMMANDS, main

CONFIG = """
version: 1
functions:
  orders:
    code: .
    handler: app.main
    triggers: {stream: {type: memory, topic: orders}, other: {type: memory, topic: other}}
  refunds: {code: ., handler: app.main}
"""
SCRIPTS = sysconfig.get_path("scripts")

BASH = """
source <(streamfaas completion bash)
COMP_WORDS=(streamfaas "$@"); COMP_CWORD=$#; COMPREPLY=()
_streamfaas_completion streamfaas
printf '%s\\n' "${COMPREPLY[@]}"
"""
FISH = """
streamfaas completion fish | source
complete --do-complete "streamfaas $argv"
"""
ZSH = """
autoload -U compinit && compinit -D
compdef() { : }
eval "$(streamfaas completion zsh)"
_describe() { local n=$3; print -l -- ${(P)n} }
compadd() { print -l -- $completions }
words=(streamfaas "$@"); CURRENT=$(($# + 1))
_streamfaas_completion
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "streamfaas.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def in_bash(*words):
    return _said(["bash", "-c", BASH, "bash", *words])


def in_fish(*words):
    # a shell word that is not there yet is empty
    line = " ".join(words)
    return [each.partition("\t")[0] for each in _said(["fish", "-c", FISH, line])]


def in_zsh(*words):
    return [each.partition(":")[0] for each in _said(["zsh", "-f", "-c", ZSH, "zsh", *words])]


def _said(command):
    if shutil.which(command[0]) is None:
        pytest.skip(f"there is no {command[0]} here")
    env = {**os.environ, "PATH": f"{SCRIPTS}:{os.environ['PATH']}", "HOME": str(Path.cwd())}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


SHELLS = pytest.mark.parametrize("complete", [in_bash, in_fish, in_zsh])


@pytest.mark.slow
@SHELLS
def test_shells_complete_commands_options_functions_and_triggers(project, complete):
    if not Path(SCRIPTS, "streamfaas").exists():
        pytest.skip("streamfaas is not installed as a command")
    assert complete("do") == ["doctor"]
    assert set(complete("")) == set(COMMANDS)
    assert complete("install-service", "--dr") == ["--dry-run"]
    assert set(complete("dlq", "")) == {"list", "show", "redrive", "purge"}
    assert complete("invoke", "ord") == ["orders"]
    assert set(complete("skip", "")) == {"orders/stream", "orders/other"}


def completed(*words):
    env = {
        "_STREAMFAAS_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(["streamfaas", *words]),
        "COMP_CWORD": str(len(words)),
    }
    done = subprocess.run(
        [sys.executable, "-c", "from streamfaas.cli.main import main; main(prog_name='streamfaas')"],
        env={**os.environ, **env}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


@pytest.mark.slow
def test_names_come_from_the_configuration_that_is_named(project):
    (project / "streamfaas.yaml").rename(project / "other.yaml")
    assert completed("invoke", "") == []
    assert completed("invoke", "-c", "other.yaml", "") == ["orders", "refunds"]
    assert completed("replay", "--config", "other.yaml", "orders/s") == ["orders/stream"]


@pytest.mark.slow
def test_names_come_from_the_daemon_where_one_runs(project):
    from status_server import answering

    (project / "state").mkdir()
    view = b'{"functions": {"live": {}}, "triggers": {"live/stream": {}}}'
    with answering(project / "state" / "streamfaas.sock", view):
        assert completed("invoke", "") == ["live"]
        assert completed("skip", "") == ["live/stream"]
    with answering(project / "other.sock", b"no json"):
        assert completed("invoke", "--socket", "other.sock", "") == ["orders", "refunds"]


@pytest.mark.slow
@pytest.mark.parametrize("text", ["", "\x00", "functions: [1, 2]", "functions: {a: 1}", "{"])
def test_a_file_that_is_broken_completes_what_there_is_and_says_nothing(project, text):
    (project / "streamfaas.yaml").write_text(text)
    assert completed("skip", "") == []


def test_a_shell_that_we_do_not_know_is_refused():
    assert CliRunner().invoke(main, ["completion", "csh"]).exit_code == 2


@pytest.mark.slow
def test_a_completion_imports_nothing_heavy(project):
    code = (
        "import os, sys\n"
        "from streamfaas.cli.main import main\n"
        "try: main(prog_name='streamfaas')\nexcept SystemExit: pass\n"
        "heavy = {'pydantic', 'uvloop', 'asyncio', 'anyio', 'aiokafka', 'orjson', 'rich'}\n"
        "sys.exit(str(sorted(heavy & set(sys.modules))) if heavy & set(sys.modules) else 0)"
    )
    env = {"_STREAMFAAS_COMPLETE": "bash_complete", "COMP_WORDS": "streamfaas skip ", "COMP_CWORD": "2"}  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **env}, capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "orders/stream" in done.stdout
