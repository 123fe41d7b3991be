"""Addresses where the daemon listens, while they may change."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import anyio
from anyio.abc import TaskGroup

from streamfaas.api.addresses import Listener


@dataclass(slots=True)
class _Open:
    listener: Listener
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)


Prepared: TypeAlias = Mapping[str, _Open]


class Listening:
    """A listener at each address that is wanted, all of one kind. The next addresses are bound
    before the last ones are let go."""

    def __init__(self, addresses: Collection[str], make: Callable[[str], Listener]) -> None:
        self._make = make
        self._first = addresses
        self._open: Prepared = {}
        self._tasks: TaskGroup | None = None

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """They are answered from before anything is started until all has ended. `ConfigError`
        where one cannot be had."""
        opened = self.prepare(self._first)
        try:
            async with anyio.create_task_group() as self._tasks:
                self.commit(opened)
                yield
                self._tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            if len(group.exceptions) == 1:  # what it would be without listeners
                raise group.exceptions[0] from None
            raise

    def prepare(self, addresses: Collection[str]) -> Prepared:
        """Binds those that are not bound. `ConfigError` where one cannot be: then none is."""
        prepared: dict[str, _Open] = {}
        try:
            for address in addresses:
                if (known := self._open.get(address)) is None:
                    known = _Open(self._make(address))
                    known.listener.open()
                prepared[address] = known
        except BaseException:
            self.abandon(prepared)
            raise
        return prepared

    def commit(self, prepared: Prepared) -> None:
        """Answers there from now on, and nowhere else."""
        last, self._open = self._open, prepared
        for address, opened in last.items():
            if address not in prepared:
                opened.scope.cancel()
        for address, opened in prepared.items():
            if address not in last:
                assert self._tasks is not None
                self._tasks.start_soon(_serve, opened, name="listener")

    def abandon(self, prepared: Prepared) -> None:
        for address, opened in prepared.items():
            if address not in self._open:
                opened.listener.close()


async def _serve(opened: _Open) -> None:
    try:
        with opened.scope:
            await opened.listener.serve()
    finally:
        opened.listener.close()
