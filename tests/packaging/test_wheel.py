"""What is installed from the wheel, without the checkout beside it."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest

from parts import CHECKOUT

pytestmark = pytest.mark.slow

PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel in it, and what it depends on lent by the one of the
    tests: not the checkout, since a borrowed folder's own `.pth` files are not read."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=False, symlinks=True)
    packages = folder / sysconfig.get_path("purelib", vars={"base": "", "platbase": ""}).lstrip("/")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    lent = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (packages / "lent.pth").write_text("\n".join(sorted(lent)))
    return folder / "bin" / "python"


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def run(python: Path, *arguments: str, folder: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name[:6] != "PYTHON"}
    done = subprocess.run(
        [str(python), *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    tops = {name.split("/")[0] for name in names(wheel)}
    assert tops == {"streamfaas", f"streamfaas-{version()}.dist-info"}


def test_the_wheel_holds_every_file_of_the_package(wheel):
    files = {
        str(path.relative_to(CHECKOUT))
        for path in (CHECKOUT / "streamfaas").glob("**/*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names(wheel) if name.startswith("streamfaas/")} == files
    assert "streamfaas/py.typed" in files
    assert "streamfaas/guest/python/bootstrap.py" in files


def test_the_wheel_says_what_the_project_says(wheel):
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(f"streamfaas-{version()}.dist-info/METADATA").decode()
        scripts = archive.read(f"streamfaas-{version()}.dist-info/entry_points.txt").decode()
    about = HeaderParser().parsestr(text)
    assert about["Name"] == "streamfaas"
    assert about["Requires-Python"] == PROJECT["requires-python"]
    wanted = [line for line in about.get_all("Requires-Dist") if "extra" not in line]
    assert len(wanted) == len(PROJECT["dependencies"])
    assert "streamfaas = streamfaas.__main__:main" in scripts


def test_what_is_installed_runs_without_the_checkout(installed, tmp_path):
    where = run(installed, "-c", "import streamfaas; print(streamfaas.__file__)", folder=tmp_path)
    assert Path(where.strip()).is_relative_to(installed.parent.parent)
    assert version() in run(installed, "-m", "streamfaas", "version", folder=tmp_path)


def version() -> str:
    from streamfaas import __version__

    return __version__
