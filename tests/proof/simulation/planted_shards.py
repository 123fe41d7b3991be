"""Faults of how shards are read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from proof.simulation.service import Service
from proof.simulation.shards import Shards, Wire
from proof.simulation.table import planted
from proof.simulation.tenants import Tenants
from proof.simulation.world import Process
from streamfaas.flow.leases import Lease
from streamfaas.flow.ledger import Checkpoint, Settlement
from streamfaas.flow.record import Lane
from streamfaas.sources.sharded.reading import AFTER, AT, Reading
from streamfaas.store.checkpoints import Checkpoints
from streamfaas.store.shards import Mark
from streamfaas.wire.lease_table import Lost
from streamfaas.wire.shards import Page, Shard, Start


class _Misreading(Shards):
    """Reads each shard in a wrong way of its own."""

    reading: ClassVar[type[Reading]]

    def _begin(self, marks: Iterable[Mark]) -> None:
        super()._begin(marks)
        for reading in self._readings.values():
            reading.__class__ = self.reading


# -- which shards


class _Childless(Wire):
    async def shards(self) -> tuple[Shard, ...]:
        return tuple(Shard(each.id, (), closed=each.closed) for each in await super().shards())


@planted("shards", "I-23")
class ReadsAChildBeforeItsParentHasEnded(Shards):
    wire = _Childless


class _OneParent(Wire):
    async def shards(self) -> tuple[Shard, ...]:
        known = await super().shards()
        return tuple(Shard(each.id, each.parents[:1], closed=each.closed) for each in known)


@planted("shards", "I-23", first=76)
class ForgetsTheSecondParent(Shards):
    """Of what was merged."""

    wire = _OneParent


@planted("shards", "I-23", first=149)
class ReadsAChildOnceItsParentIsRead(Shards):
    """And not once all of it is finished with."""

    def _moved(self, reading: Reading) -> None:
        if reading.ended:
            self._roster.end(reading.name)
        super()._moved(reading)


@planted("shards", "I-23", first=90)
class ReadsAChildBeforeItIsKnownThatItsParentHasEnded(Shards):
    """The end of a shard is written down when there is time for it."""

    async def closed(self, lane: Lane) -> None:
        reading = self._readings.pop(lane)
        if reading.leaving:
            self._roster.end(reading.name)
        reading.over = True
        reading.wanted.set()
        await self._look()


@planted("shards", "I-01", "I-30")
class TakesAShardThatIsClosedForOneThatIsRead(Shards):
    """What lies in it is not looked at."""

    def _moved(self, reading: Reading) -> None:
        if self._roster.is_closed(reading.name):
            reading.ended = True
        super()._moved(reading)


# -- where reading goes on


class _AtTheMark(Reading):
    def start(self) -> Start:
        return Start(self.mark.kind, self.mark.sequence, self.mark.at_ms / 1000)


@planted("shards", "I-02", "I-06", "I-20", "I-21")
class BeginsAgainAtTheMark(_Misreading):
    """And not at what was read last: what is in hand comes once more, as something new."""

    reading = _AtTheMark


class _BehindTheNext(Reading):
    def start(self) -> Start:
        start = super().start()
        return Start(AFTER, start.sequence) if start.kind == AT else start


@planted("shards", "I-01", "I-03", first=63)
class BeginsAfterARecordWhereItShouldBeginAtIt(_Misreading):
    reading = _BehindTheNext


class _AtTheLast(Reading):
    def start(self) -> Start:
        start = super().start()
        return Start(AT, start.sequence) if start.kind == AFTER else start


@planted("shards", "I-06")
class BeginsAtARecordWhereItShouldBeginAfterIt(_Misreading):
    reading = _AtTheLast


class _FromNowOn(Reading):
    def start(self) -> Start:
        if self._read is not None:  # an iterator has expired
            return Start("AT_TIMESTAMP", timestamp=4e9)
        return super().start()


@planted("shards", "I-01", "I-30")
class GoesOnAtTheTipWhenAnIteratorHasExpired(_Misreading):
    reading = _FromNowOn


class _Whole(Reading):
    def start(self) -> Start:
        start = super().start()
        self._done = None
        return start


@planted("shards", "I-06")
class BeginsAnAggregateAnew(_Misreading):
    """The first of them are finished with."""

    reading = _Whole


class _Hasty(Reading):
    def settle(self, position: int) -> None:
        super().settle(position)
        self.mark = self.mark._replace(kind=AFTER, sub=0)


@planted("shards", "I-01", "I-03")
class TakesAnAggregateForDoneWithItsFirst(_Misreading):
    reading = _Hasty


# -- what is read


class _Deaf(Wire):
    def __init__(self, process: Process, service: Service) -> None:
        super().__init__(process, service)
        self._ahead: dict[str, str] = {}

    async def read(self, iterator: str, records_max: int) -> Page:
        def act() -> Page:
            page = self._service.read(self._ahead.pop(iterator, iterator), records_max)
            if page.next is not None:
                self._ahead[iterator] = page.next
            return page

        page = await self._ask("read", act)
        self._ahead.pop(iterator)
        return page


@planted("shards", "I-01", "I-03")
class ReadsOnAfterAnAnswerThatWasNotHeard(Shards):
    """The page that was in it is dropped."""

    wire = _Deaf


class _Ended(Reading):
    @property
    def finished(self) -> bool:
        return self.ended and not self.waiting


@planted("shards", "I-01", "I-23", "I-06")
class LeavesAShardWithSomethingInHand(_Misreading):
    """All of it is read, and not all is finished with."""

    reading = _Ended


@planted("shards", "I-01", "I-03", "I-30")
class EndsAShardAtAnEmptyPage(Shards):
    """It is closed, and there was nothing in what was read just now."""

    def _moved(self, reading: Reading) -> None:
        if reading.empties and self._roster.is_closed(reading.name):
            reading.ended = True
        super()._moved(reading)


@planted("shards", "I-01", "I-03")
class SettlesWhatIsRead(Shards):
    """Its mark is that of the last page."""

    async def settle(self, settlement: Settlement) -> None:
        assert isinstance(settlement, Checkpoint)
        reading = self._readings.get(settlement.lane)
        last = settlement.position if reading is None else reading._next - 1
        await super().settle(Checkpoint(settlement.lane, last))


# -- marks


@planted("shards", "I-06", first=47)
class LeavesWithoutALastMark(Shards):
    async def close(self) -> None:
        await self._stream.close()


class _OfRecords(Checkpoints):
    async def put(self, marks: Iterable[Mark]) -> None:
        await super().put(mark for mark in marks if mark.sequence)


@planted("shards", "I-01", "I-02")
class ForgetsWhereItBegan(Shards):
    """Until a record has been read there is no mark."""

    marks = _OfRecords


@planted("shards", "I-01", first=48)
class TellsNobodyWhatIsLost(Shards):
    def _warn(self, text: str) -> None: ...


# -- leases


class _Unfenced(Tenants):
    """A row is written by whoever comes."""

    def _expected(self, lease: Lease) -> Lease:
        if lease.key not in self._rows:
            raise Lost
        return self._rows[lease.key]


@planted("shards", "I-04", "I-20", "I-21", "I-06")
class WritesALeaseThatIsNotItsOwn(Shards):
    table = _Unfenced
