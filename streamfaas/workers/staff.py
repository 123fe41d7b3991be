"""The teams of a pool: those in force, those to come, and those about to leave."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import anyio

from streamfaas.flow.errors import CannotIsolate
from streamfaas.flow.record import Instant
from streamfaas.flow.roster import Roster
from streamfaas.functions import Function
from streamfaas.runtimes import Command, Runtime
from streamfaas.workers import endings
from streamfaas.workers.process import NEVER, Keeper, Worker
from streamfaas.workers.team import Desk, Ground, Team, commands

AHEAD_SECONDS = 15.0
"""How long a change waits for its first workers. Who is late is not waited for."""

REPLACED = "replaced"
"""Why a worker ends whose definition is no longer in force."""

_LEARNED_AT_ONCE = 4
_ABANDON_SECONDS = 4.0  # a worker leaves, and then its launcher


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A pool as it would be: what functions there are, and the limits. `teams` are of those that
    are new, or need other workers than they have."""

    functions: Mapping[str, Function]
    concurrency: int
    memory_bytes: int
    teams: Mapping[str, Team]

    @property
    def troubles(self) -> Mapping[str, str]:
        """Functions of which a first worker did not get ready, and why. It will be tried again."""
        return {name: team.trouble for name, team in self.teams.items() if team.trouble}


