"""One database file, one thread that writes to it in groups, one that reads."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar, cast

import anyio

from streamfaas.flow.errors import StoreError
from streamfaas.store import place, schema
from streamfaas.telemetry.signals import DaemonStepped, Emit

T = TypeVar("T")
Job = Callable[[sqlite3.Connection], T]
"""Statements that belong together. It runs in a thread of the store, inside a transaction that is
not its own, may run twice, and touches nothing but the connection."""

GROUP_MAX = 1000
"""Jobs that share one commit at most."""

WAITING_MAX = 10_000
"""Jobs that wait for a thread at most; more callers than that wait for their turn."""

DEADLINE_SECONDS = 30.0
CLOSE_SECONDS = 15.0

_log = logging.getLogger("streamfaas.store")


class Store:
    """What the daemon remembers. `write` returns when the commit that holds the job's statements
    is on the disk; jobs that wait at the same time share a commit. A job that raises takes nobody
    else down. Errors of the database, the disk and the place are `StoreError`s.

    `lost` is not empty after a damaged database was set aside, and says which and why: until the
    next clean close, whoever relied on the memory must not take absence for an answer.
    """

    def __init__(self, path: Path, lost: str, threads: tuple[_Thread, _Thread], lock: int) -> None:
        self.path = path
        self.lost = lost
        self._writer, self._reader = threads
        self._lock = lock

    @classmethod
    async def open(cls, path: Path, *, emit: Emit | None = None) -> Store:
        """Makes, checks, brings up to date and locks the database. A damaged one is set aside
        under a new name, which is told to `emit` (without one: to the log)."""
        opening = _Opening(path)
        thread = _Thread("streamfaas store: writer", path, _write_group, opening)
        try:
            await thread.start()
            reader = _Thread("streamfaas store: reader", path, _read_group)
            try:
                await reader.start()
            except BaseException:
                await reader.stop()
                raise
        except BaseException:
            await thread.stop()
            opening.release()
            raise
        if opening.set_aside is not None:
            _tell(f"{path} was damaged and is set aside as {opening.lost}", emit)
        return cls(path, opening.lost, (thread, reader), opening.lock)

    async def write(self, job: Job[T], *, deadline_seconds: float = DEADLINE_SECONDS) -> T:
        """What the job returned, once it is durable. When the deadline passes first, the job is
        withdrawn if it has not begun; otherwise it may yet be carried out, whole."""
        return cast(T, await self._writer.ask(job, deadline_seconds))

    async def read(self, job: Job[T], *, deadline_seconds: float = DEADLINE_SECONDS) -> T:
        """What the job returned: it sees everything that was written before."""
        return cast(T, await self._reader.ask(job, deadline_seconds))

    async def close(self) -> None:
        """Carries out what was asked for, then lets go. A second call changes nothing."""
        if self._lock < 0:
            return
        lock, self._lock = self._lock, -1
        with anyio.CancelScope(shield=True):
            with contextlib.suppress(StoreError):
                await self.write(_close_cleanly, deadline_seconds=CLOSE_SECONDS)
            await self._reader.stop()
            await self._writer.stop()
        os.close(lock)


class _Opening:
    """What the writer does first, in its thread: place, lock, file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = -1
        self.set_aside: Path | None = None
        self.lost = ""

    def __call__(self) -> None:
        place.secure(self.path.parent)
        self.lock = place.lock(self.path.with_name(f"{self.path.name}.lock"))
        self.set_aside = schema.prepare(self.path)
        with contextlib.closing(schema.connect(self.path)) as connection:
            self.lost = connection.execute("SELECT follows FROM origin").fetchone()[0]

    def release(self) -> None:
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1


