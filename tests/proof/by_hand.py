"""A proof that is run by hand: what it is asked, where its ledgers are kept, on which broker it runs,
and how its judgement is told."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from kafka_broker import Kafka, running
from proof.checker import Report


def ask(parser: argparse.ArgumentParser, course: Any, *names: str) -> None:
    """An option for each part of a course, or for those that are named."""
    for name, value in asdict(course).items():
        if not names or name in names:
            parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)


def opened(folder: Path | str, seed: int) -> Path:
    """A folder that was not there; one without a path is kept in the cache."""
    path = folder if isinstance(folder, Path) else Path("../.cache") / folder
    path.mkdir(parents=True)
    print(f"seed {seed}, in {path}", flush=True)
    return path


def with_broker(judged: Callable[[Kafka], int]) -> int:
    """The exit status; 2 where no broker can be had."""
    try:
        with running() as kafka:
            return judged(kafka)
    except (pytest.skip.Exception, pytest.fail.Exception) as reason:
        print(reason, file=sys.stderr)
        return 2


def tell(report: Report, problems: Sequence[str], seconds: float) -> int:
    """Prints the judgement; the exit status."""
    for name, count in report.counts.items():
        print(f"{name:44} {count:>12,}")
    print(f"{'seconds':44} {seconds:>12,.0f}")
    broken = [*problems, *map(str, report.violations[:20])]
    for line in broken:
        print(f"VIOLATED {line}")
    more = len(report.violations) - 20
    if more > 0:
        print(f"VIOLATED … and {more} more of {', '.join(sorted(report.broken))}")
    print("nothing lost, nothing invented, in order" if not broken else "FAILED")
    return 1 if broken else 0