class Staff:
    """Whom the functions' calls are given to. One definition of a function is in force; its
    successor is made ready beside it, and takes over at one moment."""

    def __init__(
        self,
        functions: Sequence[Function],
        ground: Ground,
        *,
        concurrency: int,
        memory_bytes: int,
        runtime: Runtime,
        keep: Callable[[Team], Keeper],
    ) -> None:
        found = commands(functions, runtime, memory_bytes)
        self.teams: dict[str, Team] = {}  # in force, by function
        self.workers: dict[int, Worker] = {}  # of all teams, by number, till they are gone
        self._former: set[Team] = set()  # replaced, and not yet without workers
        self._prepared: Prepared | None = None
        self._numbers = 0
        self._memory_bytes = memory_bytes
        self._ground = ground
        self._runtime = runtime
        self._keep = keep
        for name, (function, command) in found.items():
            self.teams[name] = self._team(function, command)
            self.teams[name].in_force = True
        shares = {function.name: function.share for function in functions}
        self.roster = Roster(concurrency, memory_bytes, shares)

    def start_planned(self, function: str) -> None:
        """A worker that the roster has counted already."""
        self._numbers += 1
        self.roster.starting(self._numbers, function)
        self._start(self.teams[function], self._numbers)

    def gone(self, team: Team, worker: Worker) -> None:
        """The worker is not there any more."""
        now = self._ground.clock()
        del self.workers[worker.number]
        self.roster.exited(worker.number, now)
        team.gone(worker, now)
        if team.vacant and team in self._former:
            self._part(team)

    def let_go(self, now: Instant, idle_seconds: float) -> Instant:
        """Releases launchers that had no work for so long; when the next one will have had none."""
        next_at = NEVER
        for team in self.teams.values():
            if team.launcher is not None and team.vacant and not team.desk.waiting:
                at = Instant(team.vacant_since + idle_seconds)
                if at <= now:
                    team.release()
                else:
                    next_at = min(next_at, at)
        return next_at

    def release(self) -> None:
        """Lets every launcher go."""
        self.take_back()
        for team in (*self.teams.values(), *self._former):
            team.release()

    async def learn(self, teams: Collection[Team], *, patient: bool = False) -> None:
        """What the machine can give them. `CannotIsolate` names all that must be refused: not,
        where we are patient, who only misses a directory."""
        slots = anyio.Semaphore(_LEARNED_AT_ONCE)
        refused: list[CannotIsolate] = []

        async def learn(team: Team) -> None:
            async with slots:
                try:
                    await team.learn(patient=patient)
                except CannotIsolate as error:
                    refused.append(error)
                if not self._wanted_ahead(team):
                    team.release()

        async with anyio.create_task_group() as group:
            for team in teams:
                group.start_soon(learn, team)
        if refused:
            remedies = dict.fromkeys(each.remedy for each in refused if each.remedy)
            raise CannotIsolate("; ".join(map(str, refused)), "; ".join(remedies))

    # -- changes

    async def prepare(
        self, functions: Sequence[Function], concurrency: int, memory_bytes: int
    ) -> Prepared:
        """Makes everything ready for these functions and limits."""
        found = commands(functions, self._runtime, memory_bytes)
        teams = {
            name: self._team(function, command)
            for name, (function, command) in found.items()
            if not self._suits(function, command)
        }
        wanted = {function.name: function for function in functions}
        return await self._make_ready(Prepared(wanted, concurrency, memory_bytes, teams))

    async def prepare_anew(self, name: str) -> Prepared:
        """Makes other workers of one function ready, by the definition that it has."""
        functions = {team.function.name: team.function for team in self.teams.values()}
        found = commands([functions[name]], self._runtime, self._memory_bytes)
        limit, teams = self.roster.admission.limit, {name: self._team(*found[name])}
        return await self._make_ready(Prepared(functions, limit, self._memory_bytes, teams))

    def removed_by(self, prepared: Prepared) -> list[Team]:
        """Whose functions there would be no more: their calls must have ended by the commit."""
        return [team for name, team in self.teams.items() if name not in prepared.functions]

    def commit(self, prepared: Prepared) -> None:
        """From this moment on it is so."""
        assert self._prepared is prepared, "it was not prepared, or is no longer"
        self._prepared = None
        self._memory_bytes = prepared.memory_bytes
        before = dict(self.teams)
        self.teams.clear()
        for name, function in prepared.functions.items():
            team = self.teams[name] = prepared.teams.get(name) or before[name]
            team.function = function  # who stays may have another share
            team.in_force = True
        shares = {name: function.share for name, function in prepared.functions.items()}
        leaving = self.roster.replace(prepared.concurrency, prepared.memory_bytes, shares)
        old = [team for name, team in before.items() if self.teams.get(name) is not team]
        self._retire(old, leaving)

    async def abandon(self, prepared: Prepared) -> None:
        """Lets all go that was prepared, unless it was committed."""
        if self._prepared is prepared:
            self.take_back()
            mine = set(prepared.teams.values())
            with anyio.move_on_after(_ABANDON_SECONDS):
                await self._ground.wait_until(
                    lambda: not (mine & self._former or self._ground.leaving)
                )

    def take_back(self) -> None:
        """Whatever is prepared, nothing comes of it."""
        if self._prepared is not None:
            teams, self._prepared = self._prepared.teams, None
            self._retire(teams.values(), self.roster.take_back())

    def _suits(self, function: Function, command: Command) -> bool:
        """Whether the workers that there are will do: at most their share is another."""
        team = self.teams.get(function.name)
        return (
            team is not None
            and team.command == command
            and team.function.share.memory_bytes == function.share.memory_bytes
            and replace(team.function, share=function.share) == function
        )

    def _team(self, function: Function, command: Command) -> Team:
        old = self.teams.get(function.name)
        desk = Desk() if old is None else old.desk
        team = Team(desk, function, command, self._ground, self._keep)
        if old is not None:
            team.isolation, team.missing = old.isolation, old.missing
        return team

    async def _make_ready(self, prepared: Prepared) -> Prepared:
        assert self._prepared is None, "one change at a time"
        teams = prepared.teams.values()
        self._prepared = prepared
        self.roster.propose({name: team.function.share for name, team in prepared.teams.items()})
        try:
            await self.learn(teams)
            if self._prepared is not prepared:  # taken back meanwhile
                return prepared
            first = [worker for team in teams for worker in self._start_ahead(team)]
            with anyio.move_on_after(AHEAD_SECONDS):
                await self._ground.wait_until(lambda: all(w.ready or w.gone for w in first))
        except BaseException:
            self.take_back()
            raise
        return prepared

    def _wanted_ahead(self, team: Team) -> int:
        """The warm minimum, and one at least where the function has workers now."""
        old = self.teams.get(team.function.name)
        in_use = old is not None and not old.vacant
        return max(team.function.share.warm, int(in_use))

    def _start_ahead(self, team: Team) -> list[Worker]:
        started: list[Worker] = []
        while len(started) < self._wanted_ahead(team):
            if not self.roster.begin(self._numbers + 1, team.function.name):
                break
            self._numbers += 1
            started.append(self._start(team, self._numbers))
        return started

    def _start(self, team: Team, number: int) -> Worker:
        worker = self.workers[number] = team.enlist(number)
        team.start(worker)
        return worker

    def _retire(self, teams: Iterable[Team], leaving: Iterable[int]) -> None:
        """No call comes to them any more, and these workers of theirs have nothing to finish."""
        for team in teams:
            self._former.add(team)
            team.in_force = False
            team.fail_starts(endings.aborted(REPLACED))
        for worker in [self.workers[each] for each in leaving if each in self.workers]:
            if worker.ready:
                worker.dismiss(REPLACED)
            else:
                worker.end(REPLACED)
        for team in [each for each in self._former if each.vacant]:
            self._part(team)

    def _part(self, team: Team) -> None:
        self._former.discard(team)
        team.release()
