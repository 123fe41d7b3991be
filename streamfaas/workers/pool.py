"""The warm pool: carries out what the roster plans, and turns invocations into outcomes."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio

from streamfaas.flow.errors import CannotIsolate, ConfigError, Problem
from streamfaas.flow.invocation import Invocation
from streamfaas.flow.outcome import Failure, Fault, Outcome
from streamfaas.flow.record import Instant
from streamfaas.flow.roster import Roster
from streamfaas.functions import Function
from streamfaas.runtimes import Command, Runtime, python
from streamfaas.telemetry.signals import (
    Emit,
    FunctionIsolated,
    LogWritten,
    WorkerEnded,
    WorkerStarted,
)
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
from streamfaas.workers.process import NEVER, Call, Keeper, Worker, kill_tree

SWEEP_SECONDS = 0.02
"""How often deadlines are looked at while there are any: one timer, not one a call."""

LAUNCHER_IDLE_SECONDS = 300.0
"""A launcher without a worker is let go after this long."""

WAITING_MAX = 10_000
"""Calls of one function that may wait for a worker; one more is throttled."""

_LEARNED_AT_ONCE = 4
_LEAVE_SECONDS = 1.0  # at the end, for workers and then for launchers
_CLOSING = "the service is stopping"


@dataclass(frozen=True, slots=True)
class Motion:
    """How a pool gets on: `steps` grows with all that happens to calls and workers; `stalled` is
    one where calls wait and none is in hand; and how long ago a call in hand should have ended."""

    steps: int
    stalled: bool
    late_seconds: float


class _Team:
    """One function's workers, and the calls that wait for one."""

    __slots__ = (
        "command",
        "errors",
        "function",
        "group",
        "invocations",
        "isolation",
        "last_error",
        "launcher",
        "learned",
        "missing",
        "ordinal",
        "pending",
        "platform",
        "throttled",
        "vacant_since",
        "waiting",
        "workers",
    )

    def __init__(self, function: Function, command: Command) -> None:
        self.function = function
        self.command = command
        self.platform = Platform(function)
        self.launcher: Launcher | None = None
        self.learned: asyncio.Future[Message] | None = None
        self.isolation = ""
        self.missing: tuple[str, ...] = ()
        self.group = False  # no pid namespace: descendants must be ended by process group
        self.ordinal = 0  # of the last worker
        self.pending: deque[Worker] = deque()  # planned, and not yet asked for
        self.workers: dict[int, Worker] = {}  # asked for, and not gone
        self.waiting: dict[int, Call] = {}  # by ticket, the oldest first
        self.vacant_since = Instant(0.0)
        self.invocations = 0
        self.errors = 0
        self.throttled = 0
        self.last_error = ""


