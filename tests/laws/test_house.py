from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

from parts import CHECKOUT

PACKAGE = CHECKOUT / "streamfaas"
SOURCES = sorted(PACKAGE.glob("**/*.py"))
PYTHON = SOURCES + sorted((CHECKOUT / "tests").glob("**/*.py"))
REFUSED_NAMES = {"utils", "util", "helpers", "helper", "common", "base", "manager", "misc"}
TOP_LEVEL = {"pyproject.toml", "README.md", "LICENSE", "streamfaas", "configs", "tests", "deploy"}

SUPPRESSION = re.compile(r"#\s*(noqa|type:\s*ignore)(.*)", re.IGNORECASE)
NAMED = re.compile(r"\s*(:\s*[A-Z]+[0-9]+|\[[a-z-]+(,\s*[a-z-]+)*\])")


def tracked() -> list[Path]:
    """The files of the project, without what a build or a run leaves beside them."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("this is no git checkout")
    return [Path(name) for name in done.stdout.decode().split("\0") if name]


def unnamed(line: str) -> bool:
    """Whether a line suppresses a check without saying which."""
    found = SUPPRESSION.search(line)
    return found is not None and not NAMED.match(found[2])


def test_the_top_level_holds_only_what_belongs_there():
    tops = {path.parts[0] for path in tracked()}
    assert {top for top in tops if not top.startswith(".")} <= TOP_LEVEL


def test_no_module_has_a_name_that_says_nothing():
    for path in PYTHON:
        relative = path.relative_to(CHECKOUT)
        assert not REFUSED_NAMES & {part.removesuffix(".py") for part in relative.parts}, path


@pytest.mark.parametrize(
    ("line", "refused"),
    [
        ("x = 1  # noqa", True),
        ("x = 1  # noqa: TID251 - age of a record", False),
        ("x = 1  # type: ignore", True),
        ("x = 1  # type: ignore[attr-defined]", False),
        ("x = 1  # plain", False),
    ],
)
def test_a_suppression_without_a_code_is_seen(line, refused):
    assert unnamed(line) is refused


def test_every_suppression_names_its_code():
    mine = Path(__file__).resolve()
    for path in PYTHON:
        if path == mine:
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            assert not unnamed(line), f"{path}:{number}: {line}"


def test_the_wall_clock_is_read_only_with_a_reason():
    for path in SOURCES:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if found := re.search(r"#\s*noqa:\s*TID251(.*)", line):
                assert re.search(r"\w{3}", found[1]), f"{path}:{number}: no reason"


def test_every_rule_of_the_linter_that_is_left_out_has_its_reason():
    text = (CHECKOUT / "pyproject.toml").read_text()
    ignored = re.search(r"^ignore = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    assert ignored
    for line in ignored[1].splitlines():
        assert re.fullmatch(r'  "[A-Z0-9]+",\s+# .{5,}', line), line


def test_every_module_says_in_one_sentence_what_it_is_for():
    for path in SOURCES:
        said = ast.get_docstring(ast.parse(path.read_bytes()))
        assert said, path
        assert said.splitlines()[0].strip(), path


def test_there_is_nothing_left_to_do():
    words = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|NotImplementedError(\(\))?$", re.MULTILINE)
    for path in PYTHON:
        if path == Path(__file__).resolve():
            continue
        assert not words.search(path.read_text()), path


def test_tests_are_folders_without_packages():
    assert not list((CHECKOUT / "tests").glob("**/__init__.py"))


def test_shared_test_modules_have_names_of_their_own():
    names = [path.name for path in (CHECKOUT / "tests").glob("*.py")]
    installed = {path.name for path in PACKAGE.glob("*.py")}
    assert not set(names) & installed
