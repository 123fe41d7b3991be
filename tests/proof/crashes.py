"""What a record may have run again for: crashes, and lanes that changed hands."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from proof.judgement import Wanted
from proof.lanes import Lane
from proof.ledgers import CRASHES, Executed, Harmed, Ledgers


class Crashes:
    """The crashes of a run, by time."""

    def __init__(self, harmed: Iterable[Harmed]) -> None:
        effective = [h for h in harmed if h.kind in CRASHES and h.end is not None]
        self._rows = sorted(effective, key=lambda h: h.start)
        self._starts = [h.start for h in self._rows]

    def between(
        self, since: float, until: float, one: Executed | None = None, two: Executed | None = None
    ) -> Harmed | None:
        """The crash that is the best reason why what happened at `since` happened again at
        `until`: it began before the one and was not over at the other. That of the very worker
        first; that of some worker only where no larger part had crashed, since it excuses less."""
        found = [(_reason(row, until, one, two), row) for row in self._rows_of(since, until)]
        best = max(found, key=lambda each: each[0], default=(0, None))
        return best[1] if best[0] else None

    def parted(self, one: Executed, two: Executed) -> bool:
        """Whether the two were asked for by different owners, one of whom had been put out."""
        return one.owner != two.owner and any(
            row.kind in _OF_OWNERS and _reason(row, two.start, one, two)
            for row in self._rows_of(one.start, two.start)
        )

    def _rows_of(self, since: float, until: float) -> Iterator[Harmed]:
        """The last that began comes first."""
        for index in range(bisect_right(self._starts, until) - 1, -1, -1):
            row = self._rows[index]
            if row.start < since - _CRASH_SECONDS_MAX:
                return
            if row.end is not None and row.end >= since:
                yield row


_OF_OWNERS = frozenset({"seat-lost", "daemon-kill"})


def _reason(harmed: Harmed, until: float, one: Executed | None, two: Executed | None) -> int:
    """How good a reason a crash is, as far as is known whom it hit; 0: none."""
    if harmed.execution:
        return 5 if one is not None and one.execution == harmed.execution else 0
    if harmed.kind == "worker-kill":
        return 1
    if harmed.kind not in _OF_OWNERS or one is None or two is None:
        return 3
    if not one.owner or _is(harmed.component, one):
        return 4
    return 2 if _is(harmed.component, two) and harmed.start < until else 0


def _is(component: str, execution: Executed) -> bool:
    return f"{execution.owner}/".startswith(f"{component}/")


_CRASH_SECONDS_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Replay:
    """A record that succeeded twice, and the crash between, if there was one."""

    where: str
    crash: Harmed | None


class Handovers:
    """When each lane was given to somebody anew, and where that one began."""

    def __init__(self, ledgers: Ledgers, wanted: Wanted) -> None:
        self._in_order = wanted.order == "lane"
        self._commits: dict[str, list[tuple[float, int]]] = defaultdict(list)
        self._times: dict[str, list[float]] = defaultdict(list)
        for c in sorted(ledgers.committed, key=lambda c: c.at):
            self._commits[f"{c.topic}-{c.partition}"].append((c.at, c.offset))
        self._unheard = {row.execution for row in ledgers.harmed}
        for row in ledgers.harmed:
            if row.kind == "handover":
                self._times[row.component].append(row.start)

    def overtook(self, lane: Lane, index: int, since: float, until: float, owner: str) -> bool:
        """Whether the lane changed hands while a lower record, that its owner had not done, held
        the checkpoint back: a log cannot remember that a later one was done before it."""
        for at in self._times.get(lane.name, ()):
            if since < at <= until:
                commits = self._commits[lane.name]
                place = bisect_left(commits, (at, -1)) - 1  # one at this very time may be its first
                first = bisect_left(lane.offsets, commits[place][1] if place >= 0 else 0)
                if any(self._holds(lane, lower, owner, at) for lower in range(first, index)):
                    return True
        return False

    def _holds(self, lane: Lane, index: int, owner: str, at: float) -> bool:
        """What nobody wants waits for nothing where all is in order, and else for its strand."""
        if lane.filtered[index] and self._in_order:
            return False
        return not lane.done_by(index, owner, at, self._unheard)


def replays_of(lanes: Iterable[Lane], crashes: Crashes, handovers: Handovers) -> list[Replay]:
    return [
        Replay(
            f"{lane.name} {lane.offsets[index]}", crashes.between(one.start, two.start, one, two)
        )
        for lane in lanes
        for index, successes in enumerate(lane.successes)
        if len(successes) > 1
        for one, two in pairwise(sorted(successes, key=lambda e: e.start))
        if not handovers.overtook(lane, index, one.start, two.start, one.owner)
    ]
