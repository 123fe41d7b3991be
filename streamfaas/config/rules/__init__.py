"""What must hold between keys, and between the configuration and the machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from streamfaas.config.rules import (
    circles,
    connections,
    destinations,
    functions,
    object_stores,
    queues,
    state,
    telemetry,
    triggers,
)
from streamfaas.config.rules.case import Case
from streamfaas.flow.errors import Problem

RULES: tuple[Callable[[Case], Iterator[Problem]], ...] = (
    *functions.RULES,
    *triggers.RULES,
    *queues.RULES,
    *object_stores.RULES,
    *connections.RULES,
    *destinations.RULES,
    *circles.RULES,
    *state.RULES,
    *telemetry.RULES,
)


def judge(case: Case) -> Iterator[Problem]:
    """Everything that is wrong, and everything that is allowed but should be looked at."""
    for rule in RULES:
        yield from rule(case)
