"""The ledgers of a run, sorted: what became of each record of each partition, and when."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterator
from math import inf

from proof.judgement import Wanted
from proof.ledgers import Executed, Ledgers, Place, Produced, SetAside


class Lane:
    """One partition: its records by offset, and what became of each. Lists run in parallel."""

    def __init__(self, place: Place, rows: list[Produced], wanted: Wanted) -> None:
        rows = sorted(rows, key=lambda row: row.offset)
        self.name = f"{place[0]}-{place[1]}"
        self.offsets = [row.offset for row in rows]
        self.prints = [bytes.fromhex(row.fingerprint) for row in rows]
        self.keys = [row.key for row in rows]
        self.large = [row.large for row in rows]
        self.filtered = [row.id in wanted.filtered for row in rows]
        self.passed = [row.id in wanted.passed for row in rows]
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
        if self.filtered[index] or self.passed[index]:
            return -inf
        given_up = min((document.at for document in self.documents[index]), default=inf)
        told = self.succeeded[index]
        if self.answered is not None:
            told = max(told, min((each.at for each in self.answered[index]), default=inf))
        return min(told, given_up)

    def done_by(self, index: int, owner: str, at: float, unheard: Collection[str]) -> bool:
        """Whether that owner (one whom nobody knows: none) had done with the record by then, and
        had heard of it."""
        mine = [e for e in self.successes[index] if owner and e.owner == owner]
        return any(e.end is not None and e.end <= at and e.execution not in unheard for e in mine)

    def left(self, index: int) -> float:
        """From when on a later record may begin. A document is seen a little after it was written;
        the last attempt at its records was over before. A record that is lost holds nobody up."""
        given_up = self.tried[index] if self.documents[index] else inf
        left = min(self.succeeded[index], given_up)
        return -inf if left == inf or self.filtered[index] else left


def lanes_of(ledgers: Ledgers, wanted: Wanted) -> dict[Place, Lane]:
    rows: dict[Place, list[Produced]] = defaultdict(list)
    for row in ledgers.produced:
        rows[row.topic, row.partition].append(row)
    lanes = {place: Lane(place, found, wanted) for place, found in rows.items()}
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


def _enter(lane: Lane, execution: Executed) -> None:
    lane.executed.append(execution)
    over = execution.start if execution.end is None else execution.end
    for index in lane.of(execution):
        if execution.did(lane.offsets[index]):
            lane.successes[index].append(execution)
            lane.succeeded[index] = min(lane.succeeded[index], over)
        elif all(execution.start <= document.at for document in lane.documents[index]):
            lane.tried[index] = max(lane.tried[index], over)
