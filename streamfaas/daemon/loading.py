"""A configuration as it was read: what it asks for, and what its files held at that time."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from streamfaas.config import document
from streamfaas.config.check import check, redacted
from streamfaas.config.diff import certificates
from streamfaas.config.files import read_small
from streamfaas.config.load import Examined, examine
from streamfaas.config.report import report, summary
from streamfaas.config.spec import Config
from streamfaas.daemon.build import Plan, plan_of
from streamfaas.flow.errors import Problem
from streamfaas.functions.code import look

DIGITS = 12
"""Of a file's hash, what is shown."""

BYTES_MAX = document.BYTES_MAX


@dataclass(frozen=True, slots=True)
class Loaded:
    """`environ` is what it is filled in from; `files` is what each file held that it was made of,
    itself, what was put into it and certificates, `codes` how the code of each function looked;
    `at` is when, in epoch seconds; `report` are the warnings, as a text for people."""

    plan: Plan
    environ: Mapping[str, str] = field(repr=False)
    files: Mapping[Path, str]
    codes: Mapping[str, str]
    at: float
    report: str = ""

    @property
    def digest(self) -> str:
        """Of the file itself."""
        return self.files[self.plan.config_path]

    def renewed_since(self, other: Loaded) -> frozenset[Path]:
        """Files that both name, and that held something else then."""
        before = other.files
        return frozenset(p for p, digest in self.files.items() if before.get(p, digest) != digest)

    def recoded_since(self, other: Loaded) -> tuple[str, ...]:
        """Functions of both whose code looked otherwise then."""
        before = other.codes
        return tuple(n for n, looked in self.codes.items() if before.get(n, looked) != looked)


@dataclass(frozen=True, slots=True)
class Invalid:
    """There is no configuration in the file: why, in a line, and as a text for people."""

    reason: str
    report: str


def load(path: Path, environ: Mapping[str, str]) -> Loaded | Invalid:
    """Reads and checks a file, and plans what it asks for."""
    digest = digest_of(path)  # first: what is written meanwhile is a difference
    return _planned(examine(path, environ), path, environ, digest)


def load_text(text: str, path: Path, environ: Mapping[str, str]) -> Loaded | Invalid:
    """As `load`, of what somebody else has read from a file there."""
    config, problems = check(text, name=path.name, base_dir=path.parent, environ=environ)
    shown = redacted(text) if problems else ""
    return _planned(Examined(config, problems, shown), path, environ, _digest(text.encode()))


def _planned(
    found: Examined, path: Path, environ: Mapping[str, str], digest: str
) -> Loaded | Invalid:
    told = report(found.problems, str(path), found.text) if found.problems else ""
    if found.config is None:
        return Invalid(_reason(found.problems, path), told)
    plan = plan_of(found.config, path)
    return Loaded(
        plan=plan,
        environ=environ,
        files={**files_of(_named(found.config, environ)), plan.config_path: digest},
        codes={each.name: look(each.code).digest for each in plan.functions},
        at=time.time(),  # by the wall, for people
        report=told,
    )


def _named(config: Config, environ: Mapping[str, str]) -> Iterator[Path]:
    """Small files whose contents are part of a configuration."""
    yield from certificates(config)
    put_in = {each for origins in config.origins.values() for each in origins.split(", ")}
    for each in put_in:
        kind, _, name = each.partition(" ")
        if kind == "file":
            yield config.file.absolute().parent / name
        elif kind == "credential":
            yield Path(environ.get("CREDENTIALS_DIRECTORY", "")) / name


def files_of(paths: Iterable[Path]) -> dict[Path, str]:
    """What each of them holds now."""
    return {path: digest_of(path) for path in paths}


def digest_of(path: Path) -> str:
    """What a small file holds, in a few characters; nothing where it cannot be read."""
    try:
        data, _ = read_small(path, BYTES_MAX)
    except (OSError, ValueError):
        return ""
    return _digest(data)


def _digest(data: bytes) -> str:
    return sha256(data).hexdigest()[:DIGITS]


class Unlike:
    """Whether a file is another by now than the one that was read. It is asked with every look at
    the status, and so reads the file only where its inode says that there may be something new."""

    def __init__(self, path: Path, digest: str) -> None:
        self._path = path
        self._digest = digest
        self._seen: tuple[int, ...] = ()
        self._differs = False

    def __call__(self) -> bool:
        seen = _seen(self._path)
        if seen != self._seen or not seen:
            self._seen = seen
            self._differs = digest_of(self._path) != self._digest
        return self._differs


def _reason(problems: Iterable[Problem], path: Path) -> str:
    first, *more = [summary(each, path.name) for each in problems if not each.warning]
    return f"{first} (and {len(more)} more)" if more else first


def _seen(path: Path) -> tuple[int, ...]:
    try:
        found = os.stat(path)  # noqa: PTH116 - a plain look, every second
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
