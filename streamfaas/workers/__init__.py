"""Processes that run handlers."""

from __future__ import annotations

from typing import Any, Protocol

from streamfaas.flow.invocation import Invocation
from streamfaas.flow.outcome import Outcome


class Pool(Protocol):
    """Where invocations become outcomes."""

    async def open(self) -> None:
        """Starts the warm minimum. `CannotIsolate` where a function must be refused."""

    async def call(self, invocation: Invocation) -> Outcome:
        """Waits in order for a worker, hands over, waits for the answer or the timeout. Never
        raises for the function's sake. Cancelled, it kills the worker that runs the call."""

    async def close(self, grace_seconds: float) -> None:
        """Lets calls in hand end within the grace, then ends every process it started."""

    def view(self) -> dict[str, Any]:
        """Functions with their workers by state, isolation level and recent failures."""
