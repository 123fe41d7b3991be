"""Whether tumbling windows were kept: what is in their states, how they follow, and how they end."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from math import inf

from proof.crashes import Crashes
from proof.judgement import Violation, Wanted
from proof.lanes import Lane
from proof.ledgers import CRASHES, Executed, Ledgers, Place

STATE_BYTES_MAX = 1024 * 1024
UNTIL_HANDED_OVER = frozenset({*CRASHES, "handover"})


def judged(
    ledgers: Ledgers, lanes: Mapping[Place, Lane], crashes: Crashes, wanted: Wanted
) -> Iterator[Violation]:
    if not wanted.windows:
        return
    if ledgers.forgone and not (wanted.shared or wanted.forgets):
        yield Violation("I-40", f"nothing takes a state away here: {ledgers.forgone[0]}")
    unheard = frozenset(h.execution for h in ledgers.harmed if h.execution)
    reshaped = {parent for parents in wanted.parents.values() for parent in parents}
    for place, lane in lanes.items():
        shown = _Shown(place, lane, ledgers, unheard)
        yield from _accounted(shown, crashes, wanted)
        yield from _handed_on(shown, crashes)
        yield from _one_at_a_time(shown, crashes)
        yield from _in_their_windows(shown, crashes, wanted)
        yield from _ended(shown, crashes, wanted, reshaped=place in reshaped)


class _Shown:
    """What a lane's function was shown of windows, in the order of time."""

    def __init__(self, place: Place, lane: Lane, ledgers: Ledgers, unheard: frozenset[str]) -> None:
        self.lane = lane
        self.unheard = unheard
        self.finals = [f for f in ledgers.finals if f.place == place]
        self.runs = sorted(
            [e for e in (*lane.executed, *self.finals) if e.pane], key=lambda e: e.start
        )
        self.partings = [p for p in ledgers.partings if p.place == place]
        self.forgone = [f for f in ledgers.forgone if f.place == place]
        self.left_open = [k for k in ledgers.left_open if k.place == place]

    def done(self, execution: Executed) -> tuple[int, ...]:
        """The offsets that it was done with."""
        offsets = self.lane.offsets
        return tuple(offsets[i] for i in self.lane.of(execution) if execution.did(offsets[i]))

    def answered(self, execution: Executed) -> bool:
        """Whether a daemon has heard that it was done, with some of it at least."""
        done = execution.outcome in {"success", "partial"}
        return done and execution.execution not in self.unheard


def _slot(worker: str) -> str:
    """The machine: its disk outlives the daemon."""
    return worker.partition(".")[0]


# -- I-40


def _accounted(shown: _Shown, crashes: Crashes, wanted: Wanted) -> Iterator[Violation]:
    last: dict[int, set[tuple[tuple[int, int], tuple[int, ...]]]] = defaultdict(set)
    told = {offset for one in shown.left_open for offset in one.seen}
    for final in shown.finals:
        assert final.pane is not None
        if final.succeeded:
            for offset in final.pane.seen:
                last[offset].add((final.pane.window, final.pane.seen))
    for parting in shown.partings:
        told.update(parting.seen)
    for lost in shown.forgone:
        for e in shown.runs:
            of_it = e.pane is not None and e.pane.start_ms == lost.start_ms
            if of_it and e.start <= lost.at and _slot(e.worker) == _slot(lost.worker):
                told.update(shown.done(e))
    for offset in sorted({offset for e in shown.runs for offset in shown.done(e)}):
        where = f"{shown.lane.name} {offset}"
        indexes, lane = shown.lane.between(offset, offset), shown.lane
        # what the log has forgotten, which is told, cannot come again for its state
        aside = any(lane.documents[i] or lane.passed[i] for i in indexes)
        known = last[offset] or offset in told or aside
        if not known and not _ran_without(shown, offset):
            yield Violation("I-40", f"{where} is in no last state")
        # what a log may have forgotten comes again as something else
        if len(last[offset]) > 1 and not (wanted.shared or wanted.forgets):
            yield Violation("I-40", f"{where} is in several: {sorted(last[offset])}")


def _ran_without(shown: _Shown, offset: int) -> bool:
    """Outside of any window, while there were none."""
    return any(e.did(offset) and _holds(e, offset) for e in shown.lane.executed if not e.pane)


def _holds(execution: Executed, offset: int) -> bool:
    return any(first <= offset <= last for first, last in execution.stretches)


# -- I-41


def _handed_on(shown: _Shown, crashes: Crashes) -> Iterator[Violation]:
    by_name = {e.execution: e for e in shown.runs}
    latest: dict[str, Executed] = {}  # by machine: whose state is to be handed on
    for e in shown.runs:
        pane, slot = e.pane, _slot(e.worker)
        assert pane is not None
        if list(pane.seen) != sorted(set(pane.seen)):
            yield Violation("I-41", f"a record is in a state twice, or too early: {e}")
        if pane.seen and e.stretches and pane.seen[-1] >= e.stretches[0][0]:
            yield Violation("I-41", f"it is given what is in the state already: {e}")
        yield from _answered_by(shown, e, by_name.get(pane.after))
        before = latest.get(slot)
        if before is not None and _lost_since(shown, slot, before, e):
            before = None
        other = before is not None and _state_of(shown, before) != pane.seen
        if before and other and crashes.between(before.start, e.start, before, e) is None:
            yield Violation("I-41", f"not the state that {before.execution} handed on: {e}")
        if pane.final:
            parted = shown.answered(e) or any(
                p.window == pane.window and p.seen == pane.seen and p.at >= e.start
                for p in shown.partings
            )
            if parted:
                latest.pop(slot, None)
        elif shown.answered(e) and shown.done(e):
            latest[slot] = e


