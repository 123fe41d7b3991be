"""What a history goes through, as a value: drawn from a seed, and made smaller where it fails."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

CALM_SECONDS = 120.0
"""From here on nothing new goes wrong, and everything has to come to its end."""

REST_SECONDS = 1500.0
"""By then it must have."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is done to the world at `at`. What the rest means is up to the kind."""

    at: float
    kind: str
    where: int = 0
    seconds: float = 0.0
    count: int = 0


@dataclass(frozen=True, slots=True)
class Trouble:
    """How often an execution ends in each way, until all is calm."""

    fail: float = 0.0  # the function raises
    crash: float = 0.0  # the worker dies while it works
    unheard: float = 0.0  # the worker dies after the function returned, before it could say so
    hang: float = 0.0  # until the timeout
    init: float = 0.0  # the function cannot be loaded
    throttle: float = 0.0  # there is no room for it
    slow: float = 0.0
    short: float = 0.0  # the event of all would be too large: the worker runs the first part
    damage: float = 0.0  # bytes of the batch are damaged on their way (logs)
    items: float = 0.0  # the function says of some records that they failed
    garble: float = 0.0  # what it says of them is nonsense
    stateless: float = 0.0  # its answer has no state, and is in a window
    bulky: float = 0.0  # its state is more than a state may be


@dataclass(frozen=True, slots=True)
class Plan:
    """One history. Chances that are needed on the way are drawn from the seed by what they are
    for, so that a plan that is made smaller changes no more than it must."""

    seed: int = 0
    kind: str = "stream"  # what the records come from
    daemons: int = 1
    lanes: int = 2
    records: int = 40  # in each lane
    spread: float = 20.0  # seconds over which they are produced
    keys: int = 5
    gaps: float = 0.0  # how many positions hold no record
    poison: float = 0.0  # how many records fail for ever, or till all is calm if never given up
    large: float = 0.0  # how many records are larger than an event may be
    batch: int = 10
    batch_bytes: int = 4_000
    event_bytes: int = 6_000
    window: float = 0.0
    retries: int | None = 2
    backoff: float = 1.0
    backoff_max: float = 10.0
    bisect: bool = False
    age: float | None = None  # seconds, from when on a record is too old
    partial: bool = False  # answers tell which records failed
    lowest: bool = False  # and mean that all from the lowest on did
    strands: int = 1
    keyless: float = 0.0  # how many records have no key
    unwanted: float = 0.0  # how many records the filter leaves out
    answers: bool = False  # what the function answers goes to a destination
    singly: bool = False  # destinations take a letter for each record
    timeout: float = 8.0
    grace: float = 5.0  # that a lane is given when it is taken away, or the daemon stops
    commit: float = 0.2  # seconds between commits; 0: with each settlement (logs)
    wire: float = 0.0  # how many requests to a service go wrong
    poll: float = 1.0  # seconds between reads of a shard that has nothing new
    late: float = 0.0  # seconds after the first record from when on anybody is there
    start: str | float = "trim_horizon"  # where its shards begin to be read; or after seconds
    aggregated: bool = False  # its records are put together
    changes: bool = False  # they are changes of a table, as DynamoDB tells of them
    mute: bool = False  # it never says that a shard is at its end
    fifo: bool = False  # its messages are in groups, each in order
    visibility: int = 30  # seconds, for which it keeps from others what it has handed out
    redrive: int | None = None  # so often it hands something out, and then gives it up
    twice: float = 0.0  # how often it hands out what somebody has
    wait: int = 20  # seconds that a receive waits for a message
    retention: float | None = None  # seconds, after which it forgets a record
    tumbling: tuple[float, ...] = ()  # seconds of its windows; with each reload, the next (0: none)
    tardy: float = 0.0  # how many records are dated before others that they come behind
    trouble: Trouble = Trouble()
    faults: tuple[Fault, ...] = ()

    @property
    def chance(self) -> Chance:
        return Chance(self.seed)

    @property
    def queue(self) -> bool:
        """Whether each record is finished with on its own."""
        return self.kind in {"tray", "messages"}

    def __str__(self) -> str:
        return _written(self)


