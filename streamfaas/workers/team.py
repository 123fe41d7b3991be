"""The workers of one definition of a function, and the launcher that they are forked from."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from streamfaas.flow.errors import CannotIsolate, ConfigError, Problem
from streamfaas.flow.record import Instant
from streamfaas.functions import Function
from streamfaas.runtimes import Command, Runtime
from streamfaas.telemetry.signals import Emit, FunctionIsolated
from streamfaas.workers import endings
from streamfaas.workers.endings import Ending
from streamfaas.workers.launcher import (
    Denied,
    Ended,
    Exited,
    Launcher,
    Message,
    Ready,
    Spawned,
    SpawnFailed,
)
from streamfaas.workers.logs import PIPE_BYTES
from streamfaas.workers.platform import Platform
from streamfaas.workers.process import Call, Keeper, Worker, kill_tree


class Desk:
    """Where the calls of a function wait and are counted, whoever serves them."""

    __slots__ = ("errors", "invocations", "last_error", "throttled", "waiting", "workers")

    def __init__(self) -> None:
        self.waiting: dict[int, Call] = {}  # by ticket, the oldest first
        self.workers = 0  # that there have been, of whatever definition
        self.invocations = 0
        self.errors = 0
        self.throttled = 0
        self.last_error = ""


@dataclass(frozen=True, slots=True)
class Ground:
    """What all teams of a pool share. `leaving` are launchers that were let go or are broken, and
    are not yet gone; `changed` is set when a worker got ready, or a worker or launcher is gone."""

    emit: Emit
    clock: Callable[[], Instant]
    stream_id: Callable[[], str]
    buffer: bytearray = field(default_factory=partial(bytearray, PIPE_BYTES))
    leaving: set[Launcher] = field(default_factory=set)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """The condition is looked at whenever something has changed."""
        while not condition():
            self.changed.clear()
            await self.changed.wait()


class Team:
    """One definition. It is told which workers to start, and starts as many of them at a time as
    the launcher takes; a launcher that ends takes all workers along."""

    __slots__ = (
        "_ground",
        "_group",
        "_keeper",
        "_learned",
        "_loop",
        "_pending",
        "command",
        "desk",
        "function",
        "in_force",
        "isolation",
        "launcher",
        "missing",
        "platform",
        "trouble",
        "vacant_since",
        "workers",
    )

    def __init__(
        self,
        desk: Desk,
        function: Function,
        command: Command,
        ground: Ground,
        keep: Callable[[Team], Keeper],
    ) -> None:
        self.desk = desk
        self.function = function
        self.command = command
        self.platform = Platform(function)
        self.isolation = ""
        self.missing: tuple[str, ...] = ()
        self.launcher: Launcher | None = None
        self.workers: dict[int, Worker] = {}  # asked for, and not gone
        self.vacant_since = Instant(0.0)
        self.in_force = False
        self.trouble = ""  # why a worker did not get ready
        self._ground = ground
        self._group = False  # no pid namespace: descendants must be ended by process group
        self._learned: asyncio.Future[Message] | None = None
        self._loop: asyncio.AbstractEventLoop
        self._keeper = keep(self)
        self._pending: deque[Worker] = deque()  # to be started, and not yet asked for

    @property
    def vacant(self) -> bool:
        """Whether it has no worker, and none is on its way."""
        return not (self.workers or self._pending)

    async def learn(self, *, patient: bool = False) -> None:
        """Starts the launcher once, to know what the machine can give the function.
        `CannotIsolate` where that is less than it must have; but where we are patient, a directory
        that is not there may come later: its workers wait for it."""
        self._loop = asyncio.get_running_loop()
        self._learned = self._loop.create_future()
        name = self.function.name
        try:
            self._launch()
            message = await self._learned  # bounded by the launcher's own patience
        except OSError as error:
            text = f"function {name}: its launcher cannot be started: {error.strerror}"
            raise CannotIsolate(text) from error
        finally:
            self._learned = None
        match message:
            case Denied(control="mounts") if patient:
                pass
            case Denied():
                text = f"function {name}: {message.control}: {message.reason}"
                raise CannotIsolate(text, message.remedy)
            case Ended():
                raise CannotIsolate(f"function {name}: its launcher {message.reason}")
            case _:
                pass

    def enlist(self, number: int) -> Worker:
        """A worker that is to be started."""
        self.desk.workers += 1
        name = f"{self.function.name}#{self.desk.workers}"
        return Worker(number, name, self.function, self._keeper)

    def start(self, worker: Worker) -> None:
        self._pending.append(worker)
        self._pump()

    def gone(self, worker: Worker, now: Instant) -> None:
        """The worker is not there any more."""
        self.workers.pop(worker.number, None)
        self.vacant_since = now

    def stuck(self, _worker: Worker) -> None:
        """It was killed, and the launcher does not say that it is gone: which is of no use."""
        self.fall("does not report the end of a worker")

    def release(self) -> None:
        """Lets a launcher go that nothing is wanted of any more."""
        if self.launcher is not None:
            self._ground.leaving.add(self.launcher)
            self.launcher.close()
            self.launcher = None

    def fall(self, reason: str) -> None:
        """The launcher has ended, or is to: its workers end with it, for no fault of theirs."""
        launcher, self.launcher = self.launcher, None
        if launcher is not None and launcher.alive:
            self._ground.leaving.add(launcher)
            launcher.kill(reason)
        ending = endings.aborted(f"the function's launcher {reason}")
        self.blame(ending.text)
        for worker in list(self.workers.values()):
            worker.fall(ending)
        self.fail_starts(ending)

    def blame(self, reason: str) -> None:
        """Says why there is no worker; the function's own fault it is only while in force."""
        self.trouble = reason
        if self.in_force:
            self.desk.last_error = reason

    def fail_starts(self, ending: Ending) -> None:
        """Nothing comes of the starts that have not begun."""
        while self._pending:
            self._pending.popleft().fall(ending)

    def _launch(self) -> None:
        self.vacant_since = self._ground.clock()
        self.launcher = Launcher(self._loop, self.command, self._ground.buffer, self._heard)

    def _pump(self) -> None:
        """Asks the launcher for as many of the workers to start as it takes at once."""
        if self.launcher is None and self._pending:
            try:
                self._launch()
            except OSError as error:
                self.fail_starts(endings.aborted(f"no launcher: {error.strerror}"))
        while self.launcher is not None and self.launcher.room and self._pending:
            worker = self._pending.popleft()
            try:
                ends = worker.connect(self._loop, self._ground.buffer)
            except OSError as error:
                worker.fall(endings.aborted(f"no channel for a worker: {error.strerror}"))
                continue
            self.workers[worker.number] = worker
            self.launcher.spawn(worker.number, self._log_stream(), ends)
            for end in ends:
                os.close(end)

    def _heard(self, launcher: Launcher, message: Message) -> None:
        if self._learned is not None and not self._learned.done():
            self._learned.set_result(message)
        match message:
            case Ready():
                self._isolated(message)
            case Denied():
                self.fall(f"was refused {message.control}: {message.reason}")
            case Spawned(number, pidfd) if number in self.workers:
                self.workers[number].spawned(pidfd, group=self._group)
            case Spawned(_, pidfd):
                kill_tree(pidfd, group=self._group)
                os.close(pidfd)
            case SpawnFailed(number, reason) if number in self.workers:
                self.workers[number].fall(endings.aborted(f"a worker cannot be forked: {reason}"))
            case Exited(number, status, memory_bytes) if number in self.workers:
                self.workers[number].exited(status, memory_bytes)
            case Ended(reason):
                self._ground.leaving.discard(launcher)
                self._ground.changed.set()
                if self.launcher is launcher:
                    self.fall(reason)
            case _:
                pass
        self._pump()

    def _isolated(self, ready: Ready) -> None:
        self._group = ready.controls.get("pid") != "enforced"
        missing = tuple(str(each.get("control", "")) for each in ready.missing)
        if (ready.level, missing) != (self.isolation, self.missing):
            self.isolation, self.missing = ready.level, missing
            self._ground.emit(FunctionIsolated(self.function.name, ready.level, missing))

    def _log_stream(self) -> str:
        day = time.strftime("%Y/%m/%d", time.gmtime())
        return f"{day}/[$LATEST]{self._ground.stream_id()}"


def commands(
    functions: Sequence[Function], runtime: Runtime, memory_bytes: int
) -> dict[str, tuple[Function, Command]]:
    """How each is started. `ConfigError` with everything that can be found wrong before anything
    is started, at once."""
    found: dict[str, tuple[Function, Command]] = {}
    problems: list[Problem] = []
    for function in functions:
        if function.share.memory_bytes > memory_bytes:
            problems.append(
                Problem(
                    "function-memory",
                    f"functions.{function.name}.memory",
                    0,
                    0,
                    f"one worker needs {function.share.memory_bytes >> 20} MB, and all workers "
                    f"together may have {memory_bytes >> 20} MB",
                    "lower it, or raise limits.memory",
                )
            )
        try:
            found[function.name] = function, runtime(function)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(tuple(problems))
    return found