def _state_of(shown: _Shown, e: Executed) -> tuple[int, ...]:
    """What is in the state that it has handed on."""
    assert e.pane is not None
    return (*e.pane.seen, *shown.done(e))


def _answered_by(shown: _Shown, e: Executed, parent: Executed | None) -> Iterator[Violation]:
    pane = e.pane
    assert pane is not None
    if parent is None:
        if pane.seen or pane.after:
            yield Violation("I-41", f"nobody has answered that state: {e}")
        return
    assert parent.pane is not None
    due = parent.place == e.place and parent.pane.window == pane.window
    over = shown.answered(parent) and parent.end is not None and parent.end <= e.start
    if not due or not over or pane.seen != _state_of(shown, parent):
        yield Violation("I-41", f"not what {parent.execution} handed on: {e}")


def _lost_since(shown: _Shown, slot: str, before: Executed, e: Executed) -> bool:
    return any(
        before.start <= lost.at <= e.start and _slot(lost.worker) == slot for lost in shown.forgone
    )


def _one_at_a_time(shown: _Shown, crashes: Crashes) -> Iterator[Violation]:
    busiest: Executed | None = None
    for e in shown.runs:
        if busiest is not None and e.start < _over(busiest) and not crashes.parted(busiest, e):
            yield Violation("I-20", f"{shown.lane.name}: two at once in windows: {e}")
        if busiest is None or _over(e) >= _over(busiest):
            busiest = e


def _over(e: Executed) -> float:
    return e.start if e.end is None else e.end


# -- I-42


def _in_their_windows(shown: _Shown, crashes: Crashes, wanted: Wanted) -> Iterator[Violation]:
    ended_by: dict[str, int] = defaultdict(int)  # how far the windows of a machine have come
    # what was before it may have opened the window, though it never ran
    newest = [1000 * at for at in accumulate(shown.lane.times, max)]
    for e in shown.runs:
        assert e.pane is not None
        start, end = e.pane.window
        if not 0 < end - start <= max(wanted.windows):
            yield Violation("I-42", f"a window of {end - start} ms: {e}")
        behind = max(ended_by.values(), default=0)
        now = int(e.wall * 1000)
        for index in shown.lane.of(e):
            dated = round(shown.lane.times[index] * 1000)
            at = min(dated, now)
            if at >= end:
                yield Violation("I-42", f"{shown.lane.offsets[index]} came later: {e}")
            elif at < start and behind <= at and newest[index] < start:
                yield Violation("I-42", f"{shown.lane.offsets[index]} came before: {e}")
            behind = max(behind, end)
        ended_by[_slot(e.worker)] = max(ended_by[_slot(e.worker)], end)
    yield from _following(shown, crashes)


def _following(shown: _Shown, crashes: Crashes) -> Iterator[Violation]:
    by_slot: dict[str, list[Executed]] = defaultdict(list)
    without = [e.start for e in shown.lane.executed if e.pane is None]
    for e in shown.runs:
        if shown.answered(e) and (e.stretches == () or shown.done(e)):
            by_slot[_slot(e.worker)].append(e)
    for slot, runs in by_slot.items():
        for one, two in pairwise(runs):
            assert one.pane is not None
            assert two.pane is not None
            if one.pane.window == two.pane.window or _lost_since(shown, slot, one, two):
                continue
            if one.stretches and crashes.between(one.start, two.start, one, two) is not None:
                continue  # it may not have been kept that there was such a window
            if any(one.start <= at <= two.start for at in without):
                continue  # there were none for a while
            floor = one.pane.start_ms if one.pane.early else one.pane.end_ms
            if two.pane.start_ms < floor:
                yield Violation("I-42", f"{one.pane.window} is not over: {two}")


# -- I-43


def _ended(
    shown: _Shown, crashes: Crashes, wanted: Wanted, *, reshaped: bool
) -> Iterator[Violation]:
    ending: set[object] = set()  # clocks may go back before one is made again
    for e in shown.runs:
        assert e.pane is not None
        large = e.pane.size > STATE_BYTES_MAX
        if large != e.pane.early:
            yield Violation("I-43", f"a state of {e.pane.size} bytes: {e}")
        over = e.wall * 1000 >= e.pane.end_ms or e.pane.early
        over |= (e.pane.window, e.pane.seen) in ending
        if e.pane.final and over:
            ending.add((e.pane.window, e.pane.seen))
        if e.pane.final and not (over or reshaped or 0 in wanted.windows):
            yield Violation("I-43", f"ended before its time: {e}")
    for f in shown.finals:
        if f.pane is None or not f.pane.final:
            yield Violation("I-43", f"without records, and not the last: {f}")
    done = [f for f in shown.finals if f.succeeded and f.execution not in shown.unheard]
    for ends in _by_window(done).values():
        for one, two in pairwise(ends):
            if crashes.between(one.start, two.start, one, two) is None:
                yield Violation("I-43", f"two last invocations, and no crash: {one} and {two}")
    most = inf if wanted.attempts_max is None else wanted.attempts_max
    tries = Counter(
        (f.owner, f.pane.window, f.pane.seen)
        for f in shown.finals
        if f.pane and f.owner and f.outcome in FAILURES
    )
    for (owner, window, _), times in tries.items():
        if times > most:
            yield Violation("I-43", f"{window} failed {times} times, of {most}, by {owner}")


FAILURES = frozenset({"failure", "crash", "timeout", "init"})


def _by_window(finals: Sequence[Executed]) -> Mapping[object, list[Executed]]:
    found: dict[object, list[Executed]] = defaultdict(list)
    for f in finals:
        assert f.pane is not None
        found[f.pane.window, f.pane.seen].append(f)
    return found
