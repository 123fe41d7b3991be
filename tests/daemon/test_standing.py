"""What is told of the configuration that runs, and of the last reload."""

import pytest

from streamfaas.daemon.loading import load
from streamfaas.daemon.reload import Reloaded
from streamfaas.daemon.standing import Standing

TEXT = "version: 1\nstate: {path: ./state}\nfunctions: {}\n"


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "streamfaas.yaml"
    path.write_text(TEXT)
    path.chmod(0o600)
    return path


def test_a_reload_is_told_with_its_step_until_it_is_over(path):
    steps = []
    standing = Standing(load(path, {}), steps.append)
    assert standing.view()["reloading"] == ""
    standing.step("stop triggers")
    assert standing.view()["reloading"] == "stop triggers"
    assert steps == ["stop triggers"]
    standing.ended(None)
    assert standing.view()["reloading"] == ""
    assert standing.view()["last_reload"] is None


def test_a_failure_is_history_once_the_file_is_again_what_runs(path):
    standing = Standing(load(path, {}), lambda _: None)
    path.write_text("broken: [")
    standing.ended(Reloaded("invalid", 0.1, "line 1"))
    assert (standing.view()["differs"], standing.view()["reason"]) == (True, "line 1")
    path.write_text(TEXT)
    view = standing.view()
    assert (view["differs"], view["reason"], view["last_reason"]) == (False, "", "line 1")


def test_a_failure_of_the_very_file_that_runs_is_none(path):
    """It was something else that failed: a certificate, a credential."""
    standing = Standing(load(path, {}), lambda _: None)
    standing.ended(Reloaded("rolled back", 0.1, "no certificate"))
    view = standing.view()
    assert (view["differs"], view["reason"]) == (False, "no certificate")
