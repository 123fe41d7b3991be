"""Faults of ledgers and sources."""

from __future__ import annotations

from dataclasses import replace

import orjson

from proof.simulation.broker import Broker
from proof.simulation.queue import Tray
from proof.simulation.stream import Stream
from proof.simulation.table import planted
from proof.simulation.world import Process
from streamfaas.flow.batch import Batch
from streamfaas.flow.event import Event
from streamfaas.flow.ledger import Checkpoint, Ledger, LogLedger, QueueLedger, Receipts, Settlement
from streamfaas.flow.record import Instant, Lane
from streamfaas.sources import Closing

# -- ledgers


class _OneTooFar(LogLedger):
    def finish(self, batch: Batch) -> Checkpoint | None:
        found = super().finish(batch)
        return None if found is None else Checkpoint(found.lane, found.position + 1)


@planted("stream", "I-03", "I-01")
class CommitsOneTooEarly(Stream):
    def ledger(self, lane: Lane) -> Ledger:
        return _OneTooFar(lane)


class _AsTaken(LogLedger):
    """The checkpoint of whatever has arrived."""

    def finish(self, batch: Batch) -> Checkpoint | None:
        found = super().finish(batch)
        return None if found is None else Checkpoint(found.lane, self._taken)


@planted("stream", "I-03", "I-01")
class CommitsWhatHasOnlyArrived(Stream):
    def ledger(self, lane: Lane) -> Ledger:
        return _AsTaken(lane)


class _Forgetful(QueueLedger):
    def release(
        self, batch: Batch, at: Instant | None, *, counted: bool, reason: str = ""
    ) -> Receipts:
        return Receipts(self._lane, finished=self._close(batch))


@planted("tray", "I-03", "I-01")
class ForgetsAReleasedRecord(Tray):
    def ledger(self, lane: Lane) -> Ledger:
        return _Forgetful(lane)


@planted("stream", "I-01", "I-03", first=30)
class ReadsOnAfterDamage(Stream):
    """What was damaged is passed over by one record."""

    async def rewind(self, lane: Lane, position: int) -> None:
        await super().rewind(lane, position + 1)


class _Highest(LogLedger):
    def finish(self, batch: Batch) -> Checkpoint | None:
        super().finish(batch)
        given, self._given = self._given, max(self._given, batch.last)
        return Checkpoint(self._lane, batch.last) if batch.last > given else None


@planted("stream", "I-03", first=22)
class CommitsTheHighestThatIsDone(Stream):
    """Though a lower one is not."""

    def ledger(self, lane: Lane) -> Ledger:
        return _Highest(lane)


# -- sources


@planted("stream", "I-01", "I-03", "I-20")
class LosesOnRevoke(Stream):
    """What was in hand of a lane that is taken away counts as done."""

    async def closed(self, lane: Lane) -> None:
        if (share := self._shares.get(lane)) is not None and share.opened:
            share.settled = share.next
        await super().closed(lane)


@planted("stream", "I-03", "I-04")
class CommitsWithoutItsSeat(Stream):
    """As the simplest clients do: an offset is written by whoever comes."""

    def _commits(self, generation: int, offsets: dict[Lane, int]) -> None:
        self._broker.write(self._name, offsets)


@planted("stream", "I-01", "I-03")
class BeginsWhereItHadRead(Stream):
    """A lane that comes back goes on where reading stood, not where work was done."""

    def __init__(self, process: Process, broker: Broker) -> None:
        super().__init__(process, broker)
        self._had_read: dict[Lane, int] = {}

    def _begins_at(self, lane: Lane) -> int:
        return max(super()._begins_at(lane), self._had_read.get(lane, 0))

    async def closed(self, lane: Lane) -> None:
        if (share := self._shares.get(lane)) is not None:
            self._had_read[lane] = share.next
        await super().closed(lane)


@planted("stream", "I-06", first=122)
class LeavesWithoutALastCommit(Stream):
    commits_at_close = False


@planted("stream", "I-20", "I-06")
class GivesAwayBeforeItHasLetGo(Stream):
    """The next owner begins while our batch is still at work."""

    async def _give_away(self) -> None:
        self._leaving.clear()
        going = sorted(lane for lane, one in self._shares.items() if one.opened)
        await self._last_commit()
        self._shares.clear()
        self._generation = 0
        self._leaving.update(going)
        self._told.extend(Closing(lane, 5.0) for lane in going)
        self._stirred.set()


@planted("stream", "I-02", "I-03", "I-01")
class LeavesTheLastRecordOutOfAnEvent(Stream):
    def shape(self, batch: Batch) -> Event:
        event = super().shape(batch)
        rows = orjson.loads(event.parts[0])
        return replace(event, parts=(orjson.dumps(rows[:-1] if len(rows) > 1 else rows),))


@planted("stream", "I-02")
class SwapsTwoRecordsInAnEvent(Stream):
    def shape(self, batch: Batch) -> Event:
        event = super().shape(batch)
        rows = orjson.loads(event.parts[0])
        return replace(event, parts=(orjson.dumps([*rows[1:2], *rows[:1], *rows[2:]]),))


@planted("stream", "I-09", "I-02")
class TellsOfTheWrongRecords(Stream):
    """A document about the batch, and the first record is not in it."""

    def event(self, batch: Batch) -> bytes:
        _, rest = batch.cut(batch.first + 1) if batch.last > batch.first else (None, None)
        return super().event(batch if rest is None or not rest.count else rest)


@planted("tray", "I-21")
class HandsOutAKeyThatFailed(Tray):
    """The next record of the key goes out, though the one before waits for its turn."""

    async def settle(self, settlement: Settlement) -> None:
        await super().settle(settlement)
        assert isinstance(settlement, Receipts)
        for first, _ in settlement.released:
            if (item := self._queue.items.pop(first, None)) is not None:
                self._queue.items[first] = item  # at the end of the queue