def _close_cleanly(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE origin SET follows = '' WHERE follows != ''")


def _tell(line: str, emit: Emit | None) -> None:
    if emit is not None:
        emit(DaemonStepped("state set aside", line))
    else:
        _log.warning(line)


# -- threads


@dataclass(slots=True, eq=False)
class _Call:
    job: Job[Any]
    answer: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None

    def deliver(self) -> None:
        if self.answer.done():
            return
        if self.error is not None:
            self.answer.set_exception(self.error)
        else:
            self.answer.set_result(self.result)

    def expire(self, seconds: float) -> None:
        if not self.answer.done():
            message = f"the store has not answered within {seconds:g} s"
            self.answer.set_exception(StoreError(message, "look at the load of its disk"))


RunGroup = Callable[[sqlite3.Connection, Sequence[_Call]], None]


class _Thread:
    """A thread with a connection of its own, which takes the calls that wait in groups."""

    def __init__(
        self, name: str, path: Path, run: RunGroup, first: Callable[[], None] | None = None
    ) -> None:
        self._path = path
        self._run = run
        self._first = first
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Semaphore(WAITING_MAX)
        self._started: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._stopping = False
        # a daemon thread: a disk that hangs does not keep the process from ending
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)

    async def start(self) -> None:
        self._thread.start()
        await asyncio.shield(self._started)

    async def ask(self, job: Job[Any], deadline_seconds: float) -> Any:
        if self._stopping:
            raise StoreError(f"{self._path} is closed")
        call = _Call(job, self._loop.create_future())
        timer = self._loop.call_later(deadline_seconds, call.expire, deadline_seconds)
        try:
            if self._room.locked():
                await self._wait_for_room(call, deadline_seconds)
            else:
                await self._room.acquire()  # at once
            self._calls.put(call)
            return await call.answer
        finally:
            timer.cancel()

    async def stop(self) -> None:
        """Ends the thread after what it was asked for, in time or not at all."""
        self._stopping = True
        if self._thread.ident is None:
            return
        self._calls.put(None)
        with anyio.CancelScope(shield=True), anyio.move_on_after(CLOSE_SECONDS):
            await self._ended
            self._thread.join()  # it has said that it is leaving

    async def _wait_for_room(self, call: _Call, seconds: float) -> None:
        try:
            with anyio.fail_after(seconds):
                await self._room.acquire()
        except TimeoutError:
            call.expire(seconds)
            await call.answer

    # -- in the thread

    def _serve(self) -> None:
        try:
            if self._first is not None:
                self._first()
            connection = schema.connect(self._path, read_only=self._run is _read_group)
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits for the start
            self._post(self._refuse, _translated(self._path, error))
        else:
            self._post(self._started.set_result, None)
            with contextlib.closing(connection):
                self._serve_calls(connection)
        self._post(self._ended.set_result, None)

    def _serve_calls(self, connection: sqlite3.Connection) -> None:
        while (group := self._next_group()) is not None:
            # a caller that has given up is not served
            wanted = [call for call in group if not call.answer.done()]
            if wanted:
                self._run(connection, wanted)
            for call in wanted:
                if call.error is not None:
                    call.error = _translated(self._path, call.error)
            self._post(self._deliver, group)

    def _next_group(self) -> list[_Call] | None:
        """All that wait now; None when the end was asked for."""
        call = self._calls.get()
        if call is None:
            return None
        group = [call]
        with contextlib.suppress(Empty):
            while len(group) < GROUP_MAX:
                call = self._calls.get_nowait()
                if call is None:
                    self._calls.put(None)  # the next round is the last
                    break
                group.append(call)
        return group

    def _post(self, callback: Callable[..., object], *arguments: Any) -> None:
        # a loop that was closed over our head has nobody left who waits
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, *arguments)

    # -- back in the loop

    def _refuse(self, error: BaseException) -> None:
        self._stopping = True
        if not self._started.done():
            self._started.set_exception(error)
            self._started.exception()  # whoever waited may have been cancelled: no complaint then

    def _deliver(self, group: Sequence[_Call]) -> None:
        for call in group:
            call.deliver()
            self._room.release()


def _write_group(connection: sqlite3.Connection, group: Sequence[_Call]) -> None:
    """All in one transaction; if one of them fails, each in its own."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        for call in group:
            call.result = call.job(connection)
        connection.execute("COMMIT")
    except BaseException as error:  # noqa: BLE001 - handed to the callers
        _roll_back(connection)
        if len(group) == 1 or schema.is_of_the_world(error):
            for call in group:
                call.error = error
        else:
            for call in group:
                _write_group(connection, [call])


def _roll_back(connection: sqlite3.Connection) -> None:
    """After some errors SQLite has done so already; after others it cannot, and the next
    transaction says so."""
    if connection.in_transaction:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")


def _read_group(connection: sqlite3.Connection, group: Sequence[_Call]) -> None:
    for call in group:
        try:
            call.result = call.job(connection)
        except BaseException as error:  # noqa: BLE001 - handed to the caller
            call.error = error


def _translated(path: Path, error: BaseException) -> BaseException:
    """What a caller is told: a `StoreError` of its own for what the world did. A statement that
    is wrong is our own fault, and stays what it is."""
    if isinstance(error, sqlite3.Error) and schema.is_of_the_world(error):
        translated = schema.store_error(path, error)
    elif isinstance(error, OSError):
        translated = StoreError(f"{path}: {error.strerror or error}", "look at its disk")
    else:
        return error
    translated.__cause__ = error
    return translated
