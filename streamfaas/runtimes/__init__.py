"""How a language is started. One file a language."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from streamfaas.functions import Function


@dataclass(frozen=True, slots=True)
class Command:
    """How the launcher of a function's workers is started. The number of its control descriptor
    is put behind `argv`; `spec` is the first packet it is sent there."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    spec: bytes


Runtime: TypeAlias = Callable[[Function], Command]
"""`ConfigError` where the function cannot be started as configured."""
