"""Workers that share a table of leases: clocks that run apart, writes that are late or lost."""

import heapq
import itertools
import math
import random
from collections import Counter
from dataclasses import replace

from streamfaas.flow.leases import Lease, Plan, Tenure, Terms, Watch

TERMS = Terms(10.0)
PATIENCE = 2.0
"""How long a worker waits for an answer."""


class Dead(Exception):
    """Who is dead does nothing more."""


class World:
    """A table with compare-and-set, and what happens when."""

    def __init__(self, seed, leases, *, lost=0.0, slow=0.5):
        self.chance = random.Random(seed)
        self.table = {lease.key: lease for lease in leases}
        self.lost, self.slow = lost, slow
        self.now = 0.0
        self.due = []
        self.numbers = itertools.count()
        self.workers = []
        self.takes = []  # when, key, by whom

    def at(self, when, work):
        heapq.heappush(self.due, (when, next(self.numbers), work))

    def spawn(self, life):
        self.at(self.now, lambda: self.go_on(life, None))

    def go_on(self, life, value):
        try:
            kind, asked = life.send(value)
        except (StopIteration, Dead):
            return
        if kind == "sleep":
            self.at(self.now + asked, lambda: self.go_on(life, None))
        else:
            self.request(life, asked)

    def request(self, life, operation):
        """Carried out after a while, or never; answered after a while, or not: then the worker
        goes on, and what it asked for may be carried out all the same."""
        answered = []

        def answer(value):
            if not answered:
                answered.append(True)
                self.go_on(life, value)

        def carry_out():
            value = operation(self.table)
            if self.chance.random() >= self.lost:
                self.at(self.now + self.delay(), lambda: answer(value))

        self.at(self.now + PATIENCE, lambda: answer("no answer"))
        if self.chance.random() >= self.lost:
            late = 30 if self.chance.random() < self.lost else 1
            self.at(self.now + late * self.delay(), carry_out)

    def delay(self):
        return self.chance.random() * self.slow

    def run(self, until, check=lambda: None):
        while self.due and self.due[0][0] <= until:
            self.now, _, work = heapq.heappop(self.due)
            work()
            check()
        self.now = until

    def sure(self):
        """Who thinks now that a lease is theirs, by key."""
        found = {}
        for worker in self.workers:
            for key, tenure in worker.tenures.items():
                if worker.clock() < tenure.sure_until(TERMS):
                    found.setdefault(key, []).append(worker.name)
        return found


class Worker:
    """As the source does it: one life looks at the table, one keeps each lease."""

    def __init__(self, world, name, *, rate=1.0, grace=1.0):
        self.world, self.name, self.rate, self.grace = world, name, rate, grace
        self.offset = world.chance.random() * 1e6
        self.watch = Watch(name, TERMS)
        self.tenures = {}
        self.ours = set()
        self.frozen_until = 0.0
        self.dead = False
        world.workers.append(self)
        world.spawn(self.look())

    def clock(self):
        return self.world.now * self.rate + self.offset

    def sleep(self, seconds):
        """By our own clock; who is frozen sleeps on."""
        yield "sleep", seconds / self.rate
        yield from self.wait_awake()

    def ask(self, operation):
        answer = yield "request", operation
        yield from self.wait_awake()
        return answer

    def wait_awake(self):
        while self.world.now < self.frozen_until:
            yield "sleep", self.frozen_until - self.world.now
        if self.dead:
            raise Dead

    def look(self):
        while True:
            rows = yield from self.ask(lambda table: list(table.values()))
            look_at = self.clock() + TERMS.scan_seconds
            if rows != "no answer":
                self.watch.saw(rows, self.clock())
                readable = self.watch.may_be_read({})
                plan = self.watch.plan(
                    readable, self.ours, self.clock(), self.world.chance.random()
                )
                assert isinstance(plan, Plan)
                look_at = plan.look_at
                for lease in plan.take:
                    yield from self.take(lease)
                if plan.ask is not None:
                    yield from self.want(plan.ask)
            yield from self.sleep(max(0.01, look_at - self.clock()))

    def write(self, lease, *, moves=1, **changed):
        """A write that names owner and counter."""

        def operation(table):
            row = table.get(lease.key)
            if row is None or (row.owner, row.counter) != (lease.owner, lease.counter):
                return "refused"
            table[lease.key] = replace(row, counter=row.counter + moves, **changed)
            return table[lease.key]

        return (yield from self.ask(operation))

    def take(self, lease):
        asked_at = self.clock()
        taken = yield from self.write(lease, owner=self.name, gives_way=self.name, wanted_by="")
        if isinstance(taken, Lease):
            self.ours.add(lease.key)
            self.tenures[lease.key] = Tenure(taken, asked_at)
            self.world.takes.append((self.world.now, lease.key, self.name))
            self.world.spawn(self.keep(lease.key))

    def want(self, lease):
        told = yield from self.write(lease, moves=0, wanted_by=self.name)
        if isinstance(told, Lease):
            self.watch.asked(lease.key, self.clock())

    def keep(self, key):
        """Renews until the lease is lost, or wanted by somebody."""
        while True:
            tenure = self.tenures[key]
            if tenure.lease.wanted_by:
                yield from self.hand_over(key)
                break
            pause = min(TERMS.renew_seconds, tenure.sure_until(TERMS) - self.clock())
            yield from self.sleep(max(0.01, pause))
            if not (yield from self.renew(key)):
                break
        self.tenures.pop(key, None)
        yield from self.sleep(self.grace)  # its lane is cut off
        self.ours.discard(key)

    def renew(self, key):
        tenure = self.tenures[key]
        asked_at = self.clock()
        if asked_at >= tenure.sure_until(TERMS):
            return False
        answer = yield from self.write(tenure.lease)
        if isinstance(answer, Lease):
            self.tenures[key] = tenure.renewed(answer, asked_at)
        elif answer == "refused":
            row = yield from self.ask(lambda table: table.get(key))
            kept = tenure if row == "no answer" else tenure.read_back(row)
            if kept is None:
                return False
            self.tenures[key] = kept
        return True

    def hand_over(self, key):
        yield from self.sleep(self.grace)  # what is in hand ends
        if not (yield from self.renew(key)):
            return
        lease = self.tenures.pop(key).lease  # from here on it is not ours
        yield from self.write(lease, owner="", wanted_by="")
        self.watch.gave(key, self.clock())