class Chance:
    """Numbers 0 ≤ x < 1 by what they are for: the same question has the same answer."""

    def __init__(self, seed: int) -> None:
        self._seed = str(seed).encode()

    def __call__(self, *purpose: object) -> float:
        name = "|".join(map(str, purpose)).encode()
        digest = hashlib.blake2b(name, digest_size=7, key=self._seed).digest()
        return int.from_bytes(digest, "big") / (1 << 56)

    def happens(self, rate: float, *purpose: object) -> bool:
        return rate > 0 and self(*purpose) < rate

    def between(self, low: float, high: float, *purpose: object) -> float:
        return low + (high - low) * self(*purpose)


HALVED: dict[str, Any] = {
    "partial": False,
    "large": 0.0,
    "age": None,
    "strands": 1,
    "records": 100,
    "batch": 25,
    "batch_bytes": 6_000,
    "window": 5.0,
    "bisect": True,
}
"""Batches in which one record fails, and nothing else goes wrong."""

OF_ALL = (
    "kill-on",
    "kill-on",
    "skip",
    "store-full",
    "kill",
    "kill",
    "stop",
    "reload",
    "pause",
    "source-away",
    "destination-down",
    "destination-refuses",
    "destination-slow",
    "destination-deaf",
    "wall",
)
OF_KINDS = {
    "stream": ("guest", "guest", "cut-off", "cut-off"),
    "tray": ("queue-deaf",),
    "messages": ("stop", "kill-on", "throttled", "slow-service"),
    "shards": (
        "stop",
        "kill-on",
        "cut-off",
        "table",
        "split",
        "merge",
        "expire",
        "throttled",
        "slow-service",
    ),
}

KINDS = {"stream": 0.4, "tray": 0.15, "shards": 0.25, "messages": 0.2}
"""How many worlds are of each kind."""


def draw(seed: int, kind: str | None = None) -> Plan:
    """The plan of a seed, of whatever kind it would be or of this one."""
    return _windowed(_of_a_table(_drawn(seed, kind)))


def _drawn(seed: int, kind: str | None) -> Plan:
    of = random.Random(f"a plan of {seed}")
    (drawn,) = of.choices(list(KINDS), list(KINDS.values()))
    kind = kind or drawn
    queue = kind in {"tray", "messages"}
    daemons = 1 if kind != "stream" or of.random() < 0.55 else 2
    plan = Plan(
        seed=seed,
        kind=kind,
        daemons=daemons,
        lanes=of.randint(1, 4),
        records=of.choice((1, 10, 30, 60, 100)),
        spread=of.choice((0.0, 5.0, 40.0, 90.0)),
        keys=of.choice((1, 3, 10)),
        gaps=of.choice((0.0, 0.0, 0.2, 0.6)),
        poison=of.choice((0.0, 0.0, 0.02, 0.1)),
        large=of.choice((0.0, 0.0, 0.05)),
        batch=1 if queue and of.random() < 0.5 else of.choice((1, 3, 10, 25)),
        batch_bytes=of.choice((300, 2_000, 6_000)),
        window=of.choice((0.0, 0.0, 0.5, 5.0)),
        retries=of.choice((None, 0, 1, 2, 3)),
        backoff=of.choice((0.1, 1.0)),
        backoff_max=of.choice((2.0, 30.0)),
        grace=of.choice((1.0, 5.0, 10.0)),
        commit=of.choice((0.0, 0.2, 2.0)),
    )
    plan = replace(plan, **_contract(of, plan))
    if kind == "messages":
        plan = replace(plan, **_posted(of, plan))
    if kind == "shards":
        plan = replace(plan, **_sharded(of, plan))
        plan = replace(plan, start=of.choice(STARTS[plan.late > 0]))
        daemons = plan.daemons
    if of.random() < 0.12:  # a quiet world, in which every step is to be explained
        quiet = replace(plan, poison=0.03, daemons=1)
        quiet = replace(quiet, wire=0.0, retention=None)
        return quiet if queue or of.random() < 0.5 else replace(quiet, **HALVED)
    trouble = _trouble(of, plan)
    faults = _faults(of, kind, daemons)
    if kind == "shards":
        faults += _reshaped(of, plan)
        plan = plan if daemons == 1 else replace(plan, retention=None)
    if plan.retention is not None:
        down = round(plan.retention + of.uniform(-40.0, 40.0), 2)
        faults += (Fault(at=round(of.uniform(1.0, 60.0), 2), kind="down", seconds=down),)
    return replace(plan, trouble=trouble, faults=tuple(sorted(faults, key=lambda one: one.at)))


