"""What holds for every test: nothing is left behind, and nothing that was promised is skipped."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import parts

pytest_plugins = ["aws_servers", "aws_faults", "ceph_store", "kafka_broker", "kinesis_servers"]

settings.register_profile(
    "streamfaas",
    max_examples=int(os.environ.get("STREAMFAAS_TEST_CASES", "100")),
    deadline=None,
    derandomize=parts.UNDER_CI,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],  # the machine is shared
)
settings.load_profile("streamfaas")

for size in ("COLUMNS", "LINES"):  # of whoever looks at this run: a test says which it wants
    os.environ.pop(size, None)

SETTLE_SECONDS = 10.0
"""How long what a test has ended may take to be gone (a thread that is leaving, a dying child)."""

PARTS_MISSING = re.compile(r"missing|not installed|not found|no such|unavailable", re.IGNORECASE)

_failed = pytest.StashKey[bool]()


@pytest.fixture(autouse=True, scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where `tempfile` puts things during the tests, so that what stays can be seen."""
    path = tmp_path_factory.mktemp("scratch")
    before, tempfile.tempdir = os.environ.get("TMPDIR"), None
    os.environ["TMPDIR"] = str(path)
    yield path
    tempfile.tempdir = None
    if before is None:
        del os.environ["TMPDIR"]
    else:
        os.environ["TMPDIR"] = before


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest, scratch: Path) -> Iterator[None]:
    """Fails a test that leaves a task, child, thread, descriptor, temporary file or cgroup.

    What stood before the test is not its own: fixtures of a wider scope are set up earlier.
    """
    kinds: dict[str, Callable[[], set[str]]] = {
        "asyncio tasks": _tasks,
        "child processes": _children,
        "threads": _threads,
        "descriptors": _descriptors,
        "temporary files": lambda: {entry.name for entry in scratch.iterdir()},
        "cgroups": _cgroups,
    }
    before = {kind: look() for kind, look in kinds.items()}
    with warnings.catch_warnings(record=True) as told:
        yield
    if request.node.stash.get(_failed, False):
        return
    if told:  # by a loop of libuv at its end, see filterwarnings
        said = ", ".join(str(one.message) for one in told)
        pytest.fail(f"left behind, in a loop: {said}", pytrace=False)
    for kind, look in kinds.items():
        if left := _settled(lambda look=look, kind=kind: look() - before[kind]):
            pytest.fail(f"left behind, {kind}: {', '.join(sorted(left))}", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """Remembers failures for the fixture above; under CI a missing part is a failure."""
    report = yield
    if report.failed:
        item.stash[_failed] = True
    if parts.UNDER_CI and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if PARTS_MISSING.search(reason):
            report.outcome = "failed"
            report.longrepr = f"under CI nothing that is promised may be skipped: {reason}"
    return report


def _settled(left: Callable[[], set[str]]) -> set[str]:
    """What is left once it had the time to go by itself."""
    if not left():
        return set()
    gc.collect()
    until = time.monotonic() + SETTLE_SECONDS
    while (found := left()) and time.monotonic() < until:
        time.sleep(0.01)
    return found


def _tasks() -> set[str]:
    # private, but only this knows the tasks of every loop; 3.12 gave it another name
    known = getattr(asyncio.tasks, "_scheduled_tasks", None)
    if known is None:
        known = getattr(asyncio.tasks, "_all_tasks", ())
    return {f"{task.get_name()} {id(task):x}" for task in list(known) if not task.done()}


def _children() -> set[str]:
    """Children of this process, dead ones not waited for included; not the shared brokers, which
    a test may have started anew."""
    from kafka_broker import SHARED  # a plugin is imported by pytest, and not before

    shared = {str(broker.pid) for broker in SHARED}
    found = set()
    for thread in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError):
            for pid in set((thread / "children").read_text().split()) - shared:
                found.add(f"{pid} {_command(pid)}")
    return found


def _command(pid: str) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return "(gone)"


def _threads() -> set[str]:
    return {f"{thread.name} {thread.ident}" for thread in threading.enumerate()}


def _descriptors() -> set[str]:
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the descriptor of this very listing
            found.add(f"{descriptor.name} → {descriptor.readlink()}")
    return found


def _cgroups() -> set[str]:
    """Groups of ours below the ones that this process is in."""
    found = set()
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        root = Path("/sys/fs/cgroup", controllers.removeprefix("name="), path.lstrip("/"))
        found |= {str(group) for group in root.glob("*streamfaas*")}
    return found