class Library:
    """A worker of the Kinesis Client Library: it takes what stands still, or one of who has most,
    and hears of what was taken from it when it renews. (Of its `DynamoDBLeaseTaker` and
    `DynamoDBLeaseRenewer`, 2.6.)"""

    def __init__(self, world, name):
        self.world, self.name = world, name
        self.seen = {}  # counter, and since when it stands
        self.held = {}
        self.tenures = {}  # it is never sure
        self.dead = False
        world.workers.append(self)
        world.spawn(self.take())
        world.spawn(self.renew())

    def write(self, lease, **changed):
        """Its writes name the counter alone."""

        def operation(table):
            row = table.get(lease.key)
            if row is None or row.counter != lease.counter:
                return None
            table[lease.key] = replace(row, counter=row.counter + 1, **changed)
            return table[lease.key]

        return (yield "request", operation)

    def take(self):
        while not self.dead:
            rows = yield "request", lambda table: list(table.values())
            for lease in self.chosen(rows) if rows != "no answer" else ():
                taken = yield from self.write(lease, owner=self.name)
                if isinstance(taken, Lease) and not self.dead:
                    self.held[lease.key] = taken
                    self.world.takes.append((self.world.now, lease.key, self.name))
            yield "sleep", 2 * TERMS.failover_seconds

    def chosen(self, rows):
        now, chance = self.world.now, self.world.chance
        for row in rows:
            if row.key not in self.seen or self.seen[row.key][0] != row.counter:
                new = row.key not in self.seen and not row.owner
                self.seen[row.key] = row.counter, -math.inf if new else now
        stands = {row.key: now - self.seen[row.key][1] for row in rows}
        free = [e for e in rows if not e.owner or stands[e.key] > TERMS.failover_seconds]
        load = Counter({self.name: 0})
        load.update(row.owner for row in rows if row not in free)
        target = max(1, math.ceil(len(rows) / len(load)))
        if old := [row for row in rows if stands[row.key] > 3 * TERMS.failover_seconds]:
            return old
        need = target - load[self.name]
        if need <= 0:
            return []
        chance.shuffle(free)
        most, count = load.most_common(1)[0]
        if free or not (count > target or (count == target and need > 1)):
            return free[:need]
        return [chance.choice([row for row in rows if row.owner == most])]

    def renew(self):
        while not self.dead:
            for key, lease in list(self.held.items()):
                renewed = yield from self.write(lease)
                if isinstance(renewed, Lease):
                    self.held[key] = renewed
                elif renewed is None:
                    self.held.pop(key, None)
            yield "sleep", TERMS.failover_seconds / 3
