"""Who reads which shard: leases in a table that several daemons share, as the Kinesis Client
Library does it, each with its checkpoint.

A lease is a row that its owner renews, by a write that names the counter it last wrote and raises
it. Nobody's clock is compared with another's: a lease has expired for us once we have seen its
counter stand still for so long, and is surely ours for less than that after we asked for the last
write that stands. So no two of us ever think at once that a lease is theirs.

The library's own workers may share the table. They ask nobody: who has less than its share takes a
lease of who has most, and the loser hears of it when its next write is refused. So they do it with
us, and so we do it with them; who of us wants one of ours asks its owner for it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from streamfaas.flow.record import Instant
from streamfaas.flow.shards import Parents

TRIM_HORIZON, LATEST, AT_TIMESTAMP = "TRIM_HORIZON", "LATEST", "AT_TIMESTAMP"
SHARD_END = "SHARD_END"
BEGINNINGS = frozenset({TRIM_HORIZON, LATEST, AT_TIMESTAMP})
"""Checkpoints of shards of which nothing is finished with."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A row of the table. `checkpoint` is the sequence number of the last record that is finished
    with, and `sub` which of its aggregate; or one of the words above. `switches` counts owners
    since then. `hashes` are the ends of its range. Ours alone are `gives_way` (who of us took it
    last), `wanted_by` (who would like to have it), `stream` (which life of the stream it is of),
    and `since_ms` (where LATEST was). `others` are columns that we know nothing of, as they
    stand."""

    key: str
    counter: int = 0
    owner: str = ""
    checkpoint: str = TRIM_HORIZON
    sub: int = 0
    switches: int = 0
    parents: frozenset[str] = frozenset()
    children: frozenset[str] = frozenset()
    hashes: tuple[str, str] | None = None
    gives_way: str = ""
    wanted_by: str = ""
    stream: str = ""
    since_ms: int | None = None
    others: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def ended(self) -> bool:
        """All of the shard is finished with."""
        return self.checkpoint == SHARD_END

    @property
    def begun(self) -> bool:
        """Some of the shard is finished with."""
        return self.checkpoint not in BEGINNINGS

    @property
    def heeded(self) -> bool:
        """Its owner gives it to who wants it. A worker of the library does not know of that: it
        writes its name and leaves the rest."""
        return self.owner == self.gives_way


@dataclass(frozen=True, slots=True)
class Terms:
    """How long a lease lasts, and what follows from it."""

    failover_seconds: float = 10.0

    @property
    def renew_seconds(self) -> float:
        """Between two renewals: three may fail before a lease is in doubt."""
        return self.failover_seconds / 4

    @property
    def scan_seconds(self) -> float:
        """Between two looks at the table."""
        return self.failover_seconds / 5

    @property
    def sure_seconds(self) -> float:
        """A lease is surely ours for so long: clocks may run apart by a tenth."""
        return self.failover_seconds * 0.8


@dataclass(frozen=True, slots=True)
class Tenure:
    """A lease that is ours. `asked_at` is when the last write that stands was asked for: nobody
    has seen it before then, so nobody thinks that it has expired before `failover_seconds` are
    over."""

    lease: Lease
    asked_at: Instant

    def sure_until(self, terms: Terms) -> Instant:
        return Instant(self.asked_at + terms.sure_seconds)

    def renewed(self, lease: Lease, asked_at: Instant) -> Tenure:
        """Our write was answered."""
        return Tenure(lease, asked_at)

    def read_back(self, lease: Lease | None) -> Tenure | None:
        """What a write that was refused found; None: the lease is lost. One of ours that nobody
        answered may have been carried out all the same; when is not known."""
        if lease is None or lease.owner != self.lease.owner:
            return None
        return replace(self, lease=lease)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a worker is to do now: leases to take, each by a write that names the counter it was
    seen with, whoever has them; one to ask its owner for; and when to look again."""

    take: tuple[Lease, ...]
    ask: Lease | None
    look_at: Instant


