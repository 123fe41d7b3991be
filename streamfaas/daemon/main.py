"""The daemon as a process: start, signals, readiness, drain."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import faulthandler
import gc
import os
import random
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from collections.abc import Mapping as Table
from pathlib import Path
from typing import Any, cast

import anyio
import uvloop

from streamfaas.api.probes import Answer, probes
from streamfaas.api.unix_socket import Server
from streamfaas.daemon import outputs
from streamfaas.daemon.admin import Admin
from streamfaas.daemon.build import Plan
from streamfaas.daemon.deliveries import Destinations
from streamfaas.daemon.desks import DeskRoom
from streamfaas.daemon.lateness import watched
from streamfaas.daemon.life import Life
from streamfaas.daemon.listening import Listening
from streamfaas.daemon.loading import Loaded
from streamfaas.daemon.mappings import Mappings
from streamfaas.daemon.measured import routes
from streamfaas.daemon.observers import Observers
from streamfaas.daemon.reload import Reached, Reload, Reloaded
from streamfaas.daemon.reloads import Turns
from streamfaas.daemon.sources import Clock, Means
from streamfaas.daemon.standing import Standing
from streamfaas.daemon.steering import Brakes
from streamfaas.daemon.watching import CONFIG, Watching
from streamfaas.engine.lane import Surroundings
from streamfaas.engine.mapping import Mapping
from streamfaas.engine.requests import RequestIds
from streamfaas.flow.errors import CannotIsolate, ConfigError, StoreError
from streamfaas.flow.record import Instant
from streamfaas.store import Store, inbox
from streamfaas.store.backlog import Backlog
from streamfaas.store.outbox import Outbox
from streamfaas.store.windows import Windows
from streamfaas.telemetry import signals
from streamfaas.telemetry.signals import Emit
from streamfaas.workers.pool import WorkerPool

CONFIG_EXIT = 78
CONNECT_SECONDS = 10.0
"""How long readiness waits for sources to connect; then the daemon is ready, and degraded."""

POOL_CLOSE_SECONDS = 5.0
FEEDS_END_SECONDS = 1.0
"""How long the last lines of a feed may take to be read."""


def run(config: Path, *, quiet: bool = False, json_logs: bool = False) -> int:
    """Runs the daemon in the foreground until SIGTERM or SIGINT; the exit status."""
    from streamfaas.config.report import report
    from streamfaas.daemon.loading import Invalid, load

    loaded = load(config, os.environ)
    if loaded.report:
        sys.stderr.write(loaded.report + "\n")
    if isinstance(loaded, Invalid):
        return CONFIG_EXIT
    faulthandler.enable()  # systemd ends who is stuck by SIGABRT: the log then says where
    _keep_memory()
    output = outputs.opened(loaded.plan.logs.output, quiet=quiet, json_logs=json_logs)
    daemon = Daemon(loaded, output.listen, finish=output.finish, quiet=quiet)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            status = runner.run(daemon.main())
        except ConfigError as error:  # what only starting a function can find
            sys.stderr.write(report(error.problems, str(config)) + "\n")
            status = CONFIG_EXIT
        finally:
            daemon.observers.exporting.close()
            output.close()
        # everything is settled and closed: a loop that waits for what a library left open in it
        # (a look-up of a name, a connection half made) must not keep the process
        sys.stderr.flush()
        os._exit(status)


class Daemon:
    """Everything of one configuration, from the store to the mappings.

    `finish` is given what `status` would show at the end; `reached` each step of a reload.
    """

    def __init__(
        self,
        loaded: Loaded,
        *listeners: Emit,
        finish: Callable[[dict[str, Any]], None],
        reached: Reached = lambda _step: None,
        quiet: bool = False,
    ) -> None:
        """`quiet`: no listener wants the lines of functions."""
        self.loaded = loaded
        self.pool: WorkerPool | None = None
        self.outbox: Outbox | None = None
        self.brakes: Brakes | None = None
        self._mappings: Mappings | None = None
        self._transaction: Reload | None = None
        self.observers = Observers(
            listeners,
            plan=lambda: self.plan,
            triggers=lambda: self.mappings,
            view=self.view,
            quiet=quiet,
        )
        self.emit = self.observers.emit
        self.life = Life(self.view, self.emit)
        self.reloads = Turns(self._reload)
        self._watching = Watching(lambda: self.loaded, self.reloads.ask, self.emit)
        self._standing = Standing(loaded, reached)
        self._finish = finish
        self._stop_asked = anyio.Event()
        self._listening = Listening(
            self.plan.metrics.addresses, lambda address: probes(address, self._measured())
        )
        self._desks = DeskRoom(self.plan.desks)
        self._webhooks = Listening(self.plan.desks, self._desks.listener)

    @property
    def plan(self) -> Plan:
        """What runs."""
        return self.loaded.plan

    def _change(self, loaded: Loaded) -> None:
        """Another configuration runs from here on."""
        self.loaded = loaded
        self._desks.paths = loaded.plan.desks
        self._standing.take(loaded)
        self._watching.wake()
        self.observers.change()

    def _measured(self) -> Table[str, Answer]:
        """What an address answers."""
        return routes(self, self.observers.counted())

    @property
    def mappings(self) -> dict[str, Mapping]:
        """What runs, by name: `function/trigger`."""
        return {} if self._mappings is None else self._mappings.running

    async def waiting(self) -> dict[str, int]:
        """How many accepted events of each function are not done with."""
        return {} if self._mappings is None else await self._mappings.waiting()

    async def accept(
        self,
        function: str,
        event: bytes,
        request_id: str,
        *,
        hops: int = 0,
        replays: int = 0,
        client_context: bytes = b"",
        order_key: str = "",
        trace: str = "",
    ) -> None:
        """Takes an asynchronous invocation: it is kept for good when this returns."""
        assert self._mappings is not None
        await self._mappings.accept(
            function,
            event,
            request_id,
            hops=hops,
            replays=replays,
            client_context=client_context,
            order_key=order_key,
            trace=trace,
        )

    def stop(self) -> None:
        """Drains and ends; a second call changes nothing."""
        self._stop_asked.set()

    async def main(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        loop.add_signal_handler(signal.SIGHUP, self.reloads.ask, CONFIG)
        self.observers.exporting.open()
        try:
            async with self._listening.serving(), self._webhooks.serving():
                with (
                    self.observers.lines.written(self.emit),
                    watched(loop, self.observers.late),
                ):
                    return await self._serve()
        except (StoreError, CannotIsolate) as error:
            self.emit(signals.DaemonStepped("refused", f"{error}; {error.remedy}".rstrip("; ")))
            return CONFIG_EXIT
        finally:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.remove_signal_handler(number)

    def _signalled(self, number: int) -> None:
        if self._stop_asked.is_set():  # asked twice: at once, workers die with us
            os._exit(128 + number)
        self._stop_asked.set()

    async def _serve(self) -> int:
        plan, observers, loop = self.plan, self.observers, asyncio.get_running_loop()
        clock = cast(Clock, loop.time)  # asked several times for each batch: no step of our own
        store: Store | None = None
        letters = Destinations(plan.connections, self.accept, self.emit)
        server = Server(plan.socket, Admin(self).handle)
        pool = self.pool = WorkerPool(
            plan.functions,
            concurrency=plan.concurrency,
            memory_bytes=plan.memory_bytes,
            emit=self.emit,
            clock=clock,
            logs_wanted=observers.lines.wanted,
            platform_logs_wanted=observers.lines.platform_wanted,
        )
        for note in observers.notes:
            self.emit(signals.DaemonStepped("traces:", note))
        try:
            store = await Store.open(plan.store_path, emit=self.emit)
            self.outbox = Outbox(store, emit=self.emit)
            await self.outbox.open({each.name: f for f, each in plan.asynchronous.items()})
            server.open()
            await pool.open(patient=True)
            mappings = await self._made(store, pool, letters, clock)
            left, notices = await Backlog(store).queues(), await inbox.waiting(store)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(server.serve, name="api")
                tasks.start_soon(self.life.show, pool, name="watchdog")
                tasks.start_soon(observers.look_back, name="lately")
                tasks.start_soon(observers.measure, name="export")
                await self._unless_stopped(letters.open)
                mappings.start(tasks, left, notices)
                await mappings.tell_windows()
                tasks.start_soon(self._become_ready, name="readiness")
                tasks.start_soon(self.reloads.serve, name="reloads")
                tasks.start_soon(self._watching.serve, name="watching")
                await self._stop_asked.wait()
                await self._drain()
                observers.feeds.end()
                await server.finish(FEEDS_END_SECONDS)
                tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await pool.close(POOL_CLOSE_SECONDS)
                server.close()
                await (letters if self._mappings is None else self._mappings.letters).close()
                if store is not None:
                    await store.close()
        observers.measure_last()
        self.emit(signals.DaemonStepped("stopped"))
        self._finish(self.view())
        return 0

    async def _made(
        self, store: Store, pool: WorkerPool, letters: Destinations, clock: Clock
    ) -> Mappings:
        """All that stands between store, workers and destinations. Nothing of it runs yet."""
        assert self.outbox is not None
        surroundings = Surroundings(
            dispatch=pool.call,
            clock=clock,
            wall=time.time,
            jitter=random.random,
            request_id=RequestIds(),
            emit=self.emit,
            outbox=self.outbox,
            windows=Windows(store),
            witness=self.observers.witnesses,
            recorder=self.observers.recorder,
        )
        self.brakes = Brakes(store, emit=self.emit)
        await self.brakes.open()
        means = Means(
            store,
            Backlog(store),
            self._desks,
            clock,
            self.emit,
            room=pool.room,
            pauses=self.brakes.held,
        )
        mappings = self._mappings = Mappings(self.plan, means, letters, surroundings)
        self._transaction = Reload(
            self.loaded,
            mappings=mappings,
            listening=self._listening,
            webhooks=self._webhooks,
            pool=pool,
            commit=self._change,
            clock=clock,
            emit=self.emit,
            reached=self._standing.step,
        )
        return mappings

    async def _unless_stopped(self, work: Callable[[], Awaitable[None]]) -> None:
        """Does something that may take long, and leaves it when told to stop."""
        async with anyio.create_task_group() as tasks:

            async def leave() -> None:
                await self._stop_asked.wait()
                tasks.cancel_scope.cancel()

            tasks.start_soon(leave, name="leave")
            await work()
            tasks.cancel_scope.cancel()

    async def _become_ready(self) -> None:
        with anyio.move_on_after(CONNECT_SECONDS):
            for mapping in list(self.mappings.values()):
                await mapping.connected.wait()
        # from here on nothing long-lived is collected again and again
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
        await self.life.run()

    async def _reload(self, about: frozenset[str]) -> Reloaded | None:
        """The code of the functions it is `about`, or all of the configuration."""
        assert self._transaction is not None
        await self.life.ready.wait()
        if about and CONFIG not in about:
            await self._transaction.renew(about)
            return None
        self.life.reload()
        told: Reloaded | None = None
        try:
            told = await self._transaction()
        finally:
            self._standing.ended(told)
            self.life.reloaded()
        return told

    async def _drain(self) -> None:
        grace = self.plan.grace_seconds
        self.life.drain(grace)
        left = self._mappings.stop() if self._mappings is not None else ()
        await self.reloads.stop()  # nothing begins any more, whatever it was about to do
        async with anyio.create_task_group() as stopping:
            for mapping in left:
                stopping.start_soon(mapping.stop, grace)
            if self.pool is not None:
                self.pool.drain()

    # -- for people

    def view(self) -> dict[str, Any]:
        """What `status` shows."""
        from streamfaas import __version__

        now, lately = Instant(asyncio.get_running_loop().time()), self.observers.lately
        triggers = {
            name: {**mapping.view(now), "unwell_seconds": lately.unwell_seconds(name)}
            for name, mapping in self.mappings.items()
        }
        return {
            "version": __version__,
            "pid": os.getpid(),
            "uptime_seconds": round(self.life.uptime_seconds, 3),
            "config": str(self.plan.config_path),
            "configuration": self._standing.view(),
            "state": self.life.state(triggers.values()),
            "grace_left_seconds": self.life.grace_left_seconds,
            "rss_bytes": _rss_bytes(),
            "functions": {} if self.pool is None else self.pool.view(),
            "triggers": triggers,
            "unclaimed": {} if self._mappings is None else dict(self._mappings.unclaimed),
            "export": self.observers.exporting.view(),
        }


def _keep_memory() -> None:
    """Lets malloc keep what the fetch buffers need: given back to the kernel and taken anew, each
    of their pages would be faulted in again for every reply."""
    mmap_threshold, trim_threshold = -3, -1  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD of mallopt(3)
    with contextlib.suppress(OSError, AttributeError):  # another libc has no mallopt
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_threshold, 16 * 1024 * 1024)
        libc.mallopt(trim_threshold, 32 * 1024 * 1024)


def _rss_bytes() -> int:
    with open("/proc/self/statm", "rb") as statm:  # noqa: PTH123 - a file of the kernel
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