class WorkerPool:
    """Where invocations become outcomes, in processes of their own."""

    def __init__(
        self,
        functions: Sequence[Function],
        *,
        concurrency: int,
        memory_bytes: int,
        emit: Emit,
        clock: Callable[[], Instant],
        runtime: Runtime = python.command,
        logs_wanted: Callable[[str], bool] = lambda _: True,
        platform_logs_wanted: Callable[[str], bool] | None = None,
        launcher_idle_seconds: float = LAUNCHER_IDLE_SECONDS,
        stream_id: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        """`logs_wanted` says of a function whether anybody listens to its lines now, and
        `platform_logs_wanted` to ours about what goes well; where nobody does, none is made.
        `ConfigError` where a function cannot be started as configured."""
        self._teams = _teams(functions, runtime, memory_bytes)
        shares = {function.name: function.share for function in functions}
        self._roster = Roster(concurrency, memory_bytes, shares)
        self._emit = emit
        self._clock = clock
        self._logs_wanted = logs_wanted
        self._platform_logs_wanted = platform_logs_wanted or logs_wanted
        self._launcher_idle_seconds = launcher_idle_seconds
        self._stream_id = stream_id
        self._buffer = bytearray(PIPE_BYTES)
        self._loop: asyncio.AbstractEventLoop
        self._workers: dict[int, Worker] = {}  # by number, till they are gone
        self._leaving: set[Launcher] = set()  # let go or broken, and not yet gone
        self._numbers = 0
        self._tickets = 0
        self._waiting = 0
        self._moves = 0  # of workers: started, and gone
        self._stale = False  # something was claimed since the last plan
        self._planned: asyncio.Handle | None = None
        self._wake: asyncio.TimerHandle | None = None
        self._sweeping: asyncio.TimerHandle | None = None
        self._draining = False  # no worker is started any more, and nobody waits for one
        self._closing = False
        self._changed = asyncio.Event()  # while closing: a worker or launcher is gone
        self._keeper = Keeper(
            clock=clock,
            ready=self._worker_ready,
            freed=self._worker_freed,
            gone=self._worker_gone,
            stuck=self._worker_stuck,
            wrote=self._worker_wrote,
            wanted=lambda worker: logs_wanted(worker.function.name),
            watch=self._watch,
        )

    # -- the path

    async def open(self) -> None:
        """Starts the warm minimum. `CannotIsolate` where a function must be refused."""
        self._loop = asyncio.get_running_loop()
        slots = anyio.Semaphore(_LEARNED_AT_ONCE)
        refused: list[CannotIsolate] = []
        try:
            async with anyio.create_task_group() as group:
                for team in self._teams.values():
                    group.start_soon(self._learn, team, slots, refused)
        except BaseException:
            self._destroy()
            raise
        if refused:
            await self.close(0)
            remedies = dict.fromkeys(each.remedy for each in refused if each.remedy)
            raise CannotIsolate("; ".join(map(str, refused)), "; ".join(remedies))
        self._plan()

    async def call(self, invocation: Invocation) -> Outcome:
        """Waits in order for a worker, hands over, waits for the answer or the timeout. Never
        raises for the function's sake. Cancelled, it kills the worker that runs the call."""
        future: asyncio.Future[Outcome] = self._loop.create_future()
        call = Call(invocation, future)
        number = None if self._closing else self._roster.claim(invocation.function)
        if number is None:
            self._enqueue(call)
        else:
            self._stale = True
            self._hand_over(self._workers[number], call)
        try:
            return await future
        except asyncio.CancelledError:
            self._abandon(call)
            raise

    def drain(self) -> None:
        """Calls in hand go on, and workers that stand idle take more. No worker is started any
        more, so that who waits for one is told at once: it may be long in coming."""
        self._draining = True
        for team in self._teams.values():
            self._fail_waiting(team, endings.aborted(_CLOSING))

    async def close(self, grace_seconds: float) -> None:
        """Lets calls in hand end within the grace, then ends every process it started."""
        self._closing = True
        try:
            for team in self._teams.values():
                self._fail_waiting(team, endings.aborted(_CLOSING))
                self._fail_starts(team, endings.aborted(_CLOSING))
            with anyio.move_on_after(grace_seconds):
                await self._wait_until(lambda: not any(w.call for w in self._workers.values()))
            for worker in list(self._workers.values()):
                if worker.ready and worker.call is None:
                    worker.dismiss("drained")
                else:
                    worker.end("aborted", endings.aborted(_CLOSING))
            with anyio.move_on_after(_LEAVE_SECONDS):
                await self._wait_until(lambda: not self._workers)
            for worker in list(self._workers.values()):
                worker.end("aborted")
            for team in self._teams.values():
                self._release(team)
            with anyio.move_on_after(_LEAVE_SECONDS):
                await self._wait_until(lambda: not self._leaving)
        finally:
            self._destroy()

    def view(self) -> dict[str, Any]:
        """Functions with their workers by state, isolation level and recent failures."""
        return {
            name: {
                "isolation": team.isolation,
                "missing": list(team.missing),
                "workers": self._roster.states(name),
                "waiting": len(team.waiting),
                "invocations": team.invocations,
                "errors": team.errors,
                "throttled": team.throttled,
                "last_error": team.last_error,
            }
            for name, team in self._teams.items()
        }

    def motion(self) -> Motion:
        """For whoever judges whether it is stuck."""
        now = self._clock()
        busy = [(each.call, each.function) for each in self._workers.values() if each.call]
        late = (now - call.started - function.timeout_seconds for call, function in busy)
        steps = self._moves + sum(team.invocations for team in self._teams.values())
        return Motion(steps, self._waiting > 0 and not busy, max(late, default=0.0))

    # -- calls

    def _enqueue(self, call: Call) -> None:
        team = self._teams[call.invocation.function]
        if self._draining or self._closing:
            self._fail(team, call, endings.aborted(_CLOSING))
        elif len(team.waiting) >= WAITING_MAX:
            team.throttled += 1
            self._fail(team, call, endings.throttled())
        else:
            self._tickets += 1
            call.ticket = self._tickets
            team.waiting[call.ticket] = call
            self._waiting += 1
            if self._roster.ask(call.ticket, call.invocation.function):
                self._plan_soon()

    def _take_over(self, worker: Worker, ticket: int) -> None:
        """Who waited has its turn."""
        team = self._teams[worker.function.name]
        call = team.waiting[ticket]
        self._withdraw(team, call)
        self._hand_over(worker, call)

    def _hand_over(self, worker: Worker, call: Call) -> None:
        function = worker.function
        until = time.time() + function.timeout_seconds  # what the handler is shown
        try:
            worker.invoke(call, self._clock(), int(until * 1000))
        except OSError:  # it died idle, and has seen nothing of the call
            self._enqueue(call)
        else:
            if self._sweeping is None:
                self._watch()
            if function.platform_logs and self._platform_logs_wanted(function.name):
                request_id = call.invocation.id
                lines = self._teams[function.name].platform.started(request_id)
                self._tell(function.name, worker.name, request_id, lines)

    def _abandon(self, call: Call) -> None:
        team = self._teams[call.invocation.function]
        if call.ticket in team.waiting:
            self._withdraw(team, call)
            self._roster.withdraw(call.ticket, team.function.name)
        elif call.worker is not None and call.worker.call is call:
            call.worker.abandon()

    def _withdraw(self, team: _Team, call: Call) -> None:
        del team.waiting[call.ticket]
        self._waiting -= 1

    def _fail_oldest(self, team: _Team, ending: Ending) -> None:
        """Whoever has waited longest is told why there is no worker; the others wait on."""
        call = next(iter(team.waiting.values()), None)
        if call is not None:
            self._withdraw(team, call)
            self._roster.withdraw(call.ticket, team.function.name)
            self._fail(team, call, ending)

    def _fail_waiting(self, team: _Team, ending: Ending) -> None:
        while team.waiting:
            self._fail_oldest(team, ending)

    def _fail(self, team: _Team, call: Call, ending: Ending) -> None:
        self._settle(team, call, ending.of(call.invocation.id))

    def _settle(self, team: _Team, call: Call, outcome: Outcome) -> None:
        """The call has ended so."""
        team.invocations += 1
        function, future = team.function, call.future
        shown = function.platform_logs and self._platform_logs_wanted(function.name)
        told = shown
        if isinstance(outcome, Failure):
            team.errors += 1
            team.last_error = f"{outcome.type}: {outcome.message}"
            told = self._logs_wanted(function.name)
        if told:
            request_id = call.invocation.id
            begun = shown and call.worker is not None
            lines = team.platform.ended(request_id, outcome, begun=begun)
            self._tell(function.name, outcome.report.worker, request_id, lines)
        if not future.done():
            future.set_result(outcome)

    # -- what workers tell

    def _worker_ready(self, worker: Worker) -> None:
        self._moves += 1
        self._roster.started(worker.number, self._clock())
        name, init_seconds = worker.function.name, worker.init_seconds or 0.0
        self._emit(WorkerStarted(name, worker.name, init_seconds))
        if self._logs_wanted(name):
            lines = self._teams[name].platform.init_ended(init_seconds, None)
            self._tell(name, worker.name, "", lines)
        self._plan_soon()

    def _worker_freed(self, worker: Worker, call: Call, outcome: Outcome) -> None:
        self._settle(self._teams[worker.function.name], call, outcome)
        if self._waiting:
            ticket = self._roster.pass_on(worker.number)
            if ticket is not None:
                self._take_over(worker, ticket)
                return
            self._plan_soon()
        self._roster.freed(worker.number, self._clock())
        if self._closing:
            self._changed.set()

    def _worker_gone(self, worker: Worker, call: Call | None, outcome: Outcome | None) -> None:
        team = self._teams[worker.function.name]
        now = self._clock()
        self._moves += 1
        del self._workers[worker.number]
        team.workers.pop(worker.number, None)
        team.vacant_since = now
        self._roster.exited(worker.number, now)
        if call is not None and outcome is not None:
            self._settle(team, call, outcome)
        elif not worker.ready:
            self._start_failed(team, worker)
        self._emit(WorkerEnded(worker.function.name, worker.name, worker.reason))
        self._changed.set()
        self._plan_soon()

    def _start_failed(self, team: _Team, worker: Worker) -> None:
        ending = worker.ending()
        team.last_error = f"{ending.type}: {ending.text}"
        if ending.fault is Fault.INIT and self._logs_wanted(team.function.name):
            lines = team.platform.init_ended(worker.age_seconds(), ending)
            self._tell(team.function.name, worker.name, "", lines)
        self._fail_oldest(team, ending)

    def _worker_stuck(self, worker: Worker) -> None:
        """Killed, and its launcher does not say that it is gone: the launcher is of no use."""
        team = self._teams[worker.function.name]
        self._fall(team, "does not report the end of a worker")

    def _worker_wrote(self, worker: Worker, line: str) -> None:
        request_id = worker.call.invocation.id if worker.call is not None else ""
        now_ns = time.time_ns()  # when it was is shown to people
        name = worker.function.name
        self._emit(LogWritten(name, worker.name, request_id, line, False, now_ns))

    # -- plans

    def _plan_soon(self) -> None:
        """Once this turn of the loop, however much has happened in it."""
        if self._planned is None and not self._closing:
            self._planned = self._loop.call_soon(self._plan)

    def _plan(self) -> None:
        self._planned = None
        if self._draining or self._closing:
            return
        self._stale = False
        now = self._clock()
        plan = self._roster.plan(now)
        for ticket, number in plan.assign:
            self._take_over(self._workers[number], ticket)
        for number in plan.stop:
            self._workers[number].dismiss("idle")
        for name in plan.start:
            self._start(self._teams[name])
        wake = min(self._let_go(now), NEVER if plan.wake is None else plan.wake)
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        if wake < NEVER:
            self._wake = self._loop.call_later(max(0.0, wake - now), self._plan_soon)

    def _start(self, team: _Team) -> None:
        self._numbers += 1
        team.ordinal += 1
        function = team.function
        worker = Worker(self._numbers, f"{function.name}#{team.ordinal}", function, self._keeper)
        self._workers[worker.number] = worker
        self._roster.starting(worker.number, function.name)
        team.pending.append(worker)
        self._pump(team)

    def _pump(self, team: _Team) -> None:
        """Asks the launcher for as many of the planned workers as it takes at once."""
        if team.launcher is None and team.pending:
            try:
                team.launcher = self._launch(team)
            except OSError as error:
                self._fail_starts(team, endings.aborted(f"no launcher: {error.strerror}"))
        while team.launcher is not None and team.launcher.room and team.pending:
            worker = team.pending.popleft()
            try:
                ends = worker.connect(self._loop, self._buffer)
            except OSError as error:
                worker.fall(endings.aborted(f"no channel for a worker: {error.strerror}"))
                continue
            team.workers[worker.number] = worker
            team.launcher.spawn(worker.number, self._log_stream(), ends)
            for end in ends:
                os.close(end)

    def _let_go(self, now: Instant) -> Instant:
        """Releases launchers without work; gives back when the next one will have idled enough."""
        next_at = NEVER
        for team in self._teams.values():
            if team.launcher is not None and not (team.workers or team.pending or team.waiting):
                at = Instant(team.vacant_since + self._launcher_idle_seconds)
                if at <= now:
                    self._release(team)
                else:
                    next_at = min(next_at, at)
        return next_at

    def _watch(self) -> None:
        """Looks at the deadlines from now on, as long as there are any."""
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        self._sweeping = None
        now = self._clock()
        for worker in [w for w in self._workers.values() if w.due <= now]:
            if worker.due <= now:
                worker.overdue()
        if self._stale:
            self._plan()
        if any(worker.due < NEVER for worker in self._workers.values()):
            self._watch()

    # -- launchers

    async def _learn(
        self, team: _Team, slots: anyio.Semaphore, refused: list[CannotIsolate]
    ) -> None:
        """Starts a launcher once, to know what the machine can give the function."""
        async with slots:
            team.learned = self._loop.create_future()
            try:
                team.launcher = self._launch(team)
            except OSError as error:
                message: Message = Ended(f"cannot be started: {error.strerror}")
            else:
                message = await team.learned  # bounded by the launcher's own patience
            team.learned = None
        name = team.function.name
        match message:
            case Denied():
                text = f"function {name}: {message.control}: {message.reason}"
                refused.append(CannotIsolate(text, message.remedy))
            case Ended():
                refused.append(CannotIsolate(f"function {name}: its launcher {message.reason}"))
            case _ if team.function.share.warm == 0:
                self._release(team)

    def _launch(self, team: _Team) -> Launcher:
        team.vacant_since = self._clock()
        return Launcher(self._loop, team.command, self._buffer, partial(self._heard, team))

    def _heard(self, team: _Team, launcher: Launcher, message: Message) -> None:
        if team.learned is not None and not team.learned.done():
            team.learned.set_result(message)
        match message:
            case Ready():
                self._isolated(team, message)
            case Denied():
                team.last_error = f"{message.control}: {message.reason}"
            case Spawned(number, pidfd) if number in team.workers:
                team.workers[number].spawned(pidfd, group=team.group)
            case Spawned(_, pidfd):
                kill_tree(pidfd, group=team.group)
                os.close(pidfd)
            case SpawnFailed(number, reason) if number in team.workers:
                team.workers[number].fall(endings.aborted(f"a worker cannot be forked: {reason}"))
            case Exited(number, status, memory_bytes) if number in team.workers:
                team.workers[number].exited(status, memory_bytes)
            case Ended(reason):
                self._leaving.discard(launcher)
                self._changed.set()
                if team.launcher is launcher:
                    self._fall(team, reason)
            case _:
                pass
        self._pump(team)

    def _isolated(self, team: _Team, ready: Ready) -> None:
        team.group = ready.controls.get("pid") != "enforced"
        missing = tuple(str(each.get("control", "")) for each in ready.missing)
        if (ready.level, missing) != (team.isolation, team.missing):
            team.isolation, team.missing = ready.level, missing
            self._emit(FunctionIsolated(team.function.name, ready.level, missing))

    def _release(self, team: _Team) -> None:
        """Lets a launcher go that nothing is wanted of any more."""
        if team.launcher is not None:
            self._leaving.add(team.launcher)
            team.launcher.close()
            team.launcher = None

    def _fall(self, team: _Team, reason: str) -> None:
        """The launcher has ended, or is to: its workers end with it, for no fault of theirs."""
        launcher, team.launcher = team.launcher, None
        if launcher is not None and launcher.alive:
            self._leaving.add(launcher)
            launcher.kill(reason)
        ending = endings.aborted(f"the function's launcher {reason}")
        team.last_error = ending.text
        for worker in list(team.workers.values()):
            worker.fall(ending)
        self._fail_starts(team, ending)

    def _fail_starts(self, team: _Team, ending: Ending) -> None:
        while team.pending:
            team.pending.popleft().fall(ending)

    # -- the end

    async def _wait_until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    def _destroy(self) -> None:
        """Whatever is left goes now. Blocks for as long as the kernel needs to end it."""
        self._closing = True
        for team in self._teams.values():
            self._fail_waiting(team, endings.aborted(_CLOSING))
            self._release(team)
        for worker in list(self._workers.values()):
            worker.end("aborted", endings.aborted(_CLOSING))
        for launcher in list(self._leaving):
            launcher.kill("closed")
            launcher.wait(_LEAVE_SECONDS)
        for worker in list(self._workers.values()):
            worker.bury()
        for timer in (self._planned, self._wake, self._sweeping):
            if timer is not None:
                timer.cancel()

    # -- lines

    def _tell(self, function: str, worker: str, request_id: str, lines: Iterable[str]) -> None:
        now_ns = time.time_ns()  # when it was is shown to people
        for line in lines:
            self._emit(LogWritten(function, worker, request_id, line, True, now_ns))

    def _log_stream(self) -> str:
        return f"{time.strftime('%Y/%m/%d', time.gmtime())}/[$LATEST]{self._stream_id()}"


def _teams(functions: Sequence[Function], runtime: Runtime, memory_bytes: int) -> dict[str, _Team]:
    """Everything that can be found wrong before anything is started, at once."""
    teams: dict[str, _Team] = {}
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
            teams[function.name] = _Team(function, runtime(function))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(tuple(problems))
    return teams