class Watch:
    """What one worker has seen of the table, by its own clock."""

    def __init__(self, worker: str, terms: Terms) -> None:
        self.worker = worker
        self.terms = terms
        self.leases: Mapping[str, Lease] = {}
        self._before: Collection[str] = ()  # what the look before that one has seen
        self._still: dict[str, Instant] = {}  # since when a counter has not been seen to move
        self._given: dict[str, Instant] = {}  # what was given to somebody, and when
        self._asked: dict[str, Instant] = {}

    def saw(self, leases: Iterable[Lease], now: Instant) -> None:
        """The whole table. `now` is when the answer was there: what it shows was written before."""
        self._before, old = frozenset(self.leases), self.leases
        self.leases = {lease.key: lease for lease in leases}
        self._still = {
            key: self._still[key] if key in old and old[key].counter == lease.counter else now
            for key, lease in self.leases.items()
        }
        owners = {key: lease.owner for key, lease in self.leases.items()}
        self._given = {key: at for key, at in self._given.items() if owners.get(key) == ""}
        # who let go of it, or took it anew, has cleared our name
        asking = {e.key for e in self.leases.values() if e.heeded and e.wanted_by == self.worker}
        self._asked = {key: at for key, at in self._asked.items() if key in asking}

    def gave(self, key: str, now: Instant) -> None:
        """We have let go of a lease for somebody who wanted it: not to take it back at once."""
        self._given[key] = now

    def asked(self, key: str, now: Instant) -> None:
        """We have told the owner of a lease that we want it."""
        self._asked[key] = now

    def may_be_read(self, known: Parents) -> list[str]:
        """Leases of shards whose turn has come, in the order of their keys: all of their parents
        are finished with. A parent without a row is: rows of parents are made first, and are
        removed only when their children have begun. But a look at the table takes time: of a row
        that is new to it, the parent's may have been made behind its back."""
        return [
            key
            for key, lease in sorted(self.leases.items())
            if not lease.ended
            and (lease.begun or all(self._over(key, each, known) for each in _of(lease, known)))
        ]

    def _over(self, key: str, parent: str, known: Parents) -> bool:
        if parent in self.leases:
            return self.leases[parent].ended
        return parent not in known or key in self._before

    def plan(
        self, readable: Collection[str], ours: Collection[str], now: Instant, chance: float
    ) -> Plan:
        """`readable` as `may_be_read` has it; `ours` are those that we have, or still close.
        `chance` (0 ≤ x < 1) keeps workers from wanting the same."""
        leases = [self.leases[key] for key in readable]
        free = [each for each in leases if each.key not in ours and self.free(each, now)]
        load = Counter({self.worker: sum(each.key in ours for each in leases)})
        load.update(
            each.owner for each in leases if each.key not in ours and not self.free(each, now)
        )
        room = math.ceil(len(leases) / len(load)) - load[self.worker]
        take = _turned([each for each in free if self._ripe(each, now)], chance)[: max(0, room)]
        wish = None if free else self._wish(leases, load, room, now, chance)
        if wish is not None and not wish.heeded:
            take, wish = [wish], None
        return Plan(tuple(take), wish, self._look_at(leases, ours, now))

    def free(self, lease: Lease, now: Instant) -> bool:
        """Nobody has it: its owner let go of it or does not renew it, or it is ours by a write
        that we have not heard of."""
        return lease.owner in {"", self.worker} or now >= self._expires(lease.key)

    def _expires(self, key: str) -> Instant:
        return Instant(self._still[key] + self.terms.failover_seconds)

    def _ripe(self, lease: Lease, now: Instant) -> bool:
        given = self._given.get(lease.key, Instant(-math.inf))
        return now >= given + self.terms.failover_seconds

    def _wish(
        self, leases: Iterable[Lease], load: Counter[str], room: int, now: Instant, chance: float
    ) -> Lease | None:
        """One of the most loaded worker's, where that evens things out; one at a time."""
        if room <= 0 or any(now < at + self._patience for at in self._asked.values()):
            return None
        most = max(load[name] for name in load)
        if most < load[self.worker] + 2:
            return None
        loaded = {name for name, count in load.items() if count == most}
        theirs = [e for e in leases if e.owner in loaded and not (e.heeded and e.wanted_by)]
        return next(iter(_turned(theirs, chance)), None)

    @property
    def _patience(self) -> float:
        """For so long an owner may let us wait."""
        return 4 * self.terms.failover_seconds

    def _look_at(self, leases: Iterable[Lease], ours: Collection[str], now: Instant) -> Instant:
        """Sooner where a lease will have expired by then, or one is to be handed over."""
        terms = self.terms
        expiries = [self._expires(each.key) for each in leases if each.key not in ours]
        soon = terms.scan_seconds / 4
        waits = any(now < at + self._patience for at in self._asked.values())
        later = now + (soon if waits else terms.scan_seconds)
        return Instant(max(now + soon, min([later, *(at for at in expiries if at > now)])))


