"""What must hold, what a run must have gone through, and how it is judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from proof.ledgers import Place

WHAT_MUST_HOLD = {
    "ledgers": "the ledgers are sound: no record twice, no time running backwards",
    "effect": "enough records were produced, and enough faults took effect",
    "I-01": "no loss: every record has succeeded, was set aside, or was not wanted",
    "I-02": "no invention: what ran is, byte for byte, what was produced",
    "I-03": "a commit never passes unfinished work",
    "I-04": "a commit never goes back",
    "I-05": "a crash runs again no more than its bound, and that once",
    "I-06": "without a crash nothing runs twice",
    "I-07": "a record has one ending",
    "I-08": "a commit never passes a batch that its destination does not have yet",
    "I-09": "a failure document tells exactly which records it is about",
    "I-10": "bisect finds the record that fails, alone, and in few steps",
    "I-12": "no more attempts than were asked for, and none at what is too old",
    "I-13": "a record too large for any event is set aside alone, and only such a one",
    "I-20": "within a partition, in order and one after the other",
    "I-21": "of one key, in order and one after the other",
    "I-23": "nothing of a shard runs before all of those that it came from has ended",
    "I-40": "each record is in the last state of one window, or it is told why it is not",
    "I-41": "the state that is handed on is the last one that was answered and is finished with",
    "I-42": "a record is in the window that it arrived in, and windows follow each other",
    "I-43": "a window has one last invocation: when it is over, or its state is too large",
    "I-60": "what a daemon says of itself is so",
    "I-30": "in the end nothing is left over",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a run must have gone through to prove anything. `replay_max` is how many records one
    crash of a kind may run again (no entry: any number); `cut` is how many executions must have
    been cut off in their midst; `filtered` are ids that the mapping does not want. `attempts_max` is
    how often a batch may fail (None: for ever), and `order` what is in order: a `lane`, a `key`, or
    nothing. `parents` are the lanes that a lane came from. `passed` are ids of records that need
    not run: their log had forgotten them, or the mapping began after them. `handed_out`: a queue
    counts what it hands out, which may be more than was run. `windows` are the lengths
    (milliseconds) that tumbling windows have had, 0 where there were none for a while; `shared`:
    several with disks of their own take turns; `forgets`: so does the log."""

    records: int = 1
    faults: Mapping[str, int] = field(default_factory=dict)
    cut: int = 0
    replay_max: Mapping[str, int] = field(default_factory=dict)
    filtered: frozenset[str] = frozenset()
    attempts_max: int | None = None
    order: str = "lane"
    age_max: float | None = None
    answered: bool = False
    kept: bool = False
    halved: bool = False
    bisected: bool = False
    poison: frozenset[str] | None = None
    parents: Mapping[Place, tuple[Place, ...]] = field(default_factory=dict)
    passed: frozenset[str] = frozenset()
    handed_out: bool = False
    windows: frozenset[int] = frozenset()
    shared: bool = False
    forgets: bool = False


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant, and the rows that break it."""

    invariant: str
    detail: str

    def __str__(self) -> str:
        return f"{self.invariant} ({WHAT_MUST_HOLD[self.invariant]}): {self.detail}"


@dataclass(frozen=True, slots=True)
class Report:
    """The judgement. Without violations the run proves what its counts say."""

    violations: tuple[Violation, ...]
    counts: Mapping[str, int]

    @property
    def broken(self) -> frozenset[str]:
        """The invariants that do not hold."""
        return frozenset(violation.invariant for violation in self.violations)
