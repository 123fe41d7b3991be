"""Parts that a test needs from outside the project, and what becomes of it where one is missing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
UNDER_CI = os.environ.get("CI") == "true"


def missing(reason: str) -> NoReturn:
    """Skips the test; under CI, where every part is promised, fails it instead."""
    if UNDER_CI:
        pytest.fail(f"missing: {reason}", pytrace=False)
    pytest.skip(f"missing: {reason}")


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