def to_be_made(leases: Mapping[str, Lease], known: Parents) -> list[tuple[str, bool]]:
    """Shards that have no row and need one, parents before their children; each with whether it
    came out of one that has a row, or will. Those whose children have rows have been finished
    with, and their rows removed."""
    old = _ancestors(leases, known)
    found: dict[str, bool] = {}

    def look(shard: str) -> None:
        if shard in leases or shard in old or shard in found:
            return
        parents = known[shard]
        for parent in parents:
            if parent in known:
                look(parent)
        found[shard] = any(each in leases or found.get(each) for each in parents)

    for shard in known:
        look(shard)
    return list(found.items())


def done_with(leases: Mapping[str, Lease], known: Parents) -> list[Lease]:
    """Rows of ended shards that nobody needs any more: all of their children have begun, or the
    stream has forgotten them; the oldest first, as the library does it."""
    children: dict[str, set[str]] = {key: set(lease.children) for key, lease in leases.items()}
    for shard, parents in known.items():
        for parent in parents:
            children.setdefault(parent, set()).add(shard)
    return [
        lease
        for key, lease in leases.items()
        if lease.ended
        and not any(parent in leases for parent in lease.parents)
        and (key not in known or _begun(children[key], leases))
    ]


def of_another(leases: Collection[Lease], of: str, known: Collection[str]) -> str:
    """Which other stream a table is in use for; "" where it is not. `of`: how lives of ours begin,
    whichever it is read in; `known`: our shards. The library writes down no stream: there, that we
    know none of the shards tells, where somebody has leases of them."""
    # the streams of one table, one after the other, are one
    family = of.partition("/stream/")[0]
    for lease in leases:
        if lease.stream and not lease.stream.startswith(family):
            return lease.stream.partition(" ")[0]
    left = [lease for lease in leases if not lease.ended]
    foreign = known and not any(lease.stream or lease.key in known for lease in left)
    owned = next((lease for lease in left if lease.owner), None)
    return f"that of {owned.key}, of {owned.owner}" if foreign and owned is not None else ""


def _begun(shards: Collection[str], leases: Mapping[str, Lease]) -> bool:
    return bool(shards) and all(each in leases and leases[each].begun for each in shards)


def _ancestors(leases: Mapping[str, Lease], known: Parents) -> set[str]:
    found: set[str] = set()
    due = list(leases)
    while due:
        shard = due.pop()
        parents = _of(leases[shard], known) if shard in leases else set(known.get(shard, ()))
        due += parents - found
        found |= parents
    return found


def _of(lease: Lease, known: Parents) -> set[str]:
    return {*lease.parents, *known.get(lease.key, ())}


def _turned(leases: list[Lease], chance: float) -> list[Lease]:
    start = int(chance * len(leases))
    return leases[start:] + leases[:start]
