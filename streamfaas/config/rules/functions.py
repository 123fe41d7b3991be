"""Rules of functions: code, runtime, environment and their shares."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from streamfaas.config import keys, units
from streamfaas.config.rules import handlers
from streamfaas.config.rules.case import CLOSED, Case, connected, not_a_directory, not_a_file
from streamfaas.config.rules.state import unsafe
from streamfaas.config.spec import RUNTIME
from streamfaas.flow.errors import Problem

ENV_BYTES_MAX = 4_096


def _code(case: Case) -> Iterator[Problem]:
    for name, function in case.config.functions.items():
        path = ("functions", name)
        wrong = not_a_directory(function.code)
        if not wrong and not os.access(function.code, os.R_OK | os.X_OK):
            wrong = CLOSED
        if wrong:
            yield case.tell("SF1063", (*path, "code"), f"{function.code} {wrong}")
            continue
        suspect, mend = unsafe(function.code.stat())
        if suspect:
            message = f"{function.code} {suspect}, who decides what is run"
            yield case.tell("SF1097", (*path, "code"), message, mend, warning=True)
        wrong, mend = _no_handler(function.code, function.handler)
        if wrong:
            yield case.tell("SF1064", (*path, "handler"), wrong, mend)


def no_handler(code: Path, handler: str) -> str:
    """What is wrong with a handler, as far as can be told without running it; or nothing."""
    return _no_handler(code, handler)[0]


def _no_handler(code: Path, handler: str) -> tuple[str, str]:
    module, _, name = handler.rpartition(".")
    file = Path(*module.split("."))
    for each in (file / "__init__.py", file.with_suffix(".py")):  # as Python looks for it
        if not not_a_file(code / each):
            wrong, near = handlers.misses(code / each, name, code)
            return wrong, f"did you mean {module}.{near}?" if near else ""
    return f"there is no {file.with_suffix('.py')} in {code}", _handler_hint(code, handler)


def _handler_hint(code: Path, handler: str) -> str:
    first = handler.split(".", maxsplit=1)[0]
    there = sorted(each.stem for each in code.glob("*.py") if each.stem.isidentifier())
    near = keys.nearest(first, there)
    return f"did you mean {near}.{handler.rpartition('.')[2]}?" if near else ""


def _runtime(case: Case) -> Iterator[Problem]:
    for name, function in case.config.functions.items():
        path = ("functions", name, "runtime")
        asked = function.runtime
        if asked == RUNTIME:
            continue
        if re.fullmatch(r"python3\.[0-9]{1,2}", asked):
            yield case.tell(
                "SF1066",
                path,
                f"{asked} is not the Python that runs streamfaas, which is {RUNTIME}",
                f"install streamfaas under {asked}, or write runtime: {RUNTIME}",
            )
        elif asked.startswith(("nodejs", "ruby", "java", "dotnet", "provided", "go")):
            yield case.tell(
                "SF1041",
                path,
                f"the {asked} runtime: not in this version",
                f"this version has {RUNTIME}",
            )
        else:
            yield case.tell("SF1047", path, f"{asked} is not a runtime", f"write {RUNTIME}")


def _venv(case: Case) -> Iterator[Problem]:
    for name, function in case.config.functions.items():
        if function.venv is None:
            continue
        path = ("functions", name, "venv")
        if not_a_file(function.venv / "pyvenv.cfg"):
            yield case.tell(
                "SF1065",
                path,
                f"{function.venv} is not a virtual environment",
                f"make one: {RUNTIME} -m venv {shlex.quote(str(function.venv))}",
            )
        elif not_a_directory(function.venv / "lib" / RUNTIME / "site-packages"):
            found = sorted(each.name for each in (function.venv / "lib").glob("python3*"))
            made = f", but for {' and '.join(found)}" if found else ""
            yield case.tell("SF1065", path, f"{function.venv} is not made for {RUNTIME}{made}")


def _environment(case: Case) -> Iterator[Problem]:
    for name, function in case.config.functions.items():
        size = sum(len(key) + len(value.encode()) for key, value in function.env.items())
        if size > ENV_BYTES_MAX:
            yield case.tell(
                "SF1059",
                ("functions", name, "env"),
                f"the names and values come to {size:,} bytes, over the limit of {ENV_BYTES_MAX:,}",
                "put large values in a file of the code",
                key=True,
            )


def _connection(case: Case) -> Iterator[Problem]:
    named = []
    for name, function in case.config.functions.items():
        path = ("functions", name, "connection")
        if function.connection is None:
            continue
        named.append((path, function.connection))
        if function.isolation.network == "none":
            message = "the function has no network to reach it by"
            hint = "leave isolation.network: none out"
            yield case.tell("SF1122", path, message, hint, key=True)
    yield from connected(case, "aws", named)


def _concurrency(case: Case) -> Iterator[Problem]:
    limits, functions = case.config.limits, case.config.functions
    for name, function in functions.items():
        share, path = function.concurrency, ("functions", name, "concurrency")
        if share.max is not None and share.warm > share.max:
            message = f"warm: {share.warm} is more than max: {share.max}"
            yield case.tell("SF1071", (*path, "warm"), message)
        if share.max is not None and share.reserved > share.max:
            message = f"reserved: {share.reserved} is more than max: {share.max}"
            yield case.tell("SF1071", (*path, "reserved"), message)
        if limits.memory is not None and function.memory > limits.memory:
            yield case.tell(
                "SF1095",
                ("functions", name, "memory"),
                f"{units.format_size(function.memory)} is more than limits.memory, "
                f"{units.format_size(limits.memory)}: no worker could ever start",
            )
    yield from _reserved(case)
    warm = sum(each.concurrency.warm * each.memory for each in functions.values())
    if limits.memory is not None and warm > limits.memory:
        yield case.tell(
            "SF1095",
            ("limits", "memory"),
            f"the warm workers alone may need {units.format_size(warm)}",
            "lower concurrency.warm, or raise the limit",
            warning=True,
        )


def _reserved(case: Case) -> Iterator[Problem]:
    limit, functions = case.config.limits.concurrency, case.config.functions
    total = sum(each.concurrency.reserved for each in functions.values())
    if total > limit:
        greatest = max(functions, key=lambda name: functions[name].concurrency.reserved)
        yield case.tell(
            "SF1070",
            ("functions", greatest, "concurrency", "reserved"),
            f"{total:,} invocations are reserved in all, more than limits.concurrency: {limit:,}",
            "lower concurrency.reserved of a function, or raise the limit",
        )
    elif total == limit:
        for name, function in functions.items():
            if not function.concurrency.reserved:
                yield case.tell(
                    "SF1070",
                    ("functions", name),
                    f"other functions reserve all of the {limit:,} invocations: this one could "
                    "never run",
                    "raise limits.concurrency, or reserve some for it",
                    key=True,
                )


def _logging(case: Case) -> Iterator[Problem]:
    for name, function in case.config.functions.items():
        logging = function.logging
        for key in ("level", "system_level"):
            if logging.format == "text" and getattr(logging, key) != "info":  # the default
                yield case.tell(
                    "SF1106",
                    ("functions", name, "logging", key),
                    f"{key} has no effect where the format is text",
                    "add format: json, or set the level of Python's logging in the code",
                    key=True,
                )


RULES = (_code, _runtime, _venv, _environment, _connection, _concurrency, _logging)