def _contract(of: random.Random, plan: Plan) -> dict[str, Any]:
    partial = of.random() < 0.3
    return {
        "bisect": not plan.queue and of.random() < 0.35,
        "age": None if plan.queue else of.choice((None, None, None, 5.0, 40.0)),
        "partial": partial,
        "lowest": partial and not plan.queue and of.random() < 0.5,
        "strands": 1 if plan.queue else of.choice((1, 1, 1, 2, 4)),
        "keyless": of.choice((0.0, 0.0, 0.3)),
        "unwanted": of.choice((0.0, 0.0, 0.0, 0.3, 0.9)),
        "answers": of.random() < 0.2,
        "singly": of.random() < 0.25,
    }


STARTS: tuple[tuple[str | float, ...], ...] = (
    ("trim_horizon", "trim_horizon", "latest"),
    ("trim_horizon", "latest", 10.0),
)


def _sharded(of: random.Random, plan: Plan) -> dict[str, Any]:
    return {
        "gaps": 0.0,
        "lowest": plan.partial,
        "keys": of.choice((1, 5, 20)),
        "batch_bytes": 10 * plan.batch_bytes,
        "wire": of.choice((0.0, 0.0, 0.05, 0.3)),
        "poll": of.choice((0.5, 1.0, 5.0)),
        "late": of.choice((0.0, 0.0, 0.0, 20.0)),
        "commit": of.choice((0.0, 0.2, 2.0, 8.0)),
        "daemons": of.choice((1, 1, 2)),
        "aggregated": of.random() < 0.4,
        "mute": of.random() < 0.25,
        "retention": of.choice((None,) * 5 + (3660.0,)),
    }


def _of_a_table(plan: Plan) -> Plan:
    """Some streams are those of a table, which can be read from their beginning or their end."""
    of = random.Random(f"a table of {plan.seed}")
    if plan.kind != "shards" or of.random() > 0.3:
        return plan
    return replace(plan, changes=True, aggregated=False, mute=False, start="trim_horizon")


def _windowed(plan: Plan) -> Plan:
    """With tumbling windows, in some worlds of logs."""
    of = random.Random(f"windows of {plan.seed}")
    if plan.kind not in LOGS or of.random() > WINDOWED:
        return plan
    tumbling, trouble, faults = of.choice(LENGTHS), plan.trouble, plan.faults
    if plan.faults or plan.trouble != Trouble():
        stateless, bulky = of.choice((0.0, 0.0, 0.1)), of.choice((0.0, 0.0, 0.0, 0.05))
        trouble = replace(trouble, stateless=stateless, bulky=bulky)
        ends = sorted(round(of.uniform(0.5, CALM_SECONDS - 30), 2) for _ in tumbling[1:])
        faults += tuple(
            Fault(at=at, kind="reload", where=where) for at in ends for where in range(plan.daemons)
        )
    return replace(
        plan,
        tumbling=tumbling,
        tardy=0.0 if plan.kind == "shards" else of.choice((0.0, 0.0, 0.2)),
        daemons=1 if plan.kind == "shards" else plan.daemons,
        strands=1,
        lowest=plan.partial,
        trouble=trouble,
        faults=tuple(sorted(faults, key=lambda one: one.at)),
    )


LOGS = frozenset({"stream", "shards"})
WINDOWED = 0.3
LENGTHS: tuple[tuple[float, ...], ...] = (
    *((3.0,), (10.0,), (10.0,), (45.0,)),
    *((10.0, 3.0), (3.0, 0.0), (20.0, 0.0, 5.0), (0.0, 10.0, 0.0)),
)


def _posted(of: random.Random, plan: Plan) -> dict[str, Any]:
    fifo = of.random() < 0.5
    return {
        "fifo": fifo,
        "gaps": 0.0,
        "daemons": of.choice((1, 1, 2)),
        "lowest": plan.partial and fifo,
        "batch": of.choice((1, 3, 10)),
        "batch_bytes": 10 * plan.batch_bytes,
        "wire": of.choice((0.0, 0.0, 0.05, 0.2)),
        "visibility": of.choice((10, 30)),
        "redrive": of.choice((None, None, 2, 4)),
        "twice": 0.0 if fifo else of.choice((0.0, 0.0, 0.05)),
        "wait": of.choice((5, 20)),
    }


