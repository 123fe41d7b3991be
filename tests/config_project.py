"""A directory in which configurations are checked, and what was found in short lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamfaas.config.check import check
from streamfaas.config.spec import RUNTIME, Config
from streamfaas.flow.errors import Problem

FUNCTION = "functions:\n  f:\n    code: code\n    handler: app.main\n"
"""Four lines of a function that is fine; what is added to it begins at column 5."""

HEAD = f"version: 1\n{FUNCTION}"
KAFKA = f"""version: 1
connections:
  main: {{type: kafka, brokers: [k1:9092]}}
{FUNCTION}    triggers:
      t: {{type: kafka, connection: main, topics: [a], start: latest"""
"""A Kafka trigger in line 9, left open."""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "app.py").write_text("def main(event, context): return event\n")
    (tmp_path / "inbox").mkdir()
    (tmp_path / "link").symlink_to("inbox")
    (tmp_path / "big").write_text("a" * 70_000)
    (tmp_path / "latin").write_bytes(b"\xe9")
    (tmp_path / "key.pem").write_text("-----BEGIN PRIVATE KEY-----\n")
    (tmp_path / "old" / "lib" / "python3.9" / "site-packages").mkdir(parents=True)
    (tmp_path / "old" / "pyvenv.cfg").touch()
    return tmp_path


def found(text: str, base: Path, **environ: str) -> list[str]:
    """All problems as `line:column code path: message | hint`, warnings with a `w` before."""
    _, problems = check(text, name="streamfaas.yaml", base_dir=base, environ=environ)
    return [line(problem, base) for problem in problems]


def line(problem: Problem, base: Path) -> str:
    mark = "w " if problem.warning else ""
    path = f" {problem.path}" if problem.path else ""
    hint = f" | {problem.hint}" if problem.hint else ""
    told = f"{mark}{problem.line}:{problem.column} {problem.code}{path}: {problem.message}{hint}"
    return told.replace(str(base), "BASE").replace(RUNTIME, "RUNTIME")


def valid(text: str, base: Path, **environ: str) -> Config:
    config, problems = check(text, name="streamfaas.yaml", base_dir=base, environ=environ)
    assert config is not None, [line(problem, base) for problem in problems]
    return config
