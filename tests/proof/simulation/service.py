"""A stream of shards as its service keeps it: iterators, pages, limits, and what it forgets."""

from __future__ import annotations

import sqlite3
from bisect import bisect_left
from collections import defaultdict, deque
from dataclasses import replace
from typing import Any

import pybase64

from kpl_made import aggregate
from proof.judgement import Wanted
from proof.ledgers import Committed
from proof.simulation.faces import ShardFace
from proof.simulation.resharding import Entry, Put, Shard, puts_of, shard_for, shards_of
from proof.simulation.world import EPOCH, MAPPING, TOPIC, World
from streamfaas.flow.errors import Busy, Gone
from streamfaas.flow.leases import Lease
from streamfaas.flow.record import Lane, Record
from streamfaas.wire import shards as wire

NAME = "orders"
ARN = f"arn:aws:kinesis:local:000000000000:stream/{NAME}"
ITERATOR_SECONDS = 300.0
READS_A_SECOND = 5
PAGE_MAX = 12
TOGETHER_MAX = 5
DAY_SECONDS = 86_400.0
LEASE_SECONDS = 10.0


class Service:
    """Everything is known beforehand of what is put and when; what is read is not."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._shards = {shard.id: shard for shard in shards_of(world.plan)}
        self._put()
        self._placed = {
            (shard.number, str(entry.sequence)): entry
            for shard in self._shards.values()
            for entry in shard.entries
        }
        self._named = {n: e for s in self._shards.values() for e in s.entries for n in e.names}
        world.face = ShardFace(self._named, changes=world.plan.changes)
        self._times = {id_: [e.at for e in s.entries] for id_, s in self._shards.items()}
        self._read_at: dict[str, deque[float]] = defaultdict(deque)
        self._void_before = -1.0  # iterators
        self._begun_ms: dict[int, int] = {}  # shards that began at a time
        self._born_ms: int | None = None  # since when leased shards are read, where it is not all,
        self._there_at_birth: set[str] = set()  # of those that were there
        self._horizon_at_birth: float | None = None  # what the trigger could have at best
        self._passed: set[str] = set()  # names of records that nobody can have any more
        self._epoch = 0  # of positions: a newer one begins where somebody has sent shards to
        self._sent: dict[int, int] = {}  # offsets that they begin at then
        self.committed: dict[int, int] = {}
        self.leases: dict[str, Lease] = {}  # where several daemons share the stream
        self.written_at: dict[str, float] = {}  # their rows
        self._taken_from: dict[tuple[str, str], int] = {}  # rows of harm that the owners go on in

    # -- what there is

    def _put(self) -> None:
        """Sequence numbers rise over all shards. What is put together comes as one, with the last
        of it."""
        world, plan = self._world, self._world.plan
        shards = list(self._shards.values())
        waiting: dict[Shard, list[Put]] = defaultdict(list)
        sequence = 10**20 if plan.changes else 10**15
        for number, put in enumerate(puts_of(plan)):
            shard = shard_for(shards, put, world.chance("hash", put.key))
            several = waiting[shard]
            several.append(put)
            more = plan.aggregated and world.chance.happens(0.6, "together", number)
            if not more or len(several) == TOGETHER_MAX:
                sequence += 1 + int(world.chance.between(0, 50, "sequence", number))
                self._enter(shard, several, sequence)
                waiting[shard] = []
        for shard, several in waiting.items():
            if several:
                sequence += 1
                self._enter(shard, several, sequence)

    def _enter(self, shard: Shard, several: list[Put], sequence: int) -> None:
        first, at = shard.end, several[-1].at
        lane = Lane(MAPPING, f"{TOPIC}-{shard.number}")
        dated = float(int(at)) if self._world.plan.changes else at
        records = [
            self._world.produce(lane, first + n, first + n, dated, put.key)
            for n, put in enumerate(several)
        ]
        names = tuple(f"{lane.name}/{first + n}" for n in range(len(several)))
        key = several[0].key.decode()
        shard.entries.append(Entry(sequence, at, key, first, _data(records), names))

    # -- what is asked of it

    def describe(self) -> wire.Described:
        retention = self._world.plan.retention or DAY_SECONDS
        return wire.Described(ARN, f"{ARN} 1", retention, EPOCH + self._world.now)

    def list(self) -> tuple[wire.Shard, ...]:
        now = self._world.now
        return tuple(
            wire.Shard(s.id, tuple(p.id for p in s.parents), closed=s.closes <= now)
            for s in self._shards.values()
            if s.opens <= now and not self._is_forgotten(s)
        )

    def iterator(self, shard_id: str, start: wire.Start) -> str:
        shard = self._known(shard_id)
        sequences = [entry.sequence for entry in shard.entries]
        match start.kind:
            case "TRIM_HORIZON":
                index = 0
            case "AT_TIMESTAMP":
                at_ms = round(start.timestamp * 1000)
                index = bisect_left(shard.entries, at_ms, key=_ms)
            case "LATEST":
                index = bisect_left(self._times[shard_id], self._world.now + 1e-9)
            case "AT_SEQUENCE_NUMBER":
                index = sequences.index(int(start.sequence))
            case _:
                index = sequences.index(int(start.sequence)) + 1
        return self._written(shard_id, index)

    def read(self, iterator: str, most: int) -> wire.Page:
        shard_id, index, issued = iterator.split("/")
        self._allow(shard_id)
        if float(issued) <= max(self._void_before, self._world.now - ITERATOR_SECONDS):
            raise wire.IteratorExpired
        shard = self._known(shard_id)
        return self._page(shard, max(int(index), self._trimmed(shard)), most)

    def _page(self, shard: Shard, index: int, most: int) -> wire.Page:
        world, now = self._world, self._world.now
        n = world.time_of(("page", shard.id))
        stop = bisect_left(self._times[shard.id], now + 1e-9)
        most = min(most, 1 + int(world.chance.between(0, PAGE_MAX, "page", shard.id, n)))
        if not world.calm and world.chance.happens(world.plan.wire, "empty", shard.id, n):
            most = 0
        found = shard.entries[index : min(index + most, stop)]
        index += len(found)
        behind = now - shard.entries[index].at if index < stop else 0.0
        last = index == len(shard.entries) and shard.closes <= now and not world.plan.mute
        ended = last and (not found or world.chance("end", shard.id, n) < 0.5)
        return wire.Page(
            [_changed(entry) if world.plan.changes else _told(entry) for entry in found],
            None if ended else self._written(shard.id, index),
            max(int(behind > 0), int(behind * 1000)),
            sum(len(entry.data) for entry in found),
        )

    def void(self) -> None:
        """Iterators that were given out are no good any more."""
        self._void_before = self._world.now

    def _written(self, shard_id: str, index: int) -> str:
        return f"{shard_id}/{index}/{self._world.now!r}"

    def _allow(self, shard_id: str) -> None:
        reads, now = self._read_at[shard_id], self._world.now
        while reads and reads[0] <= now - 1.0:
            reads.popleft()
        if len(reads) >= READS_A_SECOND:
            raise Busy(f"{shard_id}: rate exceeded")
        reads.append(now)

    # -- what it forgets

    def _known(self, shard_id: str) -> Shard:
        shard = self._shards[shard_id]
        if self._is_forgotten(shard):
            raise Gone(f"{shard_id}: no such shard")
        return shard

    def _is_forgotten(self, shard: Shard) -> bool:
        horizon = self._horizon
        if shard.closes > horizon:
            return False
        self._pass(shard, len(shard.entries))
        return True

    def _trimmed(self, shard: Shard) -> int:
        """The index of the first record that is left."""
        index = bisect_left(self._times[shard.id], self._horizon)
        self._pass(shard, index)
        return index

    @property
    def _horizon(self) -> float:
        retention = self._world.plan.retention
        return self._world.now - retention if retention else -1.0

    def _pass(self, shard: Shard, index: int) -> None:
        done = self.committed.get(shard.number, 0)
        for entry in shard.entries[:index]:
            self._passed.update(n for o, n in enumerate(entry.names, entry.first) if o >= done)

    # -- what is known of those who read it

    def stored(self, connection: sqlite3.Connection) -> None:
        """Marks may have been written."""
        query = "SELECT shard, kind, sequence, sub, at_ms FROM shards"
        if self._world.plan.daemons > 1:
            return  # the table of leases is what counts
        rows = connection.execute(query).fetchall()
        if rows and self._horizon_at_birth is None:
            self._horizon_at_birth = self._horizon
        if self._world.plan.retention is None:  # else positions leap where something may be lost
            self._look_for_sent(connection)
        for shard_id, kind, sequence, sub, at_ms in rows:
            number = self._shards[shard_id].number
            if kind == "AT_TIMESTAMP":
                self._begun_ms.setdefault(number, at_ms)
            if not sequence:
                continue
            entry = self._placed[number, sequence]
            after = kind == "AFTER_SEQUENCE_NUMBER"
            offset = entry.first + (len(entry.names) if after else sub)
            self._commit(number, offset)

    def _look_for_sent(self, connection: sqlite3.Connection) -> None:
        """Shards that were sent elsewhere are read from there, whatever was done of them before."""
        query = "SELECT shard, position >> 32, ended, sequence, at_ms FROM shards"
        rows = connection.execute(query).fetchall()
        newest = max((epoch for _, epoch, *_ in rows), default=0)
        for shard_id, epoch, ended, sequence, at_ms in rows if newest > self._epoch else ():
            if epoch == newest:
                shard = self._shards[shard_id]
                at = self._placed[shard.number, sequence].first if sequence else 0
                self._sent[shard.number] = shard.end if ended else at
                self._begun_ms.pop(shard.number, None)
                if at_ms and not sequence:  # a table's is read from its beginning all the same
                    self._begun_ms[shard.number] = at_ms
                self.committed.pop(shard.number, None)
                self._world.books.leave_behind(shard.number)
                self._world.story.tell("service", "{} begins anew", shard_id)
        self._epoch = newest

    def leased(self, lease: Lease) -> None:
        """A row has been made, or has another checkpoint."""
        shard = self._shards[lease.key]
        if lease.since_ms is not None:
            self._begun_ms.setdefault(shard.number, lease.since_ms)
            if self._born_ms is None:
                self._born_ms = lease.since_ms
                self._there_at_birth = {each.id for each in self.list()}
        if lease.ended:
            self._commit(shard.number, shard.end)
        elif lease.begun:
            entry = self._placed[shard.number, lease.checkpoint]
            self._commit(shard.number, entry.first + lease.sub + 1)

    def changed_hands(self, lease: Lease, worker: str) -> None:
        """Whose lease has expired may have finished with more than it could say; of whom it was
        taken before that, as the library does it, goes on until it hears so."""
        world, owner, books = self._world, lease.owner, self._world.books
        world.story.tell("table", "{} takes {} of {}", worker, lease.key, owner)
        if not owner or owner == worker:
            return
        expires = self.written_at[lease.key] + LEASE_SECONDS
        expired = world.now >= expires
        row = books.harm("seat-lost", owner, world.now - LEASE_SECONDS if expired else None)
        if not expired:
            books.harmed[row] = replace(books.harmed[row], end=expires)
            self._taken_from[lease.key, owner] = row

    def heard(self, key: str, name: str) -> None:
        """Who has lost a lease knows it, or is no more."""
        harmed, now = self._world.books.harmed, self._world.now
        for one in [(k, owner) for k, owner in self._taken_from if k == key]:
            if one[1].startswith(name):
                row = self._taken_from.pop(one)
                harmed[row] = replace(harmed[row], end=min(now, harmed[row].end or now))

    def _commit(self, number: int, offset: int) -> None:
        if self.committed.get(number) != offset:
            self.committed[number] = offset
            self._world.story.tell("service", "{} is committed at {}", number, offset)
            row = Committed(self._world.now, MAPPING, TOPIC, number, offset)
            self._world.books.committed.append(row)

    def noticed(self, name: str) -> None:
        """Who is no more reads nothing any more, whoever has its leases."""
        for key, _ in list(self._taken_from):
            self.heard(key, name)

    @property
    def finished(self) -> bool:
        return all(self._is_finished(shard) for shard in self._shards.values())

    def _is_finished(self, shard: Shard) -> bool:
        needed = self._needed(shard)
        return self.committed.get(shard.number, 0) >= needed

    def _needed(self, shard: Shard) -> int:
        skipped = self._skipped(shard)
        for entry in reversed(shard.entries):
            for back, name in enumerate(reversed(entry.names)):
                if name not in skipped and name not in self._passed:
                    return entry.first + len(entry.names) - back
        return 0

    def _skipped(self, shard: Shard) -> set[str]:
        """Records of before the time at which the shard began to be read."""
        sent = self._sent.get(shard.number, 0)
        before = {
            name for e in shard.entries for o, name in enumerate(e.names, e.first) if o < sent
        }
        begun = self._begun_ms.get(shard.number)
        if begun is None and shard.id in self._there_at_birth:
            begun = self._born_ms
        if begun is None:
            return before
        return before | {n for entry in shard.entries if _ms(entry) < begun for n in entry.names}

    def judged(self, wanted: Wanted) -> Wanted:
        """What is forgotten is lost; but people must be told of that shard, if it was there when
        the trigger was born."""
        told = {s.number for s in self._shards.values() if self._was_told_of(s)}
        before = self._horizon_at_birth or -1.0
        lost = {
            name
            for name in self._passed
            if int(name.split("/")[0].split("-")[1]) in told or self._named[name].at < before
        }
        skipped = set[str]().union(*map(self._skipped, self._shards.values()))
        return replace(
            wanted,
            parents={
                (TOPIC, shard.number): tuple((TOPIC, parent.number) for parent in shard.parents)
                for shard in self._shards.values()
                if shard.parents
            },
            # who begins at the end of a shard may have some that came while that was asked for
            filtered=wanted.filtered if self._sent else wanted.filtered | skipped,
            passed=wanted.passed | skipped | lost,
            # a seek that came to nothing has let go of windows
            forgets=wanted.forgets or self._world.books.sought,
        )

    def _was_told_of(self, shard: Shard) -> bool:
        """Or of one that it came from."""
        told = any(shard.id in text for text in self._world.warned)
        return told or any(map(self._was_told_of, shard.parents))


def _ms(entry: Entry) -> int:
    return round((EPOCH + entry.at) * 1000)


def _told(entry: Entry) -> dict[str, Any]:
    return {
        "SequenceNumber": str(entry.sequence),
        "PartitionKey": entry.key,
        "Data": entry.data,
        "ApproximateArrivalTimestamp": _ms(entry) / 1000,
    }


def _changed(entry: Entry) -> dict[str, Any]:
    """The same record as a change of an item. It is dated by the second."""
    return {
        "eventID": f"change-{entry.sequence}",
        "eventName": "INSERT",
        "eventSource": "aws:dynamodb",
        "dynamodb": {
            "SequenceNumber": str(entry.sequence),
            "ApproximateCreationDateTime": int(EPOCH + entry.at),
            "Keys": {"id": {"S": entry.key}},
            "NewImage": {"value": {"S": pybase64.b64decode(entry.data).decode()}},
        },
    }


def _data(records: list[Record]) -> str:
    first = records[0]
    assert first.value is not None
    if len(records) == 1:
        return pybase64.b64encode_as_string(first.value)
    several = [((r.key or b"").decode(), None, r.value or b"") for r in records]
    return pybase64.b64encode_as_string(aggregate(several))
