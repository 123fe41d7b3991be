"""Judges a run by its five ledgers, and by nothing else."""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, groupby, pairwise
from math import inf

from proof.ledgers import CRASHES, Executed, Harmed, Ledgers, Place, Produced, SetAside

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
    "I-60": "what a daemon says of itself is so",
    "I-30": "in the end nothing is left over",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a run must have gone through to prove anything. `replay_max` is how many records one
    crash of a kind may run again (no entry: any number); `cut` is how many executions must have
    been cut off in their midst; `filtered` are ids that the mapping does not want. `attempts_max` is
    how often a batch may fail (None: for ever), and `order` what is in order: a `lane`, a `key`, or
    nothing."""

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
    bisected: bool = False
    poison: frozenset[str] | None = None


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


def check(ledgers: Ledgers, wanted: Wanted) -> Report:
    """Every violation of every invariant, and what there was of each thing."""
    lanes = _lanes(ledgers, wanted)
    crashes = _Crashes(ledgers.harmed)
    handovers = _Handovers(ledgers)
    replays = _replays(lanes.values(), crashes, handovers)
    violations = (
        *_soundness(ledgers),
        *_effect(ledgers, wanted),
        *_loss(lanes.values()),
        *_invention(ledgers, lanes),
        *_early_commits(ledgers, lanes),
        *_commits_back(ledgers),
        *_replayed(replays, wanted),
        *_endings(lanes.values(), crashes, handovers),
        *_run_after_all(lanes.values(), wanted),
        *_documents((*ledgers.set_aside, *ledgers.answered), lanes),
        *_bisected(lanes.values(), wanted),
        *_attempts(ledgers, lanes, wanted),
        *_too_old(ledgers, lanes, wanted),
        *_too_large(lanes.values()),
        *_order(lanes.values(), crashes, wanted.order),
        *_left_over(ledgers, lanes.values()),
        *_counted(ledgers, lanes.values(), wanted),
    )
    return Report(violations, _counts(ledgers, lanes.values(), replays))


class _Lane:
    """One partition: its records by offset, and what became of each. Lists run in parallel."""

    def __init__(self, place: Place, rows: list[Produced], wanted: Wanted) -> None:
        rows = sorted(rows, key=lambda row: row.offset)
        self.name = f"{place[0]}-{place[1]}"
        self.offsets = [row.offset for row in rows]
        self.prints = [bytes.fromhex(row.fingerprint) for row in rows]
        self.keys = [row.key for row in rows]
        self.large = [row.large for row in rows]
        self.filtered = [row.id in wanted.filtered for row in rows]
        self.ids = [row.id for row in rows]
        self.times = [row.at for row in rows]
        self.executed: list[Executed] = []
        self.succeeded = [inf] * len(rows)  # when it first did
        self.successes: list[list[Executed]] = [[] for _ in rows]
        self.documents: list[list[SetAside]] = [[] for _ in rows]
        self.answered: list[list[SetAside]] | None = [[] for _ in rows] if wanted.answered else None
        self.tried = [-inf] * len(rows)  # when the last attempt without success was over

    def between(self, first: int, last: int) -> range:
        """The indexes of the records at these offsets, both included."""
        return range(bisect_left(self.offsets, first), bisect_right(self.offsets, last))

    def about(self, document: SetAside) -> Iterator[int]:
        """The records that a document tells of: those in it, or all in its range."""
        if document.fingerprints is None:
            yield from self.between(document.first, document.last)
        for offset, _ in document.fingerprints or ():
            yield from self.between(offset, offset)

    def of(self, execution: Executed) -> Iterator[int]:
        for first, last in execution.stretches:
            yield from self.between(first, last)

    def finished(self, index: int) -> float:
        """From when on a commit may pass the record."""
        if self.filtered[index]:
            return -inf
        given_up = min((document.at for document in self.documents[index]), default=inf)
        told = self.succeeded[index]
        if self.answered is not None:
            told = max(told, min((each.at for each in self.answered[index]), default=inf))
        return min(told, given_up)

    def done_by(self, index: int, owner: str, at: float) -> bool:
        """Whether that owner (one whom nobody knows: none) had done with the record by then."""
        mine = [e.end for e in self.successes[index] if owner and e.owner == owner]
        return self.filtered[index] or any(end is not None and end <= at for end in mine)

    def left(self, index: int) -> float:
        """From when on a later record may begin. A document is seen a little after it was written;
        the last attempt at its records was over before. A record that is lost holds nobody up."""
        given_up = self.tried[index] if self.documents[index] else inf
        left = min(self.succeeded[index], given_up)
        return -inf if left == inf or self.filtered[index] else left


def _lanes(ledgers: Ledgers, wanted: Wanted) -> dict[Place, _Lane]:
    rows: dict[Place, list[Produced]] = defaultdict(list)
    for row in ledgers.produced:
        rows[row.topic, row.partition].append(row)
    lanes = {place: _Lane(place, found, wanted) for place, found in rows.items()}
    for document in ledgers.set_aside:
        if lane := lanes.get(document.place):
            for index in lane.about(document):
                lane.documents[index].append(document)
    for document in ledgers.answered:
        lane = lanes.get(document.place)
        if lane is not None and lane.answered is not None:
            for index in lane.about(document):
                lane.answered[index].append(document)
    for execution in ledgers.executed:
        if lane := lanes.get(execution.place):
            _enter(lane, execution)
    return lanes


def _enter(lane: _Lane, execution: Executed) -> None:
    lane.executed.append(execution)
    over = execution.start if execution.end is None else execution.end
    for index in lane.of(execution):
        if execution.did(lane.offsets[index]):
            lane.successes[index].append(execution)
            lane.succeeded[index] = min(lane.succeeded[index], over)
        elif all(execution.start <= document.at for document in lane.documents[index]):
            lane.tried[index] = max(lane.tried[index], over)


class _Crashes:
    """The crashes of a run, by time."""

    def __init__(self, harmed: Iterable[Harmed]) -> None:
        effective = [h for h in harmed if h.kind in CRASHES and h.end is not None]
        self._rows = sorted(effective, key=lambda h: h.start)
        self._starts = [h.start for h in self._rows]

    def between(
        self, since: float, until: float, one: Executed | None = None, two: Executed | None = None
    ) -> Harmed | None:
        """The crash that is the reason why what happened at `since` happened again at `until`: it
        began before the one and was not over at the other. That of the very worker first; that of
        some worker only where no larger part had crashed, since it excuses less."""
        best: tuple[int, Harmed | None] = 0, None
        for index in range(bisect_right(self._starts, until) - 1, -1, -1):
            harmed = self._rows[index]
            if harmed.start < since - _CRASH_SECONDS_MAX:
                break
            if harmed.end is not None and harmed.end >= since:
                best = max(best, (_reason(harmed, until, one, two), harmed), key=lambda b: b[0])
        return best[1]

    def parted(self, one: Executed, two: Executed) -> bool:
        """Whether the two were asked for by different owners, one of whom had been put out."""
        crash = self.between(one.start, two.start, one, two) if one.owner != two.owner else None
        return crash is not None and crash.kind in {"seat-lost", "daemon-kill"}


def _reason(harmed: Harmed, until: float, one: Executed | None, two: Executed | None) -> int:
    """How good a reason a crash is, as far as is known whom it hit; 0: none."""
    if harmed.execution:
        return 5 if one is not None and one.execution == harmed.execution else 0
    if harmed.kind == "worker-kill":
        return 1
    if harmed.kind not in {"seat-lost", "daemon-kill"} or one is None or two is None:
        return 3
    if not one.owner or _is(harmed.component, one):
        return 4
    return 2 if _is(harmed.component, two) and harmed.start < until else 0


def _is(component: str, execution: Executed) -> bool:
    return f"{execution.owner}/".startswith(f"{component}/")


_CRASH_SECONDS_MAX = 60.0


def _soundness(ledgers: Ledgers) -> Iterator[Violation]:
    for row, times in Counter((p.topic, p.partition, p.offset) for p in ledgers.produced).items():
        if times > 1:
            yield Violation("ledgers", f"P has {times} records at {row}")
    for id_, times in Counter(p.id for p in ledgers.produced).items():
        if times > 1:
            yield Violation("ledgers", f"P has {times} records of the id {id_}")
    for e in ledgers.executed:
        if e.end is not None and e.end < e.start:
            yield Violation("ledgers", f"X has an execution that ends before it starts: {e}")


def _effect(ledgers: Ledgers, wanted: Wanted) -> Iterator[Violation]:
    if len(ledgers.produced) < wanted.records:
        yield Violation("effect", f"{len(ledgers.produced)} records of {wanted.records}")
    effective = Counter(h.kind for h in ledgers.harmed if h.end is not None)
    for kind, count in wanted.faults.items():
        if effective[kind] < count:
            yield Violation("effect", f"{effective[kind]} times {kind}, of {count}")
    cut = sum(e.end is None for e in ledgers.executed)
    if cut < wanted.cut:
        yield Violation("effect", f"{cut} executions were cut off, of {wanted.cut}")


def _loss(lanes: Iterable[_Lane]) -> Iterator[Violation]:
    for lane in lanes:
        lost = [i for i in range(len(lane.offsets)) if lane.finished(i) == inf]
        for first, last in _stretches(lost):
            offsets = f"{lane.offsets[first]}..{lane.offsets[last]}"
            yield Violation("I-01", f"{last - first + 1} lost: {lane.name} {offsets}")


def _stretches(indexes: Iterable[int]) -> Iterator[tuple[int, int]]:
    for _, group in groupby(enumerate(indexes), key=lambda pair: pair[1] - pair[0]):
        found = [index for _, index in group]
        yield found[0], found[-1]


def _invention(ledgers: Ledgers, lanes: Mapping[Place, _Lane]) -> Iterator[Violation]:
    for e in ledgers.executed:
        lane = lanes.get(e.place)
        indexes = [] if lane is None else list(lane.of(e))
        size = sum(last - first + 1 for first, last in e.stretches)
        if lane is None or len(indexes) != size or indexes != sorted(set(indexes)):
            yield Violation("I-02", f"not what was produced: {e}")
        elif _digest(lane.prints[i] for i in indexes) != e.digest:
            yield Violation("I-02", f"other bytes than were produced: {e}")
        elif any(lane.filtered[index] for index in indexes):
            yield Violation("I-02", f"nobody wanted all of it: {e}")
    for d in (*ledgers.set_aside, *ledgers.answered):
        lane = lanes.get(d.place)
        for offset, fingerprint in d.fingerprints or ():
            at = lane.between(offset, offset) if lane else range(0)
            if lane is None or not at or lane.prints[at[0]].hex() != fingerprint:
                yield Violation("I-02", f"set aside as never produced: {d.place} {offset}")


def _digest(prints: Iterable[bytes]) -> str:
    return hashlib.sha256(b"".join(prints)).hexdigest()


def _early_commits(ledgers: Ledgers, lanes: Mapping[Place, _Lane]) -> Iterator[Violation]:
    finished = {
        place: [lane.finished(i) for i in range(len(lane.offsets))] for place, lane in lanes.items()
    }
    latest = {place: list(accumulate(times, max)) for place, times in finished.items()}
    for c in _first_samples(ledgers):
        lane = lanes.get(c.place)
        if lane is None:
            continue
        passed = bisect_left(lane.offsets, c.offset)
        if passed and latest[c.place][passed - 1] > c.at:
            index = next(i for i in range(passed) if finished[c.place][i] > c.at)
            waits = bool(lane.documents[index]) and lane.succeeded[index] == inf
            detail = f"{lane.name} committed at {c.offset}, with {lane.offsets[index]} unfinished"
            yield Violation("I-08" if waits else "I-03", f"{detail}, at {c.at:.6f}")

    for a in ledgers.acknowledged:
        if lane := lanes.get(a.place):
            for index in lane.between(a.first, a.last):
                if finished[a.place][index] > a.at:
                    waits = bool(lane.documents[index]) and lane.succeeded[index] == inf
                    detail = (
                        f"{lane.name} {lane.offsets[index]} was taken off unfinished, at {a.at}"
                    )
                    yield Violation("I-08" if waits else "I-03", detail)


def _first_samples(ledgers: Ledgers) -> Iterator:
    """The first sample of each commit: the later ones of the same offset say less."""
    seen = set()
    for c in sorted(ledgers.committed, key=lambda c: c.at):
        if (c.group, c.place, c.offset) not in seen:
            seen.add((c.group, c.place, c.offset))
            yield c


def _commits_back(ledgers: Ledgers) -> Iterator[Violation]:
    resets = [h.start for h in ledgers.harmed if h.kind == "reset"]
    by_lane = defaultdict(list)
    for c in sorted(ledgers.committed, key=lambda c: c.at):
        by_lane[c.group, c.place].append(c)
    for samples in by_lane.values():
        for before, after in pairwise(samples):
            reset = any(before.at <= at <= after.at for at in resets)
            if after.offset < before.offset and not reset:
                yield Violation("I-04", f"from {before} back to {after}")


@dataclass(frozen=True, slots=True)
class _Replay:
    """A record that succeeded twice, and the crash between, if there was one."""

    where: str
    crash: Harmed | None


class _Handovers:
    """When each lane was given to somebody anew, and where that one began."""

    def __init__(self, ledgers: Ledgers) -> None:
        self._commits: dict[str, list[tuple[float, int]]] = defaultdict(list)
        self._times: dict[str, list[float]] = defaultdict(list)
        for c in sorted(ledgers.committed, key=lambda c: c.at):
            self._commits[f"{c.topic}-{c.partition}"].append((c.at, c.offset))
        for row in ledgers.harmed:
            if row.kind == "handover":
                self._times[row.component].append(row.start)

    def overtook(self, lane: _Lane, index: int, since: float, until: float, owner: str) -> bool:
        """Whether the lane changed hands while a lower record, that its owner had not done, held
        the checkpoint back: a log cannot remember that a later one was done before it."""
        for at in self._times.get(lane.name, ()):
            if since < at <= until:
                commits = self._commits[lane.name]
                place = bisect_right(commits, (at, inf)) - 1
                first = bisect_left(lane.offsets, commits[place][1] if place >= 0 else 0)
                if any(not lane.done_by(lower, owner, at) for lower in range(first, index)):
                    return True
        return False


def _replays(lanes: Iterable[_Lane], crashes: _Crashes, handovers: _Handovers) -> list[_Replay]:
    return [
        _Replay(f"{lane.name} {lane.offsets[index]}", crash)
        for lane in lanes
        for index, successes in enumerate(lane.successes)
        if len(successes) > 1
        for one, two in pairwise(sorted(successes, key=lambda e: e.start))
        if (crash := crashes.between(one.start, two.start, one, two)) is not None
        or not handovers.overtook(lane, index, one.start, two.start, one.owner)
    ]


def _replayed(replays: Iterable[_Replay], wanted: Wanted) -> Iterator[Violation]:
    by_crash: dict[Harmed, Counter[str]] = defaultdict(Counter)
    for replay in replays:
        if replay.crash is None:
            yield Violation("I-06", f"{replay.where} succeeded twice, and nothing had crashed")
        else:
            by_crash[replay.crash][replay.where] += 1
    for crash, records in by_crash.items():
        for where, times in records.items():
            if times > 1:
                yield Violation("I-05", f"{where} ran {times + 1} times by one crash: {crash}")
        if len(records) > wanted.replay_max.get(crash.kind, inf):
            bound = wanted.replay_max[crash.kind]
            yield Violation("I-05", f"{len(records)} ran again, of at most {bound}, by {crash}")


def _endings(
    lanes: Iterable[_Lane], crashes: _Crashes, handovers: _Handovers
) -> Iterator[Violation]:
    for lane in lanes:
        for index, documents in enumerate(lane.documents):
            answers = lane.answered[index] if lane.answered is not None else []
            failed: list[tuple[float, Executed | None]] = [(d.at, None) for d in documents]
            told: list[tuple[float, Executed | None]] = [(d.at, None) for d in answers]
            ran: list[tuple[float, Executed | None]] = [(e.start, e) for e in lane.successes[index]]
            twice = failed + ran if failed else []
            for ends in (twice, failed + told):
                for (one, first), (two, second) in pairwise(sorted(ends, key=lambda end: end[0])):
                    owner = "" if first is None else first.owner
                    if crashes.between(one, two, first, second) is None and not handovers.overtook(
                        lane, index, one, two, owner
                    ):
                        where = f"{lane.name} {lane.offsets[index]}"
                        yield Violation("I-07", f"{where} ended at {one:.6f}, again at {two:.6f}")


def _run_after_all(lanes: Iterable[_Lane], wanted: Wanted) -> Iterator[Violation]:
    """What was set aside is known to be, though nobody may have heard that it arrived."""
    for lane in lanes if wanted.kept else ():
        for e in lane.executed:
            for index in lane.of(e):
                if any(d.at < e.start for d in lane.documents[index]):
                    where = f"{lane.name} {lane.offsets[index]}"
                    yield Violation("I-07", f"{where} ran after it had been set aside: {e}")


def _documents(set_aside: Iterable[SetAside], lanes: Mapping[Place, _Lane]) -> Iterator[Violation]:
    for d in set_aside:
        lane = lanes.get(d.place)
        offsets = [lane.offsets[i] for i in lane.about(d)] if lane else []
        told = offsets[:1] + offsets[-1:] == [d.first, d.last] and len(offsets) == d.size
        if not told or (d.fingerprints is not None and len(d.fingerprints) != d.size):
            yield Violation("I-09", f"the document {d.id}: {d.place} {d.first}..{d.last}, {d.size}")


def _bisected(lanes: Iterable[_Lane], wanted: Wanted) -> Iterator[Violation]:
    for lane in lanes:
        for index, documents in enumerate(lane.documents):
            for d in documents:
                if d.condition != EXHAUSTED or not wanted.bisected:
                    continue
                if d.size > 1:
                    yield Violation("I-10", f"{d.size} records are given up together: {d}")
                elif wanted.poison is not None and lane.ids[index] not in wanted.poison:
                    yield Violation("I-10", f"given up, and it cannot fail: {d}")
        if wanted.poison is not None and wanted.bisected and wanted.attempts_max is not None:
            yield from _steps(lane, wanted.poison, wanted.attempts_max)


def _steps(lane: _Lane, poison: frozenset[str], attempts_max: int) -> Iterator[Violation]:
    """One record that fails, in a batch of n, is found in as many steps as halving takes."""
    whole: list[tuple[int, int, int]] = []  # first and last index, and executions
    for e in sorted(lane.executed, key=lambda e: e.start):
        indexes = sorted(lane.of(e))
        if whole and indexes and indexes[-1] <= whole[-1][1]:
            first, last, count = whole.pop()
            whole.append((first, last, count + 1))
        elif indexes:
            whole.append((indexes[0], indexes[-1], 1))
    for first, last, count in whole:
        size = last - first + 1
        bad = sum(lane.ids[index] in poison for index in range(first, last + 1))
        if bad == 1 and count > 2 * (size - 1).bit_length() + 1 + attempts_max:
            where = f"{lane.name} {lane.offsets[first]}..{lane.offsets[last]}"
            yield Violation("I-10", f"{count} executions for one of {size}: {where}")


def _attempts(
    ledgers: Ledgers, lanes: Mapping[Place, _Lane], wanted: Wanted
) -> Iterator[Violation]:
    most = wanted.attempts_max
    begun = Counter(
        (e.place, lane.offsets[index])
        for e in ledgers.executed
        if e.outcome and (lane := lanes.get(e.place))
        for index in lane.of(e)
    )
    for d in ledgers.set_aside:
        if d.condition == EXHAUSTED and begun[d.place, d.first] < d.invokes:
            yield Violation("I-09", f"{d.invokes} invocations, of {begun[d.place, d.first]}: {d}")
        splits = (BATCH_MAX if wanted.bisected else 1) - 1
        told = most is None or most <= d.invokes <= most + splits.bit_length()
        if d.condition == EXHAUSTED and not told:
            yield Violation("I-12", f"given up after {d.invokes} attempts, of {most}: {d}")
    if most is None:
        return
    if wanted.bisected:  # the whole of it, and then halves that begin at the same record
        most += 1 + (BATCH_MAX - 1).bit_length()
    failed = Counter(
        (e.owner, e.place, e.stretches[0][0]) for e in ledgers.executed if _counts_as_failed(e)
    )
    for (owner, place, first), times in failed.items():
        if owner and times > most:
            yield Violation("I-12", f"{place} {first} failed {times} times, of {most}, by {owner}")


def _counts_as_failed(e: Executed) -> bool:
    partly = e.outcome == "partial" and e.stretches[0][0] in e.failed
    return e.outcome in FAILURES or partly


def _too_old(ledgers: Ledgers, lanes: Mapping[Place, _Lane], wanted: Wanted) -> Iterator[Violation]:
    age_max = wanted.age_max
    for e in ledgers.executed if age_max is not None else ():
        if lane := lanes.get(e.place):
            for index in lane.of(e):
                if e.wall - lane.times[index] > age_max + 0.001:
                    yield Violation("I-12", f"too old by then: {lane.offsets[index]} of {e}")
    for d in ledgers.set_aside:
        if d.condition == TOO_OLD and age_max is None:
            yield Violation("I-12", f"nothing is too old: {d}")


EXHAUSTED, TOO_LARGE = "RetryAttemptsExhausted", "MaximumPayloadSizeExceeded"
TOO_OLD = "RecordAgeExceeded"
BATCH_MAX = 10_000
FAILURES = frozenset({"failure", "crash", "timeout", "init", "garbage"})
"""Outcomes that use up an attempt."""


def _too_large(lanes: Iterable[_Lane]) -> Iterator[Violation]:
    for lane in lanes:
        for index, documents in enumerate(lane.documents):
            for d in documents:
                large = lane.large[index]
                said = d.condition == TOO_LARGE
                if (said and (not large or d.size > 1)) or (
                    large and not said and d.size == 1 and d.condition != TOO_OLD
                ):
                    yield Violation("I-13", f"{lane.name} {lane.offsets[index]}: {d}")


def _order(lanes: Iterable[_Lane], crashes: _Crashes, order: str) -> Iterator[Violation]:
    for lane in lanes:
        if order == "lane":
            yield from _in_order(lane, range(len(lane.offsets)), "I-20", crashes)
        elif order == "key":
            for indexes in _by_key(lane):
                yield from _in_order(lane, indexes, "I-21", crashes)


def _by_key(lane: _Lane) -> Iterable[Sequence[int]]:
    found: dict[str | None, list[int]] = defaultdict(list)
    for index, key in enumerate(lane.keys):
        found[key].append(index)
    return found.values()


def _in_order(
    lane: _Lane, indexes: Sequence[int], invariant: str, crashes: _Crashes
) -> Iterator[Violation]:
    """Whether those records ran in their order, and one execution after the other."""
    offsets = [lane.offsets[index] for index in indexes]
    latest = list(accumulate((lane.left(index) for index in indexes), max))
    before: Executed | None = None
    busy_until = -inf
    for e in sorted(lane.executed, key=lambda e: e.start):
        below = min(
            (
                bisect_left(offsets, first)
                for first, last in e.stretches
                if _any(offsets, first, last)
            ),
            default=None,
        )
        if below is None:
            continue
        # a member that does not know yet that it was put out goes on for a while
        if e.start < busy_until and not (before and crashes.parted(before, e)):
            yield Violation(invariant, f"{lane.name}: two at once, from {e.start:.6f}: {e}")
        over = e.start if e.end is None else e.end
        if over >= busy_until:
            before, busy_until = e, over
        if below and latest[below - 1] > e.start:
            yield Violation(invariant, f"{lane.name}: began before a lower one had ended: {e}")


def _any(offsets: Sequence[int], first: int, last: int) -> bool:
    index = bisect_left(offsets, first)
    return index < len(offsets) and offsets[index] <= last


def _left_over(ledgers: Ledgers, lanes: Iterable[_Lane]) -> Iterator[Violation]:
    last: dict[str, int] = {}
    for c in sorted(ledgers.committed, key=lambda c: c.at):
        last[f"{c.topic}-{c.partition}"] = c.offset
    taken_off: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for a in ledgers.acknowledged:
        taken_off[f"{a.topic}-{a.partition}"].append((a.first, a.last))
    for lane in lanes:
        if lane.name in taken_off:
            done = {i for first, last in taken_off[lane.name] for i in lane.between(first, last)}
            if len(done) < len(lane.offsets):
                yield Violation("I-30", f"{lane.name}: {len(done)} off, of {len(lane.offsets)}")
            continue
        end = lane.offsets[-1] + 1
        if last.get(lane.name, -1) < end:
            yield Violation("I-30", f"{lane.name} is committed at {last.get(lane.name)} of {end}")


def _counted(ledgers: Ledgers, lanes: Iterable[_Lane], wanted: Wanted) -> Iterator[Violation]:
    unheard = {h.execution for h in ledgers.harmed if h.execution}
    done = Counter[str]()
    for lane in lanes:
        for e in lane.executed:
            if e.execution not in unheard:
                done[e.worker] += sum(e.did(lane.offsets[index]) for index in lane.of(e))
    for s in ledgers.scraped:
        gone = s.records + s.filtered + s.set_aside + s.given_back
        sound = 0 <= s.held <= s.received - gone and s.expired <= s.set_aside
        if not (s.handed <= s.received <= s.handed + s.again and sound):
            yield Violation("I-60", f"it does not add up: {s}")
        elif s.final and gone != s.received:
            yield Violation("I-60", f"{s.received - gone} have come to no end: {s}")
        elif s.final and not wanted.answered and s.records != done[s.owner]:
            yield Violation("I-60", f"{done[s.owner]} records were done: {s}")
    aside = sum(bool(documents) for lane in lanes for documents in lane.documents)
    told = sum(s.set_aside for s in ledgers.scraped if s.final)
    if ledgers.scraped and not any(h.kind in CRASHES for h in ledgers.harmed) and told < aside:
        yield Violation("I-60", f"{aside} records are set aside, and it is said of {told}")


def _counts(ledgers: Ledgers, lanes: Iterable[_Lane], replays: Iterable[_Replay]) -> dict[str, int]:
    outcomes = Counter(e.outcome or "cut off" for e in ledgers.executed)
    harmed = Counter(h.kind for h in ledgers.harmed if h.end is not None)
    again = Counter((r.crash.kind, r.crash.start) for r in replays if r.crash)
    most = Counter[str]()
    for (kind, _), records in again.items():
        most[kind] = max(most[kind], records)
    set_aside = sum(bool(documents) for lane in lanes for documents in lane.documents)
    return {
        "records produced": len(ledgers.produced),
        "records run again": sum(again.values()),
        "records set aside": set_aside,
        "executions": len(ledgers.executed),
        **{f"executions: {outcome}": count for outcome, count in sorted(outcomes.items())},
        "commits sampled": len(ledgers.committed) + len(ledgers.acknowledged),
        "documents": len(ledgers.set_aside),
        **{f"faults: {kind}": count for kind, count in sorted(harmed.items())},
        **{f"most run again by one {kind}": count for kind, count in sorted(most.items())},
    }
