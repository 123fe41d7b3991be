"""What is on a machine's disk: the real outbox, over a database that a crash does not touch."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TypeVar

from proof.simulation.world import Process, World
from streamfaas.flow.errors import StoreError
from streamfaas.store import intents

T = TypeVar("T")


def prepared() -> sqlite3.Connection:
    """A database with the outbox's tables."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for statement in intents.SCHEMA:
        connection.execute(statement)
    return connection


class Disk:
    """A process's way to the store of its machine, as `store.Store` is one: each job is one
    transaction, durable when it returns, and may be carried out though nobody waits any more."""

    def __init__(self, process: Process) -> None:
        self._process = process
        world = process.world
        if process.slot not in world.stores:
            world.stores[process.slot] = prepared()
        self._connection: sqlite3.Connection = world.stores[process.slot]

    async def write(self, job: Callable[[sqlite3.Connection], T]) -> T:
        return await self._process.ask("store", lambda: self._carry_out(job), self._seconds())

    async def read(self, job: Callable[[sqlite3.Connection], T]) -> T:
        return await self._process.ask("look up", lambda: job(self._connection), self._seconds())

    def _seconds(self) -> float:
        return self._process.world.latency() / 4

    def _carry_out(self, job: Callable[[sqlite3.Connection], T]) -> T:
        if self._process.world.wrong("store-full", self._process.slot):
            raise StoreError("the disk is full", "make room")
        self._connection.execute("BEGIN")
        try:
            result = job(self._connection)
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")
        return result


def close(world: World) -> None:
    for connection in world.stores.values():
        connection.close()
