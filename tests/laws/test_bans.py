from __future__ import annotations

import ast
import functools
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from parts import CHECKOUT

PACKAGE = CHECKOUT / "streamfaas"
RUFF = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
BANNED = set(RUFF["flake8-tidy-imports"]["banned-api"])
OF_TASKS = {"asyncio.create_task", "asyncio.ensure_future", "asyncio.gather"}
OF_THE_WALL_CLOCK = {"time.time", "datetime.datetime.now"}
ROOMS_WITH_TASKS = {"engine", "workers", "daemon"}

SNIPPETS = {
    "asyncio.create_task": "import asyncio\nt = asyncio.create_task(c())",
    "asyncio.ensure_future": "from asyncio import ensure_future\nt = ensure_future(c())",
    "asyncio.gather": "import asyncio as a\nt = a.gather(c())",
    "asyncio.wait_for": "import asyncio\nt = asyncio.wait_for(c(), 1)",
    "time.time": "import time\nt = time.time()",
    "datetime.datetime.now": "import datetime\nt = datetime.datetime.now()",
    "pickle": "import pickle",
    "multiprocessing": "from multiprocessing import Queue",
    "concurrent.futures": "from concurrent.futures import ThreadPoolExecutor",
}


def ruff(code: str, name: str) -> str:
    """What ruff says of this code, were it in the file `name`."""
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--select", "TID251", "--output-format", "concise",
         "--no-cache", "--stdin-filename", name, "-"],
        cwd=CHECKOUT, input=code, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


@functools.cache
def used(code: bytes | str) -> frozenset[str]:
    """The full names of what is imported, or reached from an imported module."""
    tree = ast.parse(code)
    known: dict[str, str] = {}
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found.add(alias.name)
                top = alias.name.partition(".")[0]
                known[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            for alias in node.names:
                known[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                found.add(f"{node.module}.{alias.name}")
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            first, _, rest = ast.unparse(node).partition(".")
            found.add(f"{known.get(first, first)}.{rest}")
    return frozenset(found)


def starts_tasks(code: bytes | str) -> set[str]:
    """Calls that make a task by whatever object: a loop, a group."""
    makers = {"create_task", "ensure_future", "run_coroutine_threadsafe"}
    return {
        node.func.attr
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        if node.func.attr in makers
    }


def files(*rooms: str) -> list[Path]:
    return [path for room in rooms for path in sorted((PACKAGE / room).glob("**/*.py"))]


def test_every_ban_is_tried():
    assert SNIPPETS.keys() == BANNED


@pytest.mark.parametrize("banned", SNIPPETS)
def test_a_banned_name_is_refused_where_it_is_planted(banned):
    assert "TID251" in ruff(SNIPPETS[banned], "streamfaas/flow/planted.py")
    assert "TID251" in ruff(SNIPPETS[banned], "streamfaas/sources/planted.py")


@pytest.mark.parametrize("banned", SNIPPETS)
def test_the_law_for_rooms_with_tasks_sees_what_ruff_sees(banned):
    assert used(SNIPPETS[banned]) & BANNED == {banned}


@pytest.mark.parametrize("room", sorted(ROOMS_WITH_TASKS))
def test_rooms_with_tasks_use_nothing_else_that_is_banned(room):
    for path in files(room):
        for name in used(path.read_bytes()) & (BANNED - OF_TASKS):
            assert name in OF_THE_WALL_CLOCK, (path, name)
            # a line that reads the wall clock names it so, or says why
            for line in path.read_text().splitlines():
                assert name not in line or "wall" in line or "#" in line, (path, line)


def test_tasks_are_made_only_in_engine_workers_and_daemon():
    assert starts_tasks("loop.create_task(c())") == {"create_task"}
    for path in PACKAGE.glob("**/*.py"):
        room = path.relative_to(PACKAGE).parts[0]
        if room not in ROOMS_WITH_TASKS:
            assert not starts_tasks(path.read_bytes()), path


def test_tests_do_not_use_what_loses_a_cancellation_or_pickles():
    for path in (CHECKOUT / "tests").glob("**/*.py"):
        refused = {"asyncio.wait_for", "pickle", "multiprocessing"}
        assert not used(path.read_bytes()) & refused, path


def test_no_test_uses_a_mock_library():
    for path in (CHECKOUT / "tests").glob("**/*.py"):
        assert not {n for n in used(path.read_bytes()) if "mock" in n}, path
