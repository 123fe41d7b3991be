"""Parts that a test needs from outside the project: where they are kept, and how they are fetched;
and what becomes of a test where one is missing.

`STREAMFAAS_TEST_CACHE` names the folder of those that were fetched.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn, TypeVar

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
UNDER_CI = os.environ.get("CI") == "true"
FETCH_SECONDS = 300

Part = TypeVar("Part")


class Unavailable(Exception):
    """A part cannot be had, or not be used, on this machine; the text says why and what would
    help."""


def missing(reason: str) -> NoReturn:
    """Skips the test; under CI, where every part is promised, fails it instead."""
    if UNDER_CI:
        pytest.fail(f"missing: {reason}", pytrace=False)
    pytest.skip(f"missing: {reason}")


def promised(part: Callable[[], Part]) -> Part:
    """What it gives, where that can be had."""
    try:
        return part()
    except Unavailable as error:
        missing(str(error))


def vectors(folder: str = "") -> Path:
    """The folder of cases from outside, or one folder in it."""
    root = Path(os.environ.get("STREAMFAAS_VECTORS", CHECKOUT.parent / "shared" / "vectors"))
    path = root / folder
    if not path.is_dir():
        missing(f"the cases from outside, at {path} (STREAMFAAS_VECTORS names their folder)")
    return path


def open_to_others(folder: Path) -> None:
    """Lets users who are not root look into a folder of pytest's, which they may not by default."""
    for each in (folder, *folder.parents):
        if "pytest-of-" not in str(each):
            break
        each.chmod(0o755)


# -- what is fetched


def fetched(name: str, fetch: Callable[[Path], None]) -> Path:
    """The folder of this name, filled where it is not there yet. A folder without its marker is the
    rest of an attempt that failed, and is done again."""
    folder = _cache() / name
    marker = folder / "complete"
    if not marker.exists():
        with _alone(name):
            if not marker.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                fetch(folder)
                marker.touch()
    return folder


def unpacked(name: str, *packages: str) -> Path:
    """The same of Debian's packages, which are not installed: no service, no user, no root."""
    folder = _cache() / name
    if not folder.exists():
        with _alone(name), tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            if not folder.exists():
                _unpack(packages, Path(scratch))
                (Path(scratch) / "unpacked").rename(folder)
    return folder


def jars(project: Path, folder: Path, *options: str) -> None:
    """Fetches what a project of Maven's needs at its run time."""
    maven = shutil.which("mvn")
    if maven is None:
        raise Unavailable(f"no jars in {folder}, and no mvn to fetch them")
    copy = ("dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={folder}")
    carry_out(maven, "-q", "-B", "-f", str(project), *copy, *options)


def carry_out(*command: str, folder: Path | None = None) -> None:
    """Runs what a part needs to be there."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=FETCH_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        raise Unavailable(f"{command[0]} did not end in {FETCH_SECONDS} s") from late
    if done.returncode:
        said = (done.stdout + done.stderr).strip()
        raise Unavailable(f"{' '.join(command[:4])} … failed: {said[-500:]}")


def resolve(part: Callable[[], object]) -> None:
    """Of a program: with `--resolve` it fetches its part ahead of the tests."""
    program = Path(sys.argv[0]).name
    if sys.argv[1:] != ["--resolve"]:
        sys.exit(f"usage: {program} --resolve")
    try:
        print(part())
    except Unavailable as error:
        sys.exit(f"tests/{program}: {error}")


def _cache() -> Path:
    return Path(os.environ.get("STREAMFAAS_TEST_CACHE") or CHECKOUT / ".cache")


@contextmanager
def _alone(name: str) -> Iterator[None]:
    _cache().mkdir(parents=True, exist_ok=True)
    with (_cache() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _unpack(packages: tuple[str, ...], folder: Path) -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise Unavailable(f"no apt-get and dpkg-deb to fetch Debian's {packages[0]} with")
    try:
        carry_out("apt-get", "-qq", "download", *packages, folder=folder)
    except Unavailable:
        if os.geteuid():
            raise
        carry_out("apt-get", "-qq", "update")  # the lists may not be there yet
        carry_out("apt-get", "-qq", "download", *packages, folder=folder)
    for package in folder.glob("*.deb"):
        carry_out("dpkg-deb", "-x", str(package), "unpacked", folder=folder)
