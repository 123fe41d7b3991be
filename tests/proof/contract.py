"""Whether the contract of a batch was kept: splits, attempts, ages, sizes, and true counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from proof.judgement import Violation, Wanted
from proof.lanes import Lane
from proof.ledgers import CRASHES, Executed, Ledgers, Place


def bisected(lanes: Iterable[Lane], wanted: Wanted) -> Iterator[Violation]:
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


def _steps(lane: Lane, poison: frozenset[str], attempts_max: int) -> Iterator[Violation]:
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


def attempts(ledgers: Ledgers, lanes: Mapping[Place, Lane], wanted: Wanted) -> Iterator[Violation]:
    most = wanted.attempts_max
    begun = Counter(
        (e.place, lane.offsets[index])
        for e in ledgers.executed
        if (lane := lanes.get(e.place))
        for index in lane.of(e)
    )
    unseen = _Unseen(ledgers)
    for d in sorted(ledgers.set_aside, key=lambda d: d.at):
        missing = d.invokes - begun[d.place, d.first]
        if wanted.handed_out:
            continue
        if d.condition == EXHAUSTED and missing > 0 and not unseen.took(missing, d.at):
            yield Violation("I-09", f"{d.invokes} invocations, of {begun[d.place, d.first]}: {d}")
        splits = (BATCH_MAX if wanted.halved else 1) - 1
        told = most is None or most <= d.invokes <= most + splits.bit_length()
        if d.condition == EXHAUSTED and not told:
            yield Violation("I-12", f"given up after {d.invokes} attempts, of {most}: {d}")
    if most is None:
        return
    if wanted.halved:  # the whole of it, and then halves that begin at the same record
        most += 1 + (BATCH_MAX - 1).bit_length()
    failed = Counter(
        (e.owner, e.place, e.stretches[0][0]) for e in ledgers.executed if _counts_as_failed(e)
    )
    for (owner, place, first), times in failed.items():
        if owner and times > most:
            yield Violation("I-12", f"{place} {first} failed {times} times, of {most}, by {owner}")


class _Unseen:
    """Kills of a worker that cut off no execution that wrote a line: each may have hit one that had
    been handed over and had yet to write it, which was an invocation all the same."""

    def __init__(self, ledgers: Ledgers) -> None:
        kills = [h for h in ledgers.harmed if h.kind in CRASHES and h.end is not None]
        left = sorted(kills, key=lambda h: h.start)
        for e in sorted(ledgers.executed, key=lambda e: e.start):
            if not e.outcome:  # whatever was killed first from then on has cut it off
                cut_off_by = next((h for h in left if (h.end or 0.0) >= e.start), None)
                if cut_off_by is not None and cut_off_by.kind == "worker-kill":
                    left.remove(cut_off_by)
        self._times = [h.start for h in left if h.kind == "worker-kill"]

    def took(self, count: int, until: float) -> bool:
        """Whether so many of them came before; each explains one invocation, and only once."""
        found = [at for at in self._times if at <= until][-count:]
        for at in found:
            self._times.remove(at)
        return len(found) == count


def _counts_as_failed(e: Executed) -> bool:
    partly = e.outcome == "partial" and e.stretches[0][0] in e.failed
    return e.outcome in FAILURES or partly


def too_old(ledgers: Ledgers, lanes: Mapping[Place, Lane], wanted: Wanted) -> Iterator[Violation]:
    age_max = wanted.age_max
    for e in ledgers.executed if age_max is not None else ():
        if lane := lanes.get(e.place):
            for index in lane.of(e):
                if e.wall - lane.times[index] > age_max + 0.001:
                    yield Violation("I-12", f"too old by then: {lane.offsets[index]} of {e}")
    for d in ledgers.set_aside:
        if d.condition == TOO_OLD and age_max is None:
            yield Violation("I-12", f"nothing is too old: {d}")


def _counts(records: int, done: int, wanted: Wanted) -> bool:
    """What comes again and is in a letter, or in the state of a window, is counted once more."""
    if wanted.answered:
        return True
    return records >= done if wanted.windows else records == done


EXHAUSTED, TOO_LARGE = "RetryAttemptsExhausted", "MaximumPayloadSizeExceeded"
TOO_OLD = "RecordAgeExceeded"
REDRIVEN = "Redriven"
"""By the queue itself, which has its own dead-letter queue."""

BATCH_MAX = 10_000
FAILURES = frozenset({"failure", "crash", "timeout", "init", "garbage"})
"""Outcomes that use up an attempt."""


def too_large(lanes: Iterable[Lane]) -> Iterator[Violation]:
    for lane in lanes:
        for index, documents in enumerate(lane.documents):
            for d in documents:
                large = lane.large[index]
                said = d.condition == TOO_LARGE
                if (said and (not large or d.size > 1)) or (
                    large and not said and d.size == 1 and d.condition not in {TOO_OLD, REDRIVEN}
                ):
                    yield Violation("I-13", f"{lane.name} {lane.offsets[index]}: {d}")


def counted(ledgers: Ledgers, lanes: Iterable[Lane], wanted: Wanted) -> Iterator[Violation]:
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
        elif s.final and not _counts(s.records, done[s.owner], wanted):
            yield Violation("I-60", f"{done[s.owner]} records were done: {s}")
    ours = (
        any(d.condition != REDRIVEN for d in documents)
        for lane in lanes
        for documents in lane.documents
    )
    aside = sum(ours)
    told = sum(s.set_aside for s in ledgers.scraped if s.final)
    if ledgers.scraped and not any(h.kind in CRASHES for h in ledgers.harmed) and told < aside:
        yield Violation("I-60", f"{aside} records are set aside, and it is said of {told}")
