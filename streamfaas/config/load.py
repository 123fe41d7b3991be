"""A file to a checked configuration, if its owner and mode can be trusted."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from streamfaas.config import document
from streamfaas.config.check import check, redacted
from streamfaas.config.files import read_small
from streamfaas.config.place import cannot_read
from streamfaas.config.rules.state import unsafe
from streamfaas.config.spec import Config
from streamfaas.flow.errors import ConfigError, Problem


@dataclass(frozen=True, slots=True)
class Examined:
    """What there is to say of a file: the configuration unless there are errors, all problems,
    and, where there are problems, the text without its secrets."""

    config: Config | None
    problems: tuple[Problem, ...]
    text: str


def load(path: Path, environ: Mapping[str, str]) -> Config:
    """The configuration in a file, or `ConfigError` with everything that is wrong with it."""
    found = examine(path, environ)
    if found.config is None:
        raise ConfigError(found.problems, str(path), found.text)
    return found.config


def examine(path: Path, environ: Mapping[str, str]) -> Examined:
    """As `load`, with the warnings, and never an exception for what the file holds."""
    try:
        data, mode, distrusted = _read(path)
        text = document.decode(data)
    except document.Unreadable as cause:
        return Examined(None, (cause.problem,), "")
    config, problems = check(text, name=path.name, base_dir=path.parent, environ=environ)
    problems = tuple(distrusted) + tuple(_exposed(problem, mode) for problem in problems)
    if not all(problem.warning for problem in problems):
        config = None
    return Examined(config, problems, redacted(text) if problems else "")


def _read(path: Path) -> tuple[bytes, int, list[Problem]]:
    """The file's bytes and mode, and why it must not be trusted."""
    try:
        data, found = read_small(path, document.BYTES_MAX)
        around = path.absolute().parent.stat()
    except (OSError, ValueError) as cause:
        raise document.Unreadable(cannot_read(cause)) from cause
    problems = []
    reason, mend = unsafe(found)
    if reason:
        problems.append(Problem("SF1020", "", 0, 0, f"the file {reason}", mend))
    if around.st_mode & stat.S_IWOTH and not around.st_mode & stat.S_ISVTX:
        message = "the file's directory may be written by everybody"
        problems.append(Problem("SF1020", "", 0, 0, message, "chmod o-w"))
    return data, found.st_mode, problems


def _exposed(problem: Problem, mode: int) -> Problem:
    """A secret in plain text is an error where others may read it."""
    if problem.code != "SF1090" or not mode & (stat.S_IRGRP | stat.S_IROTH):
        return problem
    return replace(
        problem,
        code="SF1021",
        message="a secret in plain text, in a file that others may read",
        hint=f"chmod 600, or {problem.hint}",
        warning=False,
    )
