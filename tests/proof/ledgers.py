"""The five ledgers of a run: what was produced, executed, committed, set aside, and harmed.

Each is a file of JSON lines, written while the run goes on, by somebody who knows nothing of the
others. Times are seconds of the machine's monotonic clock, the same in every process.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from proof.recorder.handler import record_print

Place = tuple[str, int]
"""A topic and a partition: the lane of a record."""


class Produced(NamedTuple):
    """P: a record that the broker has acknowledged. `fingerprint` covers all that it carries, `at`
    is its own timestamp in epoch seconds, and `large` says that no event has room for it."""

    id: str
    topic: str
    partition: int
    offset: int
    fingerprint: str
    key: str | None = None
    at: float = 0.0
    large: bool = False


@dataclass(frozen=True, slots=True)
class Pane:
    """What an execution is told of the tumbling window that it is in (epoch milliseconds): which
    offsets are in the state that it is given, how large that is, and the execution whose answer it
    was (nobody's: it begins anew); whether it is the last, and that before the window's time."""

    start_ms: int
    end_ms: int
    seen: tuple[int, ...]
    after: str
    size: int
    final: bool
    early: bool

    @property
    def window(self) -> tuple[int, int]:
        return self.start_ms, self.end_ms


@dataclass(frozen=True, slots=True)
class Executed:
    """X: one run of the function over the records of one invocation, in the order given. `end`
    and `outcome` are None where the process was ended before the function was. `owner` is whoever
    asked for it, in one life of the lane; `wall` is what the wall clock showed at its start.
    `failed` are the offsets that a function with a `partial` outcome has not done."""

    execution: str
    invocation: str
    worker: str
    topic: str
    partition: int
    stretches: tuple[tuple[int, int], ...]
    digest: str
    start: float
    end: float | None = None
    outcome: str | None = None
    owner: str = ""
    wall: float = 0.0
    failed: tuple[int, ...] = ()
    pane: Pane | None = None

    @property
    def place(self) -> Place:
        return self.topic, self.partition

    @property
    def succeeded(self) -> bool:
        return self.outcome == "success"

    def did(self, offset: int) -> bool:
        """Whether the function was done with a record of it."""
        return self.succeeded or (self.outcome == "partial" and offset not in self.failed)


@dataclass(frozen=True, slots=True)
class Committed:
    """C: what the broker said at `at`: everything before `offset` is finished with."""

    at: float
    group: str
    topic: str
    partition: int
    offset: int

    @property
    def place(self) -> Place:
        return self.topic, self.partition


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """C, of a queue: what it was told at `at`: these positions are finished with."""

    at: float
    topic: str
    partition: int
    first: int
    last: int

    @property
    def place(self) -> Place:
        return self.topic, self.partition


@dataclass(frozen=True, slots=True)
class SetAside:
    """D: a document of the failure destination, seen at `at`. `fingerprints` are those of the
    records in its payload, by offset, None where it carries none."""

    at: float
    id: str
    topic: str
    partition: int
    first: int
    last: int
    size: int
    condition: str
    fingerprints: tuple[tuple[int, str], ...] | None
    invokes: int = 0

    @property
    def place(self) -> Place:
        return self.topic, self.partition


@dataclass(frozen=True, slots=True)
class Parting:
    """D, of a window: a document about its last invocation, which `seen` was in the state of."""

    at: float
    topic: str
    partition: int
    window: tuple[int, int]
    seen: tuple[int, ...]
    condition: str

    @property
    def place(self) -> Place:
        return self.topic, self.partition


@dataclass(frozen=True, slots=True)
class Forgone:
    """What a daemon has said: that the state of a window is lost, and why."""

    at: float
    worker: str
    topic: str
    partition: int
    start_ms: int
    reason: str

    @property
    def place(self) -> Place:
        return self.topic, self.partition


@dataclass(frozen=True, slots=True)
class LeftOpen:
    """A window that is open in the end on a machine that does not read its lane any more."""

    topic: str
    partition: int
    seen: tuple[int, ...]

    @property
    def place(self) -> Place:
        return self.topic, self.partition


@dataclass(frozen=True, slots=True)
class Scraped:
    """S: what a daemon said of itself at `at`, since it began. `handed` is how much its source had
    handed to it by then, `again` how much of it once more, since it was damaged; `held` waits or is
    in flight; `final`: it has stopped."""

    at: float
    owner: str
    handed: int
    again: int
    received: int
    records: int
    filtered: int
    set_aside: int
    expired: int
    given_back: int
    held: int
    final: bool = False


@dataclass(frozen=True, slots=True)
class Harmed:
    """K: something done to a component. `end` is when it had taken effect, None: it never did.
    `execution` is the one that it hit, where that is known."""

    kind: str
    component: str
    start: float
    end: float | None
    execution: str = ""


CRASHES = frozenset({"worker-kill", "daemon-kill", "broker-kill", "seat-lost", "ack-lost"})
"""Faults after which records may run again: a part was killed, the group put a member out, or an
answer did not come through. A clean stop (`daemon-stop`) is none."""


@dataclass(frozen=True, slots=True)
class Ledgers:
    """All of them, of one run. A queue has acknowledgements in the place of commits; `answered` is
    what a success destination has. `finals` are X too: the last invocations in windows, which have
    no records."""

    produced: tuple[Produced, ...]
    executed: tuple[Executed, ...]
    committed: tuple[Committed, ...]
    set_aside: tuple[SetAside, ...] = ()
    harmed: tuple[Harmed, ...] = ()
    acknowledged: tuple[Acknowledged, ...] = ()
    answered: tuple[SetAside, ...] = ()
    scraped: tuple[Scraped, ...] = ()
    finals: tuple[Executed, ...] = ()
    partings: tuple[Parting, ...] = ()
    forgone: tuple[Forgone, ...] = ()
    left_open: tuple[LeftOpen, ...] = ()


class Writer:
    """Appends rows to one ledger: a line at a time to the system, unless it may be `buffered`."""

    def __init__(self, path: Path, *, buffered: bool = False) -> None:
        self._file = path.open("a", encoding="utf-8", buffering=-1 if buffered else 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, row: Produced | Committed | Harmed | dict[str, Any]) -> None:
        if isinstance(row, Produced):  # there are a million: what is as ever is left out
            row = {k: v for k, v in row._asdict().items() if v != row._field_defaults.get(k, "")}
        self._file.write(json.dumps(row if isinstance(row, dict) else asdict(row)) + "\n")


def paths(folder: Path) -> dict[str, Path]:
    """Where each ledger of a run lies."""
    names = ("produced", "executed", "committed", "set_aside", "harmed")
    return {name: folder / f"{name}.jsonl" for name in names}


def read(folder: Path, executed: Path | None = None) -> Ledgers:
    """All five, from the files of a run; X may lie elsewhere, where the function could write."""
    where = paths(folder)
    return Ledgers(
        produced=tuple(Produced(**row) for row in _rows(where["produced"])),
        executed=read_executed(executed or where["executed"]),
        committed=tuple(Committed(**row) for row in _rows(where["committed"])),
        set_aside=tuple(set_aside(r["at"], r["document"]) for r in _rows(where["set_aside"])),
        harmed=tuple(Harmed(**row) for row in _rows(where["harmed"])),
    )


def read_executed(path: Path) -> tuple[Executed, ...]:
    """The beginnings, each with its end where it has one, in the order of their beginning."""
    begun: dict[str, dict[str, Any]] = {}
    for row in _rows(path):
        if "start" in row:
            row["stretches"] = tuple((first, last) for first, last in row["stretches"])
            begun[row["execution"]] = row
        else:
            begun[row["execution"]].update(row)
    return tuple(Executed(**row) for row in begun.values())


def set_aside(at: float, document: dict[str, Any]) -> SetAside:
    """A document of Lambda's on-failure form (or of the success form), as a row of D."""
    info, payload = document["KafkaBatchInfo"], document.get("payload")
    payload = document.get("requestPayload") if payload is None else payload
    if alone := info.get("recordInfo"):  # a letter for each record
        (lane,) = payload["records"]
        first = last = int(alone["offset"])
    else:
        ((lane, positions),) = info["recordsInfo"].items()
        first, last = (int(positions[f"{end}RecordOffset"]) for end in ("first", "last"))
    topic, _, partition = lane.rpartition("-")
    prints = None
    if payload is not None:
        records = payload["records"][lane]
        prints = tuple((record["offset"], record_print(record).hex()) for record in records)
    return SetAside(
        at=at,
        id=document["streamfaas"]["id"],
        topic=topic,
        partition=int(partition),
        first=first,
        last=last,
        size=info["batchSize"],
        condition=document["requestContext"]["condition"],
        fingerprints=prints,
        invokes=document["requestContext"].get("approximateInvokeCount", 0),
    )


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """Every whole line. A last one without its end was being written when its writer was killed."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield json.loads(line)
