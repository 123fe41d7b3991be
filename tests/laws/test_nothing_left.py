"""The fixtures of every test, tried on tests that break their rules."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from parts import CHECKOUT

BROKEN = """
import asyncio, os, socket, subprocess, tempfile, threading, time
import pytest, uvloop

KEPT = []

def test_task():
    loop = asyncio.new_event_loop()
    KEPT.extend([loop, loop.create_task(asyncio.sleep(9))])

def test_child():
    KEPT.append(subprocess.Popen(["sleep", "9"]))

def test_zombie():
    KEPT.append(os.posix_spawnp("true", ["true"], os.environ))

def test_thread():
    threading.Thread(target=time.sleep, args=(5,), daemon=True).start()

def test_descriptor():
    KEPT.append(os.open("/dev/null", os.O_RDONLY))

def test_temporary_file():
    tempfile.mkdtemp()

def test_transport():
    async def connect(address):
        loop = asyncio.get_running_loop()
        KEPT.append(await loop.create_connection(asyncio.Protocol, *address))
    with socket.create_server(("127.0.0.1", 0)) as server:
        uvloop.run(connect(server.getsockname()))

def test_clean(tmp_path, capfd):
    with tempfile.TemporaryFile() as file, subprocess.Popen(["true"]) as child:
        file.write(b"x")
    asyncio.run(asyncio.sleep(0))
    thread = threading.Thread(target=time.sleep, args=(0.05,))
    thread.start()
    (tmp_path / "x").write_text("x")

def test_failing():
    KEPT.append(os.open("/dev/null", os.O_RDONLY))
    raise AssertionError

def test_java():
    pytest.skip("Java is missing")

def test_not_root():
    pytest.skip("as root there is nothing to try")

def test_end():
    KEPT[2].kill()
    KEPT[2].wait()
    os.waitpid(KEPT[3], 0)
"""


def outcomes(root: Path, *options: str, ci: str) -> tuple[list[tuple[str, str]], str]:
    """What the tests above came to: pairs of a word and a test, and all that was said."""
    (root / "tests").mkdir()
    shutil.copy(CHECKOUT / "pyproject.toml", root)
    for shared in (CHECKOUT / "tests").glob("[!t]*.py"):
        shutil.copy(shared, root / "tests")
    conftest = root / "tests" / "conftest.py"
    patient = conftest.read_text()
    conftest.write_text(patient.replace("SETTLE_SECONDS = 10.0", "SETTLE_SECONDS = 0.3"))
    assert conftest.read_text() != patient
    (root / "tests" / "test_broken.py").write_text(BROKEN)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rA", f"--basetemp={root}/tmp", *options],
        cwd=root,
        env={**os.environ, "CI": ci},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = re.findall(r"^(PASSED|FAILED|ERROR) \S+::(\w+)", done.stdout, re.MULTILINE)
    assert said, done.stdout + done.stderr
    return said, done.stdout


@pytest.fixture(scope="module")
def under_ci(tmp_path_factory: pytest.TempPathFactory):
    return outcomes(tmp_path_factory.mktemp("ci"), ci="true")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("test", "kind"),
    [
        ("test_task", "asyncio tasks"),
        ("test_child", "child processes"),
        ("test_zombie", "child processes"),
        ("test_thread", "threads"),
        ("test_descriptor", "descriptors"),
        ("test_temporary_file", "temporary files"),
        ("test_transport", "in a loop"),
    ],
)
def test_what_is_left_behind_is_an_error(under_ci, test, kind):
    said, text = under_ci
    assert sorted(word for word, name in said if name == test) == ["ERROR", "PASSED"]
    assert re.search(rf"teardown of {test} .*\nleft behind, {kind}: ", text)


@pytest.mark.slow
@pytest.mark.parametrize("test", ["test_clean", "test_end"])
def test_a_clean_test_is_left_alone(under_ci, test):
    assert [word for word, name in under_ci[0] if name == test] == ["PASSED"]


@pytest.mark.slow
def test_a_failure_is_told_once(under_ci):
    assert [word for word, name in under_ci[0] if name == "test_failing"] == ["FAILED"]


@pytest.mark.slow
def test_under_ci_a_missing_part_is_a_failure_and_no_other_skip_is(under_ci):
    said, text = under_ci
    assert ("FAILED", "test_java") in said
    assert "test_not_root" not in {name for _, name in said}
    assert "as root there is nothing to try" in text


@pytest.mark.slow
def test_by_hand_a_missing_part_is_a_skip(tmp_path):
    said, text = outcomes(tmp_path, "-k", "java or clean", ci="")
    assert said == [("PASSED", "test_clean")]
    assert "Java is missing" in text
