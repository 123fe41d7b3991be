"""The address where the daemon is measured and asked whether it lives: one, while it may change."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

import anyio
from anyio.abc import TaskGroup

from streamfaas.api.probes import Answer, Probes


@dataclass(slots=True)
class _Open:
    address: str
    probes: Probes
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)


class Listening:
    """Answers the same routes wherever it listens; they are asked for where there is an address.
    The next address is bound before the last one is let go."""

    def __init__(self, address: str | None, routes: Callable[[], Mapping[str, Answer]]) -> None:
        self._routes = routes
        self._first = address
        self._open: _Open | None = None
        self._tasks: TaskGroup | None = None

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Probes are answered from before anything is started until all has ended. `ConfigError`
        where the address cannot be had."""
        opened = self.prepare(self._first)
        try:
            async with anyio.create_task_group() as self._tasks:
                self.commit(opened)
                yield
                self._tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            if len(group.exceptions) == 1:  # what it would be without probes
                raise group.exceptions[0] from None
            raise

    def prepare(self, address: str | None) -> _Open | None:
        """Binds the address, unless that is what is bound. `ConfigError` where it cannot be."""
        if address is None:
            return None
        if self._open is not None and self._open.address == address:
            return self._open
        made = _Open(address, Probes(address, self._routes()))
        made.probes.open()
        return made

    def commit(self, prepared: _Open | None) -> None:
        """Answers there from now on, and nowhere else."""
        last, self._open = self._open, prepared
        if last is prepared:
            return
        if last is not None:
            last.scope.cancel()
        if prepared is not None:
            assert self._tasks is not None
            self._tasks.start_soon(_serve, prepared, name="probes")

    def abandon(self, prepared: _Open | None) -> None:
        if prepared is not None and prepared is not self._open:
            prepared.probes.close()


async def _serve(opened: _Open) -> None:
    try:
        with opened.scope:
            await opened.probes.serve()
    finally:
        opened.probes.close()
