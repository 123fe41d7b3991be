"""As whom the sandbox is tried: as root and as an ordinary user, where both can be had."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from parts import missing
from zygote_harness import WORKER_UID, interpreter_for

ORDINARY = WORKER_UID + 1 if os.getuid() == 0 else os.getuid()

ASKED = """
def handler(event, context):
    scope = {"context": context}
    exec(event["run"], scope)
    return scope.get("result")
"""

AS_BOTH = pytest.mark.parametrize(
    "uid",
    [pytest.param(0, id="as-root", marks=pytest.mark.root), pytest.param(ORDINARY, id="as-user")],
)


def need(uid: int) -> int:
    """Skips where a zygote cannot be started as this user."""
    if uid == 0 and os.getuid() != 0:
        pytest.skip("only root can be root")
    if interpreter_for(uid) is None:
        missing(f"a Python that the user {uid} may start")
    return uid


@contextmanager
def code(uid: int, files: dict[str, str] | None = None) -> Iterator[Path]:
    """A function's directory that the user owns, in a place where it can be reached."""
    folder = Path(tempfile.mkdtemp(prefix="streamfaas-code-", dir="/var/tmp"))
    try:
        for name, text in ({"app.py": ASKED} if files is None else files).items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        folder.chmod(0o755)
        if os.getuid() == 0:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, uid, uid)
        yield folder
    finally:
        shutil.rmtree(folder)