def _reshaped(of: random.Random, plan: Plan) -> tuple[Fault, ...]:
    return tuple(
        Fault(
            at=round(of.uniform(0.5, max(plan.spread, 20.0)), 2),
            kind=of.choice(("split", "split", "merge")),
            count=of.randrange(40),
        )
        for _ in range(of.choice((0, 1, 2, 4)))
    )


def _trouble(of: random.Random, plan: Plan) -> Trouble:
    kinds = [one.name for one in fields(Trouble) if one.name not in IN_WINDOWS]
    chosen = of.sample(kinds, of.choice((0, 1, 2, 4)))
    rates = {kind: of.choice((0.03, 0.1, 0.3)) for kind in chosen}
    if plan.kind != "stream":
        rates.pop("damage", None)
    for kind in ("items", "garble"):
        if not plan.partial:
            rates.pop(kind, None)
        else:
            rates.setdefault(kind, of.choice((0.0, 0.05)))
    return Trouble(**rates)


IN_WINDOWS = frozenset({"stateless", "bulky"})


def _faults(of: random.Random, kind: str, daemons: int) -> tuple[Fault, ...]:
    kinds = OF_ALL + OF_KINDS[kind]
    found = [
        Fault(
            at=round(of.uniform(0.5, CALM_SECONDS - 30), 2),
            kind=of.choice(kinds),
            where=of.randrange(daemons),
            seconds=of.choice((0.5, 4.0, 12.0, 25.0)),
            count=of.randint(1, 40),
        )
        for _ in range(of.choice((0, 1, 2, 4, 7)))
    ]
    return tuple(found)


# -- smaller


def smaller(plan: Plan) -> Iterator[Plan]:
    """Plans that ask for a little less, the boldest first."""
    faults = plan.faults
    for size in (len(faults), len(faults) // 2, 1):
        for start in range(0, len(faults), max(size, 1)):
            if size:
                yield replace(plan, faults=faults[:start] + faults[start + size :])
    if plan.trouble != Trouble():
        yield replace(plan, trouble=Trouble())
    for one in fields(Trouble):
        if getattr(plan.trouble, one.name):
            yield replace(plan, trouble=replace(plan.trouble, **{one.name: 0.0}))
    # of others than plain streams all from the lowest on has failed, always
    fixed = {"lowest"} if plan.partial and (plan.kind != "stream" or plan.tumbling) else set()
    for name, values in _SIMPLER.items():
        for value in values:
            if name not in fixed and value != getattr(plan, name):
                yield replace(plan, **{name: value})
    for size in range(1, len(plan.tumbling)):
        yield replace(plan, tumbling=plan.tumbling[:size])
    for name in ("lanes", "records"):
        for less in (1, getattr(plan, name) // 2, getattr(plan, name) - 1):
            if 1 <= less < getattr(plan, name):
                yield replace(plan, **{name: less})


_SIMPLER: dict[str, tuple[Any, ...]] = {
    "daemons": (1,),
    "gaps": (0.0,),
    "poison": (0.0,),
    "large": (0.0,),
    "window": (0.0,),
    "spread": (0.0,),
    "keys": (1,),
    "commit": (0.0,),
    "backoff": (1.0,),
    "backoff_max": (2.0,),
    "grace": (5.0,),
    "batch_bytes": (6_000,),
    "bisect": (False,),
    "age": (None,),
    "lowest": (False,),
    "partial": (False,),
    "strands": (1,),
    "keyless": (0.0,),
    "unwanted": (0.0,),
    "answers": (False,),
    "singly": (False,),
    "wire": (0.0,),
    "poll": (1.0,),
    "late": (0.0,),
    "start": ("trim_horizon",),
    "aggregated": (False,),
    "changes": (False,),
    "mute": (False,),
    "retention": (None,),
    "tumbling": ((), (10.0,)),
    "tardy": (0.0,),
    "fifo": (False,),
    "visibility": (30,),
    "redrive": (None,),
    "twice": (0.0,),
    "wait": (20,),
}
"""Values that make a history easier to read."""


def _written(value: Any) -> str:
    """As a person would write it: only what is not as ever."""
    given = []
    for one in fields(value):
        here = getattr(value, one.name)
        if one.name == "faults":
            text = ", ".join(map(_written, here))
            here_text = f"({text},)" if here else "()"
        else:
            here_text = _written(here) if isinstance(here, Trouble) else repr(here)
        if here != one.default:
            given.append(f"{one.name}={here_text}")
    return f"{type(value).__name__}({', '.join(given)})"
