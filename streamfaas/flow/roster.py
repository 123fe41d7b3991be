"""Which worker runs what: reuse, start, stop. Decides only; the pool carries it out."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from streamfaas.flow.admission import Admission, Share
from streamfaas.flow.record import Instant

IDLE_SECONDS = 60.0
"""An idle worker above the warm minimum is stopped after this long."""

INIT_BACKOFF_SECONDS = 1.0
INIT_BACKOFF_SECONDS_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What the pool is to do now. `assign` are (ticket, worker), already counted as busy; `start`
    names one function a new worker each, already counted as starting; `stop` are workers already
    counted as draining. `wake` is when to ask again though nothing has happened."""

    assign: tuple[tuple[int, int], ...] = ()
    start: tuple[str, ...] = ()
    stop: tuple[int, ...] = ()
    wake: Instant | None = None


@dataclass(slots=True)
class _Crew:
    """The workers of one function."""

    share: Share
    idle: list[tuple[int, Instant]] = field(default_factory=list)  # last used on top
    waiting: deque[int] = field(default_factory=deque)  # tickets, oldest first
    starting: int = 0
    alive: int = 0  # starting, idle and busy; not those told to leave
    failures: int = 0  # starts that failed in a row
    not_before: Instant = Instant(0.0)


class Roster:
    """Workers by state: STARTING, IDLE, BUSY, DRAINING (told to leave) and gone.

    A ticket is one invocation that wants a worker. Tickets of a function are served in order, and
    over all functions the oldest that may run goes first. One spare beyond the busy workers is
    kept where `spare` is set, so that a crash costs no start.
    """

    def __init__(
        self, limit: int, memory_bytes: int, shares: Mapping[str, Share], *, spare: bool = True
    ) -> None:
        self.admission = Admission(limit, shares)
        self._crews = {name: _Crew(share) for name, share in shares.items()}
        self._function_of: dict[int, str] = {}
        self._busy: set[int] = set()
        self._draining: set[int] = set()
        self._memory_free = memory_bytes
        self._spare = spare

    # -- the fast road: no plan is needed where a worker stands idle and nobody waits

    def claim(self, function: str) -> int | None:
        """An idle worker, now busy, if one may run at once and nobody is before; else None."""
        crew = self._crews[function]
        if crew.waiting or not crew.idle or not self.admission.room(function):
            return None
        self.admission.enter(function)
        worker, _ = crew.idle.pop()
        self._busy.add(worker)
        return worker

    # -- events

    def ask(self, ticket: int, function: str) -> None:
        self._crews[function].waiting.append(ticket)

    def withdraw(self, ticket: int, function: str) -> None:
        """The ticket's owner no longer waits (and was not served yet)."""
        self._crews[function].waiting.remove(ticket)

    def starting(self, worker: int, function: str) -> None:
        """The pool has given a planned start its number."""
        assert worker not in self._function_of
        self._function_of[worker] = function

    def started(self, worker: int, now: Instant) -> None:
        """Ready for the first invocation."""
        crew = self._crews[self._function_of[worker]]
        crew.starting -= 1
        crew.failures = 0
        if worker not in self._draining:
            crew.idle.append((worker, now))

    def freed(self, worker: int, now: Instant) -> None:
        """Its invocation has ended and it is fit for the next."""
        function = self._function_of[worker]
        self._busy.remove(worker)
        self.admission.leave(function)
        if worker not in self._draining:
            self._crews[function].idle.append((worker, now))

    def exited(self, worker: int, now: Instant) -> None:
        """Gone, for whatever reason and in whatever state. A start that failed is backed off."""
        function = self._function_of.pop(worker)
        crew = self._crews[function]
        self._memory_free += crew.share.memory_bytes
        if worker in self._draining:
            self._draining.remove(worker)
            return
        crew.alive -= 1
        if worker in self._busy:
            self._busy.remove(worker)
            self.admission.leave(function)
        else:
            crew.idle = [(w, since) for w, since in crew.idle if w != worker]

    def start_failed(self, worker: int, now: Instant) -> None:
        """It never became ready: it is gone, and the next start waits longer each time."""
        crew = self._crews[self._function_of[worker]]
        crew.starting -= 1
        crew.failures += 1
        pause = INIT_BACKOFF_SECONDS * 2.0 ** min(crew.failures - 1, 16)
        crew.not_before = Instant(now + min(pause, INIT_BACKOFF_SECONDS_MAX))
        self.exited(worker, now)

    # -- what follows

    def plan(self, now: Instant) -> Plan:
        assign = self._assign()
        stop = self._reap(now)
        start = self._start(now)
        return Plan(tuple(assign), tuple(start), tuple(stop), self._next_wake(now))

    def states(self, function: str) -> dict[str, int]:
        """How many workers of the function are in which state, for people to look at."""
        crew = self._crews[function]
        mine = [w for w, f in self._function_of.items() if f == function]
        return {
            "starting": crew.starting,
            "idle": len(crew.idle),
            "busy": sum(w in self._busy for w in mine),
            "draining": sum(w in self._draining for w in mine),
            "waiting": len(crew.waiting),
        }

    def _assign(self) -> list[tuple[int, int]]:
        assigned: list[tuple[int, int]] = []
        while True:
            able = [
                (crew.waiting[0], name)
                for name, crew in self._crews.items()
                if crew.waiting and crew.idle and self.admission.room(name)
            ]
            if not able:
                return assigned
            ticket, name = min(able)
            crew = self._crews[name]
            crew.waiting.popleft()
            worker, _ = crew.idle.pop()
            self.admission.enter(name)
            self._busy.add(worker)
            assigned.append((ticket, worker))

    def _wanted(self, crew: _Crew, name: str) -> int:
        """How many workers should be alive, memory aside."""
        busy = self.admission.busy(name)
        wanted = max(crew.share.warm, busy + len(crew.waiting))
        if self._spare and (crew.share.warm or busy or crew.waiting):
            wanted = max(wanted, busy + len(crew.waiting) + 1)
        ceiling = self.admission.limit if crew.share.maximum is None else crew.share.maximum
        return min(wanted, ceiling + (1 if self._spare else 0))

    def _start(self, now: Instant) -> list[str]:
        started = []
        # whoever waits longest is served first when memory is short; spares come last
        order = sorted(
            self._crews.items(), key=lambda c: c[1].waiting[0] if c[1].waiting else 1 << 62
        )
        for name, crew in order:
            if now < crew.not_before:
                continue
            wanted = self._wanted(crew, name)
            if crew.failures:
                wanted = min(wanted, crew.alive + 1)  # one try at a time until one succeeds
            while crew.alive < wanted and crew.share.memory_bytes <= self._memory_free:
                if crew.failures and crew.starting:
                    break
                self._memory_free -= crew.share.memory_bytes
                crew.alive += 1
                crew.starting += 1
                started.append(name)
        return started

    def _reap(self, now: Instant) -> list[int]:
        stopped: list[int] = []
        short = any(
            crew.waiting and not crew.idle and crew.share.memory_bytes > self._memory_free
            for crew in self._crews.values()
        )
        for crew in self._crews.values():
            # under memory pressure an idle worker of somebody else makes room at once
            patience = 0.0 if short else IDLE_SECONDS
            while (
                crew.idle
                and not crew.waiting
                and crew.alive > crew.share.warm
                and now - crew.idle[0][1] >= patience
            ):
                worker, _ = crew.idle.pop(0)
                crew.alive -= 1
                self._draining.add(worker)
                stopped.append(worker)
                if short:
                    return stopped
        return stopped

    def _next_wake(self, now: Instant) -> Instant | None:
        times = [
            crew.not_before
            for crew in self._crews.values()
            if crew.not_before > now and (crew.waiting or crew.alive < crew.share.warm)
        ]
        times += [
            Instant(crew.idle[0][1] + IDLE_SECONDS)
            for crew in self._crews.values()
            if crew.idle and crew.alive > crew.share.warm
        ]
        return min(times, default=None)
