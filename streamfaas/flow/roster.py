"""Which worker runs what: reuse, start, stop. Decides only; the pool carries it out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from streamfaas.flow.admission import Admission, Share
from streamfaas.flow.crew import NEVER, Crew, Member, Standing
from streamfaas.flow.handshake import State
from streamfaas.flow.record import Instant

IDLE_SECONDS = 60.0
"""An idle worker above the warm minimum is stopped after this long."""

INIT_BACKOFF_SECONDS = 1.0
INIT_BACKOFF_SECONDS_MAX = 60.0

STARVED_SECONDS = 1.0
"""How long a function without a single worker waits for memory before even workers that are in
demand elsewhere are stopped for it. Shorter, and two functions that do not fit beside each other
would do nothing but start."""

_STARTING, _IDLE, _BUSY, _DRAINING = State.STARTING, State.IDLE, State.BUSY, State.DRAINING
_REPLACED = Standing.REPLACED


@dataclass(frozen=True, slots=True)
class Plan:
    """What the pool is to do now. `assign` are (ticket, worker), already counted as busy; `start`
    names one function a new worker each, already counted as starting; `stop` are workers already
    counted as draining. `wake` is when to ask again though nothing has happened."""

    assign: tuple[tuple[int, int], ...] = ()
    start: tuple[str, ...] = ()
    stop: tuple[int, ...] = ()
    wake: Instant | None = None


class Roster:
    """Workers by state: STARTING, IDLE, BUSY, DRAINING (told to leave) and gone.

    A ticket is one invocation that wants a worker; the numbers rise. Tickets of a function are
    served in order, and over all functions the oldest that may run goes first. A worker is BUSY
    from the moment it is assigned, before the invocation is handed over: it cannot be stopped or
    assigned again in between, and if nothing is handed over after all, it is `freed`.

    One spare beyond the busy workers is kept where `spare` is set, so that a crash costs no start:
    a function may have one worker more than it may have invocations.

    Memory is counted from the planned start to the exit. Where it is short, functions that have no
    worker at all come first; idle workers make room for a ticket at once, the longest idle first;
    the warm minimum and the spares have to wait.

    Functions can be defined anew: workers of a definition that is to come are started beside those
    in force, and at `replace` take over. Who is busy then finishes, still counted, and leaves.
    """

    def __init__(
        self, limit: int, memory_bytes: int, shares: Mapping[str, Share], *, spare: bool = True
    ) -> None:
        assert all(share.memory_bytes <= memory_bytes for share in shares.values())
        self.admission = Admission(limit, shares)
        self._crews = {name: Crew(name, share) for name, share in shares.items()}
        self._coming: dict[str, Crew] = {}
        self._workers: dict[int, Member] = {}
        self._memory_bytes = self._memory_free = memory_bytes
        self._memory_coming = 0  # held by workers told to leave
        self._spare = int(spare)
        # the only ones a plan looks at: who waits, or may have fewer workers than it should
        self._restless = dict(self._crews)
        self._reap_at = NEVER
        self._contended = False  # somebody with an idle worker waits for the common limit

    # -- the fast road: no plan is needed where a worker stands idle and nobody waits

    def claim(self, function: str) -> int | None:
        """An idle worker, now busy, if one may run at once and nobody is before; else None."""
        crew = self._crews[function]
        idle = crew.idle
        if not idle or crew.waiting or self._contended or not self.admission.admit(function):
            return None
        worker = idle.pop()
        worker.state = _BUSY
        worker.fresh = False
        if not idle:
            self._restless[function] = crew
        return worker.number

    # -- events

    def ask(self, ticket: int, function: str) -> bool:
        """Whether a plan is due: not where the function has all the workers it may have, and all
        are in use. The next that is `freed` will do."""
        crew = self._crews[function]
        assert not crew.waiting or crew.waiting[-1] < ticket
        crew.waiting.append(ticket)
        self._restless[function] = crew
        maximum = crew.share.maximum
        if maximum is not None and self.admission.busy(function) >= maximum:
            return crew.alive < self._most(crew)  # an idle one is the spare
        return bool(crew.idle) or crew.alive < self._most(crew)

    def withdraw(self, ticket: int, function: str) -> None:
        """The ticket's owner no longer waits (and was not served yet)."""
        crew = self._crews[function]
        crew.waiting.remove(ticket)
        if not crew.waiting:
            crew.short = NEVER

    def starting(self, worker: int, function: str) -> None:
        """The pool has given a planned start its number; every planned start is given one."""
        crew = self._crews[function]
        assert worker not in self._workers
        assert crew.unnumbered, "a start that was not planned"
        crew.unnumbered -= 1
        self._workers[worker] = Member(worker, crew)

    def started(self, worker: int, now: Instant) -> None:
        """Ready for the first invocation."""
        it = self._workers[worker]
        assert it.state is _STARTING
        crew = it.crew
        crew.starting -= 1
        crew.failures = 0
        it.state, it.since = _IDLE, now
        crew.idle.append(it)

    def freed(self, worker: int, now: Instant) -> bool:
        """Its invocation has ended. Whether it stays, fit for the next: else its definition has
        been replaced, and it is told to leave."""
        it = self._workers[worker]
        assert it.state is _BUSY
        crew = it.crew
        self.admission.leave(crew.name)
        crew.used = it.since = now
        it.state = _IDLE
        crew.idle.append(it)
        if crew.standing is _REPLACED:
            self._stop(it)
            return False
        return True

    def pass_on(self, worker: int) -> int | None:
        """Its invocation has ended and it is fit for the next: the oldest ticket of its own
        function, if nobody else waits. It stays busy then; None: nothing has changed, and the
        worker is to be `freed`."""
        crew = self._workers[worker].crew
        if not crew.waiting or self._contended or self.admission.strained:
            return None
        if any(other.waiting and other is not crew for other in self._restless.values()):
            return None
        return crew.waiting.popleft()

    def exited(self, worker: int, now: Instant) -> None:
        """Gone, for whatever reason and in whatever state. One that was never of use is not
        replaced at once: the next start waits, longer each time in a row that none gets ready."""
        it = self._workers.pop(worker)
        crew = it.crew
        self._memory_free += crew.share.memory_bytes
        if it.state is _DRAINING:
            self._memory_coming -= crew.share.memory_bytes
            return
        crew.alive -= 1
        self._stir(crew)
        if it.state is _BUSY:
            self.admission.leave(crew.name)
            crew.used = now
        elif it.state is _IDLE:
            crew.idle.remove(it)
        else:
            crew.starting -= 1
        if it.fresh:
            pause = INIT_BACKOFF_SECONDS * 2.0 ** min(crew.failures, 16)
            crew.not_before = Instant(now + min(pause, INIT_BACKOFF_SECONDS_MAX))
            crew.failures += 1

    def start_failed(self, worker: int, now: Instant) -> None:
        """It never became ready, and is gone: `exited` by the name of its reason."""
        assert self._workers[worker].state is _STARTING
        self.exited(worker, now)

    # -- definitions that come and go

    def propose(self, shares: Mapping[str, Share]) -> None:
        """Functions that will be, or will be otherwise. Until they are in force, or are taken
        back, they get neither tickets nor workers but those that `begin`."""
        assert not self._coming, "one change at a time"
        self._coming = {name: Crew(name, each, Standing.COMING) for name, each in shares.items()}

    def begin(self, worker: int, function: str) -> bool:
        """Starts a worker of a definition to come, if there is memory that nobody waits for."""
        crew = self._coming[function]
        wanted = any(other.short < NEVER for other in self._restless.values())
        if wanted or crew.share.memory_bytes > self._memory_free:
            return False
        self._memory_free -= crew.share.memory_bytes
        crew.alive += 1
        crew.starting += 1
        self._workers[worker] = Member(worker, crew)
        return True

    def take_back(self) -> tuple[int, ...]:
        """Nothing comes of what was proposed: who is told to leave."""
        crews = list(self._coming.values())
        self._coming = {}
        return tuple(number for crew in crews for number in self._disband(crew))

    def replace(
        self, limit: int, memory_bytes: int, shares: Mapping[str, Share]
    ) -> tuple[int, ...]:
        """These functions and limits from now on, and all that was proposed: who is told to leave.
        The tickets of a function stay in their order; one that is left out must have none."""
        self.admission.replace(limit, shares)
        self._memory_free += memory_bytes - self._memory_bytes
        self._memory_bytes = memory_bytes
        before, coming, stop = self._crews, self._coming, list[int]()
        self._coming = {}
        self._crews = {name: coming.get(name) or before[name] for name in shares}
        for name, old in before.items():
            new = self._crews.get(name)
            if new is not old:
                if new is not None:
                    new.waiting, old.waiting, new.used = old.waiting, new.waiting, old.used
                stop += self._disband(old)
        for name, crew in self._crews.items():
            assert crew.share.memory_bytes == shares[name].memory_bytes, "it needs other workers"
            crew.standing, crew.share = Standing.IN_FORCE, shares[name]
        self._restless = dict(self._crews)
        self._reap_at = Instant(-math.inf)
        return tuple(stop)

    def _disband(self, crew: Crew) -> list[int]:
        assert not crew.waiting
        assert not crew.unnumbered
        crew.standing = _REPLACED
        mine = [each for each in self._workers.values() if each.crew is crew]
        return [self._stop(each) for each in mine if each.state in {_STARTING, _IDLE}]

    # -- what follows

    def room(self, function: str) -> int:
        """How many more invocations of the function could run at once, if nobody else wants to:
        by its share, and by the workers that it has or that there is memory for. Where it has
        none and there is no memory, one: it takes a ticket for others to make room."""
        crew = self._crews.get(function)
        if crew is None:
            return 0
        startable = max(0, self._memory_free) // crew.share.memory_bytes
        workers = len(crew.idle) + crew.starting + startable
        free = min(self.admission.free(function), workers if crew.alive else max(1, workers))
        return max(0, free - len(crew.waiting))

    def plan(self, now: Instant) -> Plan:
        """Due at the beginning, after `ask`, `started` and `exited`, after `freed` where anybody
        waits for whatever function, and at the `wake` of the plan before; after a `claim` there
        is no hurry, but it may have taken the spare."""
        assign: list[tuple[int, int]] = []
        stop: list[int] = []
        if overdue := self._overdue(now):
            assign = self._assign(before=overdue.oldest)
            stop = self._evict(overdue, 1, overdue=True)
        assign += self._assign()
        start, short = self._start(now)
        for crew, missing in short:
            stop += self._evict(crew, missing)
        if now >= self._reap_at:
            stop += self._reap(now)
        return Plan(tuple(assign), tuple(start), tuple(stop), self._settle(now))

    def states(self, function: str) -> dict[str, int]:
        """How many workers of the function are in which state, for people to look at."""
        crew = self._crews[function]
        mine = [
            worker.state
            for worker in self._workers.values()
            if worker.crew.name == function and worker.crew.standing is not Standing.COMING
        ]
        beyond = crew.alive - (self._most(crew) - self._spare)  # what may run at the same time
        spare = max(0, min(len(crew.idle), beyond))
        return {
            "starting": crew.starting,
            "idle": len(crew.idle) - spare,
            "spare": spare,
            "busy": mine.count(_BUSY),
            "draining": mine.count(_DRAINING),
            "waiting": len(crew.waiting),
        }

    def _overdue(self, now: Instant) -> Crew | None:
        """Who has been without a single worker for too long, for want of memory."""
        starved = [c for c in self._restless.values() if c.waiting and not c.alive]
        overdue = [c for c in starved if now >= c.short + STARVED_SECONDS]
        return min(overdue, key=lambda crew: crew.oldest, default=None)

    def _assign(self, before: float = math.inf) -> list[tuple[int, int]]:
        """Gives idle workers to those who wait, the oldest ticket first."""
        assigned: list[tuple[int, int]] = []
        able = [crew for crew in self._restless.values() if crew.waiting and crew.idle]
        while able:
            crew = min(able, key=lambda crew: crew.oldest)
            if crew.oldest > before:
                break
            if not self.admission.admit(crew.name):
                able.remove(crew)
                continue
            worker = crew.idle.pop()
            worker.state, worker.fresh = _BUSY, False
            assigned.append((crew.waiting.popleft(), worker.number))
            if not crew.waiting or not crew.idle:
                able.remove(crew)
        return assigned

    def _start(self, now: Instant) -> tuple[list[str], list[tuple[Crew, int]]]:
        """Starts what is wanted and fits; gives back whose tickets lack how many workers."""
        started: list[str] = []
        short: list[tuple[Crew, int]] = []
        able = [crew for crew in self._restless.values() if now >= crew.not_before]
        for crew in sorted((c for c in able if c.waiting), key=_neediest):
            missing = self._fill(crew, self._needed(crew), now, started)
            if missing:
                short.append((crew, missing))
            if missing and not crew.alive:
                # what is free is kept for it, or smaller ones would always come before
                crew.short = min(crew.short, now)
                break
            crew.short = NEVER
        if not short:
            for crew in able:
                self._fill(crew, self._wanted(crew), now, started)
        return started, short

    def _fill(self, crew: Crew, wanted: int, now: Instant, started: list[str]) -> int:
        """Starts workers up to a number, and gives back how many more there is no memory for."""
        missing = wanted - crew.alive
        if crew.failures:
            missing = min(missing, 1 - crew.starting)  # one try at a time until one succeeds
        while missing > 0 and crew.share.memory_bytes <= self._memory_free:
            self._memory_free -= crew.share.memory_bytes
            crew.alive += 1
            crew.starting += 1
            crew.unnumbered += 1
            started.append(crew.name)
            missing -= 1
            if crew.alive > crew.share.warm:
                self._reap_at = min(self._reap_at, Instant(now + IDLE_SECONDS))
        return max(0, missing)

    def _needed(self, crew: Crew) -> int:
        """How many workers are busy or would be at once, and one at least for who waits: its turn
        comes only if it has a worker to take it."""
        at_once = min(len(crew.waiting), self.admission.free(crew.name))
        needed = max(self.admission.busy(crew.name) + at_once, 1 if crew.waiting else 0)
        return min(needed, self._most(crew) - self._spare)  # shares may have become smaller

    def _wanted(self, crew: Crew) -> int:
        """How many workers there should be, where memory is no matter."""
        needed = self._needed(crew)
        return max(crew.share.warm, needed + self._spare if needed else 0)

    def _most(self, crew: Crew) -> int:
        """How many workers it may ever have."""
        maximum, limit = crew.share.maximum, self.admission.limit
        return (limit if maximum is None else min(maximum, limit)) + self._spare

    def _evict(self, crew: Crew, missing: int, *, overdue: bool = False) -> list[int]:
        """Stops idle workers of others until so many of a crew fit, or soon will.

        Nobody is stopped down to less than the warm minimum, nor to nothing, but for the first
        worker of a crew that has none; nor where tickets wait, but if that crew is overdue and
        its ticket is older.
        """
        idle: list[tuple[bool, bool, Instant, int]] = []
        held_bytes = 0
        for other in self._crews.values():
            if other.waiting and not (overdue and crew.oldest < other.oldest):
                continue
            surplus = max(0, other.alive - max(1, other.share.warm))
            for rank, worker in enumerate(other.idle):
                if rank < surplus or not crew.alive:
                    held_bytes += other.share.memory_bytes
                    idle.append((bool(other.waiting), rank >= surplus, worker.since, worker.number))
        unit = crew.share.memory_bytes
        room = self._memory_free + self._memory_coming
        # what is free is kept for a crew that has none; for another, less than enough is a waste
        missing = min(missing, (room + held_bytes) // unit) if crew.alive else 1
        stopped: list[int] = []
        for *_, number in sorted(idle):
            if room >= missing * unit:
                break
            worker = self._workers[number]
            room += worker.crew.share.memory_bytes
            stopped.append(self._stop(worker))
        return stopped

    def _reap(self, now: Instant) -> list[int]:
        """Stops what has not been used for long, and finds out when to look again."""
        stopped: list[int] = []
        self._reap_at = NEVER
        for crew in self._crews.values():
            if crew.alive <= crew.share.warm:
                continue
            in_use = crew.waiting or self.admission.busy(crew.name)
            used = now if in_use else crew.used
            # a function in use keeps one that has long been idle: its spare
            keep = self._spare if now < used + IDLE_SECONDS else 0
            if crew.waiting:
                keep = len(crew.idle)  # they wait for their turn
            while (
                crew.alive > crew.share.warm
                and len(crew.idle) > keep
                and now >= crew.idle[keep].since + IDLE_SECONDS
            ):
                stopped.append(self._stop(crew.idle[0]))
            if crew.alive > crew.share.warm:
                last = used if keep else now
                if len(crew.idle) > keep:
                    last = crew.idle[keep].since
                self._reap_at = min(self._reap_at, Instant(last + IDLE_SECONDS))
        return stopped

    def _stop(self, worker: Member) -> int:
        crew = worker.crew
        if worker.state is _IDLE:
            crew.idle.remove(worker)
        else:
            crew.starting -= 1
        crew.alive -= 1
        worker.state = _DRAINING
        self._stir(crew)
        self._memory_coming += crew.share.memory_bytes
        return worker.number

    def _stir(self, crew: Crew) -> None:
        """It may have fewer workers than it should."""
        if crew.standing is Standing.IN_FORCE:
            self._restless[crew.name] = crew

    def _settle(self, now: Instant) -> Instant | None:
        """Forgets who has come to rest, and says when to look again."""
        restless = [
            crew
            for crew in self._restless.values()
            if crew.waiting or crew.alive < self._wanted(crew)
        ]
        self._restless = {crew.name: crew for crew in restless}
        self._contended = self.admission.common_free <= 0 and any(
            crew.waiting and crew.idle for crew in restless
        )
        times = [self._reap_at]
        times += [crew.not_before for crew in restless]
        times += [Instant(crew.short + STARVED_SECONDS) for crew in restless]
        return min((at for at in times if now < at < NEVER), default=None)


def _neediest(crew: Crew) -> tuple[bool, int]:
    return crew.alive > 0, crew.oldest
