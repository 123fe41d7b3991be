"""The warm pool: carries out what the roster plans, and turns invocations into outcomes."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio

from streamfaas.flow.errors import CannotIsolate
from streamfaas.flow.invocation import Invocation
from streamfaas.flow.outcome import Failure, Fault, Outcome
from streamfaas.flow.record import Instant
from streamfaas.functions import Function
from streamfaas.runtimes import Runtime, python
from streamfaas.telemetry.signals import Emit, LogWritten, OutputCut, WorkerEnded, WorkerStarted
from streamfaas.workers import endings
from streamfaas.workers.endings import Ending
from streamfaas.workers.logs import Allowance
from streamfaas.workers.process import NEVER, Call, Keeper, Worker
from streamfaas.workers.staff import REPLACED, Prepared, Staff
from streamfaas.workers.team import Desk, Ground, Team

SWEEP_SECONDS = 0.02
"""How often deadlines are looked at while there are any: one timer, not one a call."""

LAUNCHER_IDLE_SECONDS = 300.0
"""A launcher without a worker is let go after this long."""

WAITING_MAX = 10_000
"""Calls of one function that may wait for a worker; one more is throttled."""

_LEAVE_SECONDS = 1.0  # at the end, for workers and then for launchers
_CLOSING = "the service is stopping"
_REMOVED = "the function is no longer configured"


@dataclass(frozen=True, slots=True)
class Motion:
    """How a pool gets on: `steps` grows with all that happens to calls and workers; `stalled` is
    one where calls wait and none is in hand; and how long ago a call in hand should have ended."""

    steps: int
    stalled: bool
    late_seconds: float


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
        self._emit = emit
        self._clock = clock
        self._logs_wanted = logs_wanted
        self._platform_logs_wanted = platform_logs_wanted or logs_wanted
        self._launcher_idle_seconds = launcher_idle_seconds
        self._loop: asyncio.AbstractEventLoop
        self._allowances: dict[str, Allowance] = {}
        self._tickets = 0
        self._waiting = 0
        self._moves = 0  # of workers: started, and gone
        self._stale = False  # something was claimed since the last plan
        self._planned: asyncio.Handle | None = None
        self._wake: asyncio.TimerHandle | None = None
        self._sweeping: asyncio.TimerHandle | None = None
        self._draining = False  # no worker is started any more, and nobody waits for one
        self._closing = False
        self._ground = Ground(emit, clock, stream_id)
        self._staff = Staff(
            functions,
            self._ground,
            concurrency=concurrency,
            memory_bytes=memory_bytes,
            runtime=runtime,
            keep=self._keep,
        )
        self._roster = self._staff.roster
        self._teams = self._staff.teams
        self._workers = self._staff.workers

    # -- the path

    async def open(self, *, patient: bool = False) -> None:
        """Starts the warm minimum. `CannotIsolate` where a function must be refused. `patient`:
        one whose workers miss a directory of the host is not; they start once it is there."""
        self._loop = asyncio.get_running_loop()
        try:
            await self._staff.learn(self._teams.values(), patient=patient)
        except CannotIsolate:
            await self.close(0)
            raise
        except BaseException:
            self._destroy()
            raise
        self._plan()

    async def call(self, invocation: Invocation) -> Outcome:
        """Waits in order for a worker, hands over, waits for the answer or the timeout. Never
        raises for the function's sake. Cancelled, it kills the worker that runs the call."""
        future: asyncio.Future[Outcome] = self._loop.create_future()
        call = Call(invocation, future)
        try:
            number = None if self._closing else self._roster.claim(invocation.function)
        except KeyError:  # it was there when the call was decided on
            number = None
        if number is None:
            self._enqueue(call)
        else:
            self._stale = True
            self._hand_over(self._workers[number], call)
        try:
            return await future
        except asyncio.CancelledError:
            self._give_up(call)
            raise

    async def prepare(
        self, functions: Sequence[Function], *, concurrency: int, memory_bytes: int
    ) -> Prepared:
        """Gets ready for these functions and limits, beside those in force: launchers of what is
        new or changed, and the first of their workers, for a while. `CannotIsolate` and
        `ConfigError` where that cannot be; then, and if cancelled, nothing has changed. To be
        followed by `commit` or `abandon`, before there is another change."""
        return await self._staff.prepare(functions, concurrency, memory_bytes)

    def commit(self, prepared: Prepared) -> None:
        """From this moment on it is so. Calls that wait go to the new workers, in their order;
        those of a function that is no more have ended. Calls in hand are finished by the old
        workers, which then leave."""
        if self._closing:
            return
        for team in self._staff.removed_by(prepared):
            self._fail_waiting(team, endings.aborted(_REMOVED))
            self._moves += team.desk.invocations
        self._staff.commit(prepared)
        self._plan()

    async def abandon(self, prepared: Prepared) -> None:
        """Lets all go that was prepared; nothing, where it was committed."""
        await self._staff.abandon(prepared)

    async def renew(self, name: str) -> None:
        """The function's code has changed in place: from now on new workers take its calls, and
        old ones finish what is in hand. A change like any other, which raises what they raise."""
        self.commit(await self._staff.prepare_anew(name))

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
            self._staff.take_back()
            for team in self._teams.values():
                self._fail_waiting(team, endings.aborted(_CLOSING))
                team.fail_starts(endings.aborted(_CLOSING))
            with anyio.move_on_after(grace_seconds):
                await self._ground.wait_until(
                    lambda: not any(w.call for w in self._workers.values())
                )
            for worker in list(self._workers.values()):
                if worker.ready and worker.call is None:
                    worker.dismiss("drained")
                else:
                    worker.end("aborted", endings.aborted(_CLOSING))
            with anyio.move_on_after(_LEAVE_SECONDS):
                await self._ground.wait_until(lambda: not self._workers)
            for worker in list(self._workers.values()):
                worker.end("aborted")
            self._staff.release()
            with anyio.move_on_after(_LEAVE_SECONDS):
                await self._ground.wait_until(lambda: not self._ground.leaving)
        finally:
            self._destroy()

    def view(self) -> dict[str, Any]:
        """Functions with their workers by state, isolation level and recent failures."""
        return {
            name: {
                "isolation": team.isolation,
                "missing": list(team.missing),
                "workers": self._roster.states(name),
                "waiting": len(team.desk.waiting),
                "invocations": team.desk.invocations,
                "errors": team.desk.errors,
                "throttled": team.desk.throttled,
                "last_error": team.desk.last_error,
            }
            for name, team in self._teams.items()
        }

    def room(self, function: str) -> int:
        """How many more of the function's invocations could run at once, were they here now."""
        return 0 if self._draining or self._closing else self._roster.room(function)

    def motion(self) -> Motion:
        """For whoever judges whether it is stuck."""
        now = self._clock()
        busy = [(each.call, each.function) for each in self._workers.values() if each.call]
        late = (now - call.started - function.timeout_seconds for call, function in busy)
        steps = self._moves + sum(team.desk.invocations for team in self._teams.values())
        return Motion(steps, self._waiting > 0 and not busy, max(late, default=0.0))

    # -- calls

    def _enqueue(self, call: Call) -> None:
        team = self._teams.get(call.invocation.function)
        if team is None:
            if not call.future.done():
                call.future.set_result(endings.aborted(_REMOVED).of(call.invocation.id))
        elif self._draining or self._closing:
            self._fail(team, call, endings.aborted(_CLOSING))
        elif len(team.desk.waiting) >= WAITING_MAX:
            team.desk.throttled += 1
            self._fail(team, call, endings.throttled())
        else:
            self._tickets += 1
            call.ticket = self._tickets
            team.desk.waiting[call.ticket] = call
            self._waiting += 1
            if self._roster.ask(call.ticket, call.invocation.function):
                self._plan_soon()

    def _take_over(self, worker: Worker, ticket: int) -> None:
        """Who waited has its turn."""
        desk = self._teams[worker.function.name].desk
        call = desk.waiting[ticket]
        self._withdraw(desk, call)
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
                lines = self._teams[function.name].platform.started(call.invocation)
                self._tell(function.name, worker.name, lines, call.invocation)

    def _give_up(self, call: Call) -> None:
        team = self._teams.get(call.invocation.function)
        if team is not None and call.ticket in team.desk.waiting:
            self._withdraw(team.desk, call)
            self._roster.withdraw(call.ticket, team.function.name)
        elif call.worker is not None and call.worker.call is call:
            call.worker.abandon()

    def _withdraw(self, desk: Desk, call: Call) -> None:
        del desk.waiting[call.ticket]
        self._waiting -= 1

    def _fail_oldest(self, team: Team, ending: Ending) -> None:
        """Whoever has waited longest is told why there is no worker; the others wait on."""
        call = next(iter(team.desk.waiting.values()), None)
        if call is not None:
            self._withdraw(team.desk, call)
            self._roster.withdraw(call.ticket, team.function.name)
            self._fail(team, call, ending)

    def _fail_waiting(self, team: Team, ending: Ending) -> None:
        while team.desk.waiting:
            self._fail_oldest(team, ending)

    def _fail(self, team: Team, call: Call, ending: Ending) -> None:
        self._settle(team, call, ending.of(call.invocation.id))

    def _settle(self, team: Team, call: Call, outcome: Outcome) -> None:
        """The call has ended so."""
        desk, function, future = team.desk, team.function, call.future
        desk.invocations += 1
        shown = function.platform_logs and self._platform_logs_wanted(function.name)
        told = shown
        if isinstance(outcome, Failure):
            desk.errors += 1
            desk.last_error = f"{outcome.type}: {outcome.message}"
            told = self._logs_wanted(function.name)
        if told:
            begun = shown and call.worker is not None
            lines = team.platform.ended(call.invocation, outcome, begun=begun)
            self._tell(function.name, outcome.report.worker, lines, call.invocation)
        if not future.done():
            future.set_result(outcome)

    # -- what workers tell

    def _keep(self, team: Team) -> Keeper:
        return Keeper(
            clock=self._clock,
            ready=partial(self._worker_ready, team),
            freed=partial(self._worker_freed, team),
            gone=partial(self._worker_gone, team),
            stuck=team.stuck,
            wrote=self._worker_wrote,
            cut=lambda worker, size: self._emit(OutputCut(worker.function.name, size)),
            wanted=lambda worker: self._logs_wanted(worker.function.name),
            allowance=lambda _worker: self._allowance(team),
            watch=self._watch,
        )

    def _worker_ready(self, team: Team, worker: Worker) -> None:
        self._moves += 1
        self._roster.started(worker.number, self._clock())
        name, init_seconds = worker.function.name, worker.init_seconds or 0.0
        self._emit(WorkerStarted(name, worker.name, init_seconds))
        if self._logs_wanted(name):
            self._tell(name, worker.name, team.platform.init_ended(init_seconds, None))
        self._ground.changed.set()
        self._plan_soon()

    def _worker_freed(self, team: Team, worker: Worker, call: Call, outcome: Outcome) -> None:
        self._settle(team, call, outcome)
        if self._waiting:
            ticket = self._roster.pass_on(worker.number)
            if ticket is not None:
                self._take_over(worker, ticket)
                return
            self._plan_soon()
        if not self._roster.freed(worker.number, self._clock()):
            worker.dismiss(REPLACED)
        if self._closing:
            self._ground.changed.set()

    def _worker_gone(
        self, team: Team, worker: Worker, call: Call | None, outcome: Outcome | None
    ) -> None:
        self._moves += 1
        self._staff.gone(team, worker)
        if call is not None and outcome is not None:
            self._settle(team, call, outcome)
        elif not worker.ready and worker.reason != REPLACED:
            self._start_failed(team, worker)
        self._emit(WorkerEnded(worker.function.name, worker.name, worker.reason))
        self._ground.changed.set()
        self._plan_soon()

    def _start_failed(self, team: Team, worker: Worker) -> None:
        ending = worker.ending()
        team.blame(f"{ending.type}: {ending.text}")
        if ending.fault is Fault.INIT and self._logs_wanted(team.function.name):
            lines = team.platform.init_ended(worker.age_seconds(), ending)
            self._tell(team.function.name, worker.name, lines)
        if team.in_force:
            self._fail_oldest(team, ending)

    def _worker_wrote(self, worker: Worker, line: str) -> None:
        request_id, trace_id = _ids(None if worker.call is None else worker.call.invocation)
        now_ns = time.time_ns()  # when it was is shown to people
        name = worker.function.name
        self._emit(LogWritten(name, worker.name, request_id, line, False, now_ns, trace_id))

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
            self._staff.start_planned(name)
        wake = min(
            self._staff.let_go(now, self._launcher_idle_seconds),
            NEVER if plan.wake is None else plan.wake,
        )
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        if wake < NEVER:
            self._wake = self._loop.call_later(max(0.0, wake - now), self._plan_soon)

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

    # -- the end

    def _destroy(self) -> None:
        """Whatever is left goes now. Blocks for as long as the kernel needs to end it."""
        self._closing = True
        for team in self._teams.values():
            self._fail_waiting(team, endings.aborted(_CLOSING))
        self._staff.release()
        for worker in list(self._workers.values()):
            worker.end("aborted", endings.aborted(_CLOSING))
        for launcher in list(self._ground.leaving):
            launcher.kill("closed")
            launcher.wait(_LEAVE_SECONDS)
        for worker in list(self._workers.values()):
            worker.bury()
        for timer in (self._planned, self._wake, self._sweeping):
            if timer is not None:
                timer.cancel()
        for allowance in self._allowances.values():
            allowance.close()

    # -- lines

    def _allowance(self, team: Team) -> Allowance:
        """One for a function, by whatever definition its workers run."""
        name, most = team.function.name, team.function.log_rate_max
        found = self._allowances.get(name)
        if found is None or found.bytes_max != most:
            cut = partial(self._tell_cut, team)
            found = self._allowances[name] = Allowance(self._loop, most, cut)
        return found

    def _tell_cut(self, team: Team, dropped: int) -> None:
        self._emit(OutputCut(team.function.name, dropped))
        if self._logs_wanted(team.function.name):
            self._tell(team.function.name, "", team.platform.cut(dropped))

    def _tell(
        self, function: str, worker: str, lines: Iterable[str], call: Invocation | None = None
    ) -> None:
        request_id, trace_id = _ids(call)
        now_ns = time.time_ns()  # when it was is shown to people
        for line in lines:
            self._emit(LogWritten(function, worker, request_id, line, True, now_ns, trace_id))


def _ids(call: Invocation | None) -> tuple[str, str]:
    """Of a call and of its trace, as lines have them."""
    if call is None:
        return "", ""
    context = call.context
    return call.id, "" if context is None else f"{context.trace_id:032x}"
