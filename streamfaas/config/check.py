"""Text to a checked configuration, or to everything that is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from streamfaas.config import complaints, document, keys, rules
from streamfaas.config.delivery import AnyDestination, LogRetries, Retries
from streamfaas.config.document import Table
from streamfaas.config.files import default_state
from streamfaas.config.interpolate import interpolate
from streamfaas.config.masking import may_hold_login
from streamfaas.config.object_stores import ObjectTopicTrigger, ObjectWebhookTrigger
from streamfaas.config.rules.case import Case
from streamfaas.config.rules.connections import plain_secrets, suspects
from streamfaas.config.spec import RUNTIME, Config, Function
from streamfaas.config.triggers import AnyTrigger, KafkaTrigger
from streamfaas.flow.errors import Problem
from streamfaas.flow.verdict import ATTEMPTS_WITH_DESTINATION


def check(
    text: str, *, name: str, base_dir: Path, environ: Mapping[str, str]
) -> tuple[Config | None, tuple[Problem, ...]]:
    """The configuration, if nothing but warnings was found, and all that was found, in the order
    of the file. Relative paths start at `base_dir`; `name` is the file's, for the record."""
    try:
        root, problems = document.parse(text)
    except document.Unreadable as cause:
        return None, (cause.problem,)
    base = base_dir.absolute()
    problems += interpolate(root, base, environ)
    hidden = _hidden(root)
    config, found = _modelled(root, base, environ)
    places = {(problem.line, problem.column) for problem in problems}
    problems += [problem for problem in found if (problem.line, problem.column) not in places]
    problems.sort(key=lambda problem: (problem.line, problem.column, problem.warning))
    told = tuple(_without(problem, hidden) for problem in problems[: document.PROBLEMS_MAX])
    if config is None or not all(problem.warning for problem in problems):
        return None, told
    config.remember(base_dir / name, MappingProxyType(_origins(root)), told)
    return config, told


def _hidden(root: Table) -> list[str]:
    """Texts that no message may show, the longest first."""
    found = {str(each.value) for _, each in document.scalars(root) if each.hidden and each.value}
    return sorted(found, key=len, reverse=True)


def _without(problem: Problem, hidden: list[str]) -> Problem:
    message, hint = problem.message, problem.hint
    for text in hidden:
        message, hint = message.replace(text, document.MASK), hint.replace(text, document.MASK)
    return replace(problem, message=message, hint=hint)


def redacted(text: str) -> str:
    """The text with each secret in it blotted out (`BLOT`), every other character in its
    place."""
    try:
        root, _ = document.parse(text)
    except document.Unreadable:
        return _by_eye(text)
    found = [scalar for _, scalar in (*plain_secrets(root), *suspects(root))]
    found += [each for _, each in document.scalars(root) if may_hold_login(str(each.value))]
    return document.blotted(text, found)


def _by_eye(text: str) -> str:
    """As `redacted`, for what is not YAML: whatever stands after the name of a secret,
    and before the @ of an address."""
    names = "|".join(sorted(keys.secrets()))
    after = re.compile(rf"""(?<![A-Za-z0-9_])((?:{names})["']?\s*:)([^\r\n]*)""", re.ASCII)
    text = after.sub(lambda found: found[1] + document.BLOT * len(found[2]), text)
    return _LOGIN.sub(lambda found: found[1] + document.BLOT * len(found[2]), text)


_LOGIN = re.compile(r"([a-z]:/+)([^\r\n]+)(?=@)", re.IGNORECASE)


def _modelled(
    root: Table, base: Path, environ: Mapping[str, str]
) -> tuple[Config | None, list[Problem]]:
    """The models, and what is wrong. What has the wrong form is left out for the rules, so that
    one look at a file finds all that is wrong with it."""
    data = document.plain(root)
    problems: list[Problem] = []
    lost: set[document.Path] = set()
    sound = True
    while True:
        try:
            config = Config.model_validate(data, context=base)
            break
        except ValidationError as cause:
            errors = cause.errors(include_url=False)
        if sound:
            problems = complaints.complaints(root, errors[: document.PROBLEMS_MAX])
            sound = False
        lost.update(_left_out(data, complaints.where(error)) for error in errors)
    config = _filled(config, base, environ)
    problems += rules.judge(Case(config, root, environ, sound, frozenset(lost)))
    return (config if sound else None), problems


def _left_out(data: dict[str, Any], path: document.Path) -> document.Path:
    """Takes the smallest whole thing around a path out of the data, and says what that was."""
    match path:
        case ("functions", str() as function, "triggers", str() as trigger, *_):
            _table(data, "functions", function, "triggers").pop(trigger, None)
            return path[:4]
        case ("functions", str() as function, str() as key, *_) if key in _table(
            data, "functions", function
        ) and key not in ("code", "handler"):
            del _table(data, "functions", function)[key]  # it could be left out, or is not known
            return path[:3]
        case ("functions" | "connections" as section, str() as name, *_):
            _table(data, section).pop(name, None)
            return path[:2]
        case ("functions",):
            data["functions"] = {}
        case ("version",):
            data["version"] = 1
        case (key, *_):
            data.pop(str(key), None)
    return path[:1]


def _table(data: Any, *path: str) -> dict[str, Any]:
    for part in path:
        data = data.get(part) if isinstance(data, dict) else None
    return data if isinstance(data, dict) else {}


def _filled(config: Config, base: Path, environ: Mapping[str, str]) -> Config:
    """The configuration with every default that depends on something else."""
    state = config.state
    path = state.path if "path" in state.model_fields_set else base / default_state(environ)
    if str(path) in environ.get("STATE_DIRECTORY", "").split(":"):
        # where users come and go, systemd gives a link, and has made what it leads to
        path = path.resolve()
    state = state.model_copy(update={"path": path})
    functions = {
        name: _filled_function(name, function, config)
        for name, function in config.functions.items()
    }
    return config.model_copy(update={"state": state, "functions": MappingProxyType(functions)})


def _filled_function(name: str, function: Function, config: Config) -> Function:
    update: dict[str, Any] = {
        key: getattr(config.defaults, key)
        for key in ("memory", "timeout", "isolation")
        if key not in function.model_fields_set
    }
    if not function.runtime:
        update["runtime"] = RUNTIME
    triggers = {
        key: trigger.model_copy(update=_trigger_defaults(f"{name}.{key}", trigger))
        for key, trigger in function.triggers.items()
    }
    return function.model_copy(update={**update, "triggers": MappingProxyType(triggers)})


def _trigger_defaults(name: str, trigger: AnyTrigger) -> dict[str, Any]:
    update: dict[str, Any] = {"retries": _filled_retries(trigger.retries, trigger.on_failure)}
    if isinstance(trigger, KafkaTrigger | ObjectTopicTrigger) and not trigger.group:
        update["group"] = f"streamfaas.{name}"
    if isinstance(trigger, ObjectWebhookTrigger) and not trigger.path:
        update["path"] = f"/{name.replace('.', '/')}"
    return update


def _filled_retries(retries: Retries, on_failure: AnyDestination | None) -> Retries:
    """What is given up must have somewhere to go; then a batch is worth halving, too."""
    update: dict[str, Any] = {}
    if on_failure is not None and "max" not in retries.model_fields_set:
        update["max"] = ATTEMPTS_WITH_DESTINATION
    if isinstance(retries, LogRetries) and retries.bisect is None:
        update["bisect"] = on_failure is not None
    return retries.model_copy(update=update)


def _origins(root: Table) -> dict[str, str]:
    return {
        document.dotted(path): scalar.origin
        for path, scalar in document.scalars(root)
        if scalar.origin
    }
