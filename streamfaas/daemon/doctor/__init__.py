"""What is looked at when somebody asks whether all is well, and what was found."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import anyio

from streamfaas.flow.errors import ConfigError, StoreError, WorldError

Mark: TypeAlias = Literal["ok", "warn", "bad"]

SECONDS = 15.0
"""How long one check may take."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, what was found, what helps, and the code that `explain`
    knows."""

    mark: Mark
    subject: str
    told: str
    remedy: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """Something to perform, under a name; it raises nothing but what the world does to it."""

    name: str
    perform: Callable[[], Awaitable[Sequence[Finding]]]
    seconds: float = SECONDS
    code: str = ""
    """Of what there is to say where it does not end in time, or fails."""


def ok(subject: str, told: str) -> Finding:
    """All is well."""
    return Finding("ok", subject, told)


def warn(subject: str, told: str, remedy: str, code: str) -> Finding:
    """Worth a look; everything works without."""
    return Finding("warn", subject, told, remedy, code)


def bad(subject: str, told: str, remedy: str, code: str) -> Finding:
    """Something will not work."""
    return Finding("bad", subject, told, remedy, code)


async def examine(
    checks: Sequence[Check], begun: Callable[[str], None], ended: Callable[[str], None]
) -> list[Finding]:
    """Performs all checks at the same time; the findings, in the order of the checks."""
    found: list[Sequence[Finding]] = [()] * len(checks)

    async def one(at: int, check: Check) -> None:
        begun(check.name)
        found[at] = await _performed(check)
        ended(check.name)

    async with anyio.create_task_group() as tasks:
        for at, check in enumerate(checks):
            tasks.start_soon(one, at, check, name=f"check {check.name}")
    return [finding for each in found for finding in each]


async def _performed(check: Check) -> Sequence[Finding]:
    try:
        with anyio.fail_after(check.seconds):
            return await check.perform()
    except TimeoutError:
        told = f"{check.name}: not done within {check.seconds:.0f} s"
        remedy = "is what it asks there? else try again when less is going on"
    except (OSError, WorldError, StoreError) as error:
        told, remedy = str(error), getattr(error, "remedy", "")
    except ConfigError as error:
        told, remedy = error.problems[0].message, error.problems[0].hint
    return [bad(check.name, told, remedy, check.code)]
