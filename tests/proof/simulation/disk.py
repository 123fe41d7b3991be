"""What is on a machine's disk: the real outbox, over a database that a crash does not touch."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from proof.simulation.world import Process, World
from streamfaas.flow.errors import StoreError
from streamfaas.store import intents, shards, windows

T = TypeVar("T")
MOMENT = 1e-6


def prepared() -> sqlite3.Connection:
    """A database with the tables of the outbox, of shards, and of windows."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for statement in (*intents.SCHEMA, *shards.SCHEMA, *shards.SEEN, *windows.SCHEMA):
        connection.execute(statement)
    return connection


@dataclass(slots=True)
class Drive:
    """A machine's. What is written is carried out in the order of asking."""

    connection: sqlite3.Connection
    busy_until: float = 0.0


class Disk:
    """A process's way to the store of its machine, as `store.Store` is one: each job is one
    transaction, durable when it returns, and may be carried out though nobody waits any more."""

    def __init__(self, process: Process) -> None:
        self._process = process
        world = process.world
        if process.slot not in world.stores:
            world.stores[process.slot] = Drive(prepared())
        self._drive: Drive = world.stores[process.slot]
        self._connection = self._drive.connection

    async def write(self, job: Callable[[sqlite3.Connection], T]) -> T:
        now, drive, seconds = self._process.world.now, self._drive, self._seconds()
        if seconds or drive.busy_until >= now:
            drive.busy_until = max(now + seconds / 2, drive.busy_until + MOMENT)
            seconds = 2 * (drive.busy_until - now)
        return await self._process.ask("store", lambda: self._carry_out(job), seconds)

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
        world = self._process.world
        if world.backing is not None:
            world.backing.stored(self._connection)
        return result


def close(world: World) -> None:
    for drive in world.stores.values():
        drive.connection.close()
