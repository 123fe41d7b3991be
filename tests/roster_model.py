"""A pool whose workers are only numbers: it carries the roster's plans out, and checks each."""

from __future__ import annotations

from streamfaas.flow.roster import Plan, Roster
from streamfaas.testing.clock import ManualClock

NAMES = ("a", "b", "c")
ROOMY = 1 << 40


class Pool:
    """Carries plans out on workers that are only numbers, and checks each of them."""

    def __init__(self, limit, memory, shares, *, spare=True) -> None:
        self.limit, self.memory, self.shares, self.spare = limit, memory, shares, spare
        self.clock = ManualClock()
        self.roster = Roster(limit, memory, shares, spare=spare)
        self.function: dict[int, str] = {}
        self.definition: dict[int, int] = {}  # that a worker was started by
        self.memory_of: dict[int, int] = {}
        self.states: dict[int, str] = {}  # of every worker that is not gone
        self.in_force = dict.fromkeys(shares, 0)
        self.definitions = 0
        self.coming = None
        self.excess: dict[object, int] = {}
        self.waiting: dict[str, list[int]] = {name: [] for name in shares}
        self.served: dict[int, int] = {}
        self.asked = self.numbered = 0
        self.wake = None
        self.plan()

    def __repr__(self) -> str:
        return f"Pool({self.limit}, {self.memory}, {self.shares}, spare={self.spare})"

    # -- what may happen

    def ask(self, name) -> int:
        ticket, self.asked = self.asked, self.asked + 1
        self.waiting[name].append(ticket)
        self.roster.ask(ticket, name)
        self.plan()
        return ticket

    def call(self, name) -> int | None:
        """As the pool does it: the fast road first. The worker, where one is free at once."""
        idle, room = self.of(name, "idle"), self.roster.admission.room(name)
        worker = self.roster.claim(name)
        if worker is not None:
            assert worker in idle
            assert room
            assert not self.waiting[name], "it went before those who wait"
            self.states[worker] = "busy"
            return worker
        contended = any(self.waiting[o] and self.of(o, "idle") for o in self.shares)
        assert self.waiting[name] or not idle or not room or contended
        return self.served.get(self.ask(name))

    def withdraw(self, name) -> None:
        ticket = self.waiting[name].pop()
        self.roster.withdraw(ticket, name)
        self.plan()

    def started(self, worker) -> None:
        assert self.states[worker] == "starting"
        self.states[worker] = "idle"
        self.roster.started(worker, self.clock())
        self.plan()

    def freed(self, worker) -> None:
        assert self.states[worker] == "busy"
        stays = self.definition[worker] == self.in_force.get(self.function[worker])
        self.states[worker] = "idle" if stays else "draining"
        assert self.roster.freed(worker, self.clock()) is stays
        if any(self.waiting.values()):
            self.plan()

    def done(self, worker) -> None:
        """As the pool does it: straight to who waits for the same function, if that is fair."""
        name = self.function[worker]
        strained = self.roster.admission.strained
        ticket = self.roster.pass_on(worker)
        if ticket is None:
            self.freed(worker)
            return
        assert not strained
        assert self.stays(worker)
        assert ticket == self.waiting[name].pop(0)
        self.served[ticket] = worker
        self.check()

    def exited(self, worker) -> None:
        self.states.pop(worker)
        self.roster.exited(worker, self.clock())
        self.plan()

    def start_failed(self, worker) -> None:
        assert self.states.pop(worker) == "starting"
        self.roster.start_failed(worker, self.clock())
        self.plan()

    def advance(self, seconds) -> None:
        self.clock.advance(seconds)
        if self.wake is not None and self.clock() >= self.wake:
            self.plan()

    def propose(self, limit, memory, shares, anew) -> None:
        """`anew` are the functions that get other workers."""
        assert self.coming is None
        self.definitions += 1
        self.coming = limit, memory, shares, anew
        self.roster.propose({name: shares[name] for name in anew})

    def begin(self, name) -> bool:
        _, _, shares, _ = self.coming
        before = self.roster._memory_free
        if not self.roster.begin(self.numbered, name):
            starved = any(self.waiting[n] and not self.alive(n) for n in self.shares)
            assert starved or before < shares[name].memory_bytes
            return False
        self.enlist(name, self.definitions, shares[name])
        self.check()
        return True

    def take_back(self) -> None:
        self.coming = None
        self.told_to_leave(self.roster.take_back())
        self.plan()

    def replace(self) -> None:
        limit, memory, shares, anew = self.coming
        for name in self.shares.keys() - shares.keys():
            while self.waiting[name]:
                self.roster.withdraw(self.waiting[name].pop(), name)
        waited = {name: list(tickets) for name, tickets in self.waiting.items()}
        self.coming, self.limit, self.memory, self.shares = None, limit, memory, shares
        self.waiting = {name: waited.get(name, []) for name in shares}
        self.in_force = {n: self.definitions if n in anew else self.in_force[n] for n in shares}
        self.told_to_leave(self.roster.replace(limit, memory, shares))
        assert {n: list(self.roster._crews[n].waiting) for n in shares} == self.waiting
        self.excess = {what: value for what, (value, _) in self.measures().items()}
        self.plan()

    def told_to_leave(self, workers) -> None:
        """Everybody of a definition that is not, or no longer to be, in force, but who is busy."""
        old = {
            worker
            for worker, state in self.states.items()
            if state in {"starting", "idle"} and not self.stays(worker)
        }
        assert set(workers) == old
        self.states.update(dict.fromkeys(old, "draining"))

    def stays(self, worker) -> bool:
        coming = self.coming is not None and self.definition[worker] == self.definitions
        return coming or self.definition[worker] == self.in_force.get(self.function[worker])

    def enlist(self, name, definition, share) -> int:
        worker, self.numbered = self.numbered, self.numbered + 1
        self.function[worker], self.definition[worker] = name, definition
        self.memory_of[worker], self.states[worker] = share.memory_bytes, "starting"
        return worker

    # -- what follows

    def plan(self) -> Plan:
        plan = self.roster.plan(self.clock())
        for ticket, worker in plan.assign:
            name = self.function[worker]
            assert self.states[worker] == "idle", "assigned twice, or not ready"
            assert ticket == self.waiting[name].pop(0), "out of turn"
            self.states[worker] = "busy"
            self.served[ticket] = worker
        for worker in plan.stop:
            assert self.states[worker] == "idle", "stopped at work"
            self.states[worker] = "draining"
        for name in plan.start:
            assert self.memory_free >= self.shares[name].memory_bytes
            self.roster.starting(self.enlist(name, self.in_force[name], self.shares[name]), name)
        self.wake = plan.wake
        assert self.wake is None or self.wake > self.clock(), "it would spin"
        again = self.roster.plan(self.clock())
        assert again == Plan(wake=plan.wake), "a plan says everything that is to be done"
        self.check()
        self.check_nobody_starves()
        return plan

    def of(self, name, *states) -> list[int]:
        wanted = states or ("starting", "idle", "busy", "draining")
        mine = [w for w in self.states if self.function[w] == name]
        in_force = self.in_force[name]
        return [w for w in mine if self.definition[w] == in_force and self.states[w] in wanted]

    def alive(self, name) -> list[int]:
        return self.of(name, "starting", "idle", "busy")

    def busy(self, name) -> int:
        """By whatever definition."""
        return sum(self.function[w] == name for w, s in self.states.items() if s == "busy")

    @property
    def memory_free(self) -> int:
        return self.memory - sum(self.memory_of[worker] for worker in self.states)

    def measures(self):
        """What may not be more than something."""
        names = {*self.shares, *(self.function[w] for w in self.states)}
        reserved = {name: self.shares[name].reserved for name in self.shares}
        beyond = sum(max(0, self.busy(name) - reserved.get(name, 0)) for name in names)
        found = {
            "memory": (self.memory - self.memory_free, self.memory),
            "in flight": (sum(self.busy(name) for name in names), self.limit),
            "beside what is reserved": (beyond, self.limit - sum(reserved.values())),
        }
        for name, share in self.shares.items():
            ceiling = self.limit if share.maximum is None else share.maximum
            found[name, "in flight"] = self.busy(name), ceiling
            found[name, "alive"] = len(self.alive(name)), max(share.warm, ceiling + self.spare)
        return found

    def check(self) -> None:
        """Never over a share, the limit or the memory; and where more was there when these were
        replaced, it never grows. And the roster counts as we do."""
        assert self.roster._memory_free == self.memory_free
        for what, (value, most) in self.measures().items():
            assert value <= max(most, self.excess.get(what, 0)), what
            self.excess[what] = value if value > most else 0
        for name, share in self.shares.items():
            ceiling = self.limit if share.maximum is None else share.maximum
            told, idle = self.roster.states(name), len(self.of(name, "idle"))
            spare = max(0, min(idle, len(self.alive(name)) - min(ceiling, self.limit)))
            leaving = [w for w, s in self.states.items() if s == "draining"]
            assert told == {
                "starting": len(self.of(name, "starting")),
                "idle": idle - spare,
                "spare": spare,
                "busy": self.busy(name),
                "draining": sum(self.function[w] == name for w in leaving),
                "waiting": len(self.waiting[name]),
            }

    def check_nobody_starves(self) -> None:
        """After a plan, whoever waits has a reason to."""
        ready = {n: self.clock() >= self.roster._crews[n].not_before for n in self.shares}
        hungry = [n for n in self.shares if self.waiting[n] and not self.alive(n) and ready[n]]
        for name in self.shares:
            if self.waiting[name] and self.of(name, "idle"):
                assert not self.roster.admission.room(name)
        for name in hungry:
            share = self.shares[name]
            if self.memory_free >= share.memory_bytes:
                # kept for one that has waited longer
                assert any(self.waiting[o][0] < self.waiting[name][0] for o in hungry if o != name)
        if hungry:
            first = min(hungry, key=lambda name: self.waiting[name][0])
            coming = sum(self.memory_of[w] for w, s in self.states.items() if s == "draining")
            enough = self.memory_free + coming >= self.shares[first].memory_bytes
            others = [n for n in self.shares if not self.waiting[n]]
            assert enough or not any(self.of(n, "idle") for n in others), "room could be made"


def settled(pool: Pool) -> Pool:
    """Lets every start succeed and everyone who was told to leave go."""
    while moving := [w for w, s in pool.states.items() if s in {"starting", "draining"}]:
        for worker in moving:
            (pool.started if pool.states[worker] == "starting" else pool.exited)(worker)
    return pool
