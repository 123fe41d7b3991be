"""Judges a run by its ledgers, and by nothing else."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, groupby, pairwise
from math import inf

from proof import contract, windows
from proof.crashes import Crashes, Handovers, Replay, replays_of
from proof.judgement import WHAT_MUST_HOLD, Report, Violation, Wanted
from proof.lanes import Lane, lanes_of
from proof.ledgers import Executed, Harmed, Ledgers, Place, SetAside

__all__ = ["WHAT_MUST_HOLD", "Report", "Violation", "Wanted", "check"]


def check(ledgers: Ledgers, wanted: Wanted) -> Report:
    """Every violation of every invariant, and what there was of each thing."""
    lanes = lanes_of(ledgers, wanted)
    crashes = Crashes(ledgers.harmed)
    handovers = Handovers(ledgers, wanted)
    replays = replays_of(lanes.values(), crashes, handovers)
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
        *contract.bisected(lanes.values(), wanted),
        *contract.attempts(ledgers, lanes, wanted),
        *contract.too_old(ledgers, lanes, wanted),
        *contract.too_large(lanes.values()),
        *_order(lanes.values(), crashes, wanted.order),
        *_lineage(lanes, crashes, wanted),
        *_left_over(ledgers, lanes.values()),
        *contract.counted(ledgers, lanes.values(), wanted),
        *windows.judged(ledgers, lanes, crashes, wanted),
    )
    return Report(violations, _counts(ledgers, lanes.values(), replays))


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


def _loss(lanes: Iterable[Lane]) -> Iterator[Violation]:
    for lane in lanes:
        lost = [i for i in range(len(lane.offsets)) if lane.finished(i) == inf]
        for first, last in _stretches(lost):
            offsets = f"{lane.offsets[first]}..{lane.offsets[last]}"
            yield Violation("I-01", f"{last - first + 1} lost: {lane.name} {offsets}")


def _stretches(indexes: Iterable[int]) -> Iterator[tuple[int, int]]:
    for _, group in groupby(enumerate(indexes), key=lambda pair: pair[1] - pair[0]):
        found = [index for _, index in group]
        yield found[0], found[-1]


def _invention(ledgers: Ledgers, lanes: Mapping[Place, Lane]) -> Iterator[Violation]:
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


def _early_commits(ledgers: Ledgers, lanes: Mapping[Place, Lane]) -> Iterator[Violation]:
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


def _replayed(replays: Iterable[Replay], wanted: Wanted) -> Iterator[Violation]:
    by_crash: dict[Harmed, Counter[str]] = defaultdict(Counter)
    for replay in replays:
        if replay.crash is None:
            yield Violation("I-06", f"{replay.where} succeeded twice, and nothing had crashed")
        else:
            by_crash[replay.crash][replay.where] += 1
    for crash, records in by_crash.items():
        for where, times in records.items():
            if times > 1 and crash.kind != "ack-lost":  # that can last
                yield Violation("I-05", f"{where} ran {times + 1} times by one crash: {crash}")
        if len(records) > wanted.replay_max.get(crash.kind, inf):
            bound = wanted.replay_max[crash.kind]
            yield Violation("I-05", f"{len(records)} ran again, of at most {bound}, by {crash}")


def _endings(lanes: Iterable[Lane], crashes: Crashes, handovers: Handovers) -> Iterator[Violation]:
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


def _run_after_all(lanes: Iterable[Lane], wanted: Wanted) -> Iterator[Violation]:
    """What was set aside is known to be, though nobody may have heard that it arrived."""
    for lane in lanes if wanted.kept else ():
        for e in lane.executed:
            for index in lane.of(e):
                if any(d.at < e.start for d in lane.documents[index]):
                    where = f"{lane.name} {lane.offsets[index]}"
                    yield Violation("I-07", f"{where} ran after it had been set aside: {e}")


def _documents(set_aside: Iterable[SetAside], lanes: Mapping[Place, Lane]) -> Iterator[Violation]:
    for d in set_aside:
        lane = lanes.get(d.place)
        offsets = [lane.offsets[i] for i in lane.about(d)] if lane else []
        told = offsets[:1] + offsets[-1:] == [d.first, d.last] and len(offsets) == d.size
        if not told or (d.fingerprints is not None and len(d.fingerprints) != d.size):
            yield Violation("I-09", f"the document {d.id}: {d.place} {d.first}..{d.last}, {d.size}")


def _order(lanes: Iterable[Lane], crashes: Crashes, order: str) -> Iterator[Violation]:
    for lane in lanes:
        if order == "lane":
            yield from _in_order(lane, range(len(lane.offsets)), "I-20", crashes)
        elif order == "key":
            for indexes in _by_key(lane):
                yield from _in_order(lane, indexes, "I-21", crashes)


def _by_key(lane: Lane) -> Iterable[Sequence[int]]:
    found: dict[str | None, list[int]] = defaultdict(list)
    for index, key in enumerate(lane.keys):
        found[key].append(index)
    return found.values()


def _in_order(
    lane: Lane, indexes: Sequence[int], invariant: str, crashes: Crashes
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


def _lineage(lanes: Mapping[Place, Lane], crashes: Crashes, wanted: Wanted) -> Iterator[Violation]:
    for place in lanes.keys() & wanted.parents.keys():
        first = min(lanes[place].executed, key=lambda e: e.start, default=None)
        ancestors = _ancestors(place, wanted) & lanes.keys() if first is not None else ()
        for lane in map(lanes.__getitem__, sorted(ancestors)):
            open_ = [i for i in range(len(lane.offsets)) if lane.left(i) > first.start]
            if open_:
                where = f"{lane.name} {lane.offsets[open_[0]]}"
                yield Violation("I-23", f"began before {where} had ended: {first}")
            for e in lane.executed:
                over = e.start if e.end is None else e.end
                if over > first.start and not crashes.parted(e, first):
                    yield Violation("I-23", f"{lane.name} ran after {first} had begun: {e}")
                    break


def _ancestors(place: Place, wanted: Wanted) -> set[Place]:
    """The lanes that a lane came from, and those that these came from."""
    found = set(wanted.parents.get(place, ()))
    return found.union(*(_ancestors(parent, wanted) for parent in found))


def _left_over(ledgers: Ledgers, lanes: Iterable[Lane]) -> Iterator[Violation]:
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
        end = max(
            (o + 1 for o, p in zip(lane.offsets, lane.passed, strict=True) if not p), default=0
        )
        if end and last.get(lane.name, -1) < end:
            yield Violation("I-30", f"{lane.name} is committed at {last.get(lane.name)} of {end}")


def _counts(ledgers: Ledgers, lanes: Iterable[Lane], replays: Iterable[Replay]) -> dict[str, int]:
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
