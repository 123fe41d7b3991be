"""Sources that break the contract, each in one way, and the check that must find it."""

from __future__ import annotations

import asyncio

from streamfaas.flow.ledger import Checkpoint, Receipts
from streamfaas.flow.record import Instant, run_of_records
from streamfaas.sources import Arrived, LaneView, SourceView
from streamfaas.sources.directory import Directory
from streamfaas.sources.memory import Memory
from streamfaas.testing.conformance import any_source, logs, queues


class ForgetsSettlements(Memory):
    async def settle(self, settlement):
        pass


class SettlesWhatItReads(Memory):
    async def next(self, ready):
        arrival = await super().next(ready)
        if isinstance(arrival, Arrived):
            self.stream.checkpoints[arrival.run.lane.name] = arrival.run.last
        return arrival

    async def settle(self, settlement):
        self._settled.set()


class SettlesOneTooMany(Memory):
    async def settle(self, settlement):
        await super().settle(Checkpoint(settlement.lane, settlement.position + 1))


class ReadsLanesThatAreNotReady(Memory):
    async def next(self, ready):
        return await super().next(self.lanes)


class HearsNoWake(Memory):
    def wake(self):
        pass


class LosesWhatACancelledCallHadTaken(Memory):
    async def next(self, ready):
        arrival = await super().next(ready)
        await asyncio.sleep(0.005)
        return arrival


class ReadsOnAfterARewind(Memory):
    async def rewind(self, lane, position):
        await super().rewind(lane, position + 1)


class GoesOnWithALaneThatLeaves(Memory):
    def _tell(self):
        before = dict(self._next)
        told = super()._tell()
        self._next = before | self._next
        return told


class SeeksOnlyInItsMemory(Memory):
    async def seek(self, positions):
        kept = dict(self.stream.checkpoints)
        await super().seek(positions)
        self._told.clear()
        self._sought.clear()
        self.stream.checkpoints = kept


class ReadsOnWhileItIsSought(Memory):
    async def seek(self, positions):
        await super().seek(positions)
        self._sought.clear()


class StandsBetweenTheTwoPlaces(Memory):
    async def seek(self, positions):
        await super().seek({lane: max(0, position - 1) for lane, position in positions.items()})


class CannotBeClosedTwice(Memory):
    async def close(self):
        await super().close()
        assert self._state != "closed"
        self._state = "closed"


class HasAViewOfItsOwn(Memory):
    def view(self):
        return SourceView("fine", lanes={lane: LaneView() for lane in self.lanes})


class TurnsRecordsRound(Memory):
    async def next(self, ready):
        arrival = await super().next(ready)
        if isinstance(arrival, Arrived) and arrival.run.count > 1:
            self._next[arrival.run.lane] = arrival.run.first  # this one again, and then
            records = self.records_of(arrival.run)[1:]
            return Arrived(run_of_records(records))
        return arrival

    def records_of(self, run):
        return run.payload.between(run.first, run.last)


class ShowsAnotherEvent(Memory):
    def event(self, batch):
        return super().event(batch).replace(b"SelfManaged", b"Managed")

    def shape(self, batch):
        shaped = super().shape(batch)
        return type(shaped)(shaped.encoding, (Memory.event(self, batch),))


class HandsOutTwice(Directory):
    async def next(self, ready):
        arrival = await super().next(ready)
        if isinstance(arrival, Arrived):
            run = arrival.run
            event = self._slots.settled(Receipts(run.lane, finished=((run.first, run.last),)))
            await self._queue.give_back(event, None)
        return arrival


class CountsWhatDoesNotCount(Directory):
    async def settle(self, settlement):
        at = Instant(0.0) if settlement.at is None else settlement.at
        await super().settle(
            Receipts(settlement.lane, settlement.finished, settlement.released, at)
        )


class ForgetsWhenItIsDue(Directory):
    async def settle(self, settlement):
        at = None if settlement.at is None else Instant(0.0)
        await super().settle(
            Receipts(settlement.lane, settlement.finished, settlement.released, at)
        )


class OpensWhateverComes(Directory):
    async def open(self, spawn):
        pass


OF_LOGS = {
    ForgetsSettlements: any_source.check_what_is_finished_does_not_come_again_after_a_close,
    SettlesWhatItReads: any_source.check_nothing_is_lost_in_crashes,
    SettlesOneTooMany: any_source.check_what_is_finished_does_not_come_again_after_a_close,
    ReadsLanesThatAreNotReady: any_source.check_records_come_only_for_lanes_that_are_ready,
    HearsNoWake: any_source.check_a_waiting_call_hears_that_a_lane_is_ready_again,
    LosesWhatACancelledCallHadTaken: any_source.check_a_call_of_next_may_be_cancelled,
    ReadsOnAfterARewind: logs.check_a_lane_that_is_read_again_gives_the_same,
    GoesOnWithALaneThatLeaves: logs.check_a_lane_that_is_taken_away_is_let_go,
    SeeksOnlyInItsMemory: logs.check_a_lane_goes_on_from_where_it_is_sent_to,
    ReadsOnWhileItIsSought: logs.check_a_lane_goes_on_from_where_it_is_sent_to,
    StandsBetweenTheTwoPlaces: logs.check_a_seek_that_is_cut_off_leaves_one_of_the_two_places,
    CannotBeClosedTwice: any_source.check_closing_is_safe_at_any_time,
    HasAViewOfItsOwn: any_source.check_views_have_their_form_at_any_time,
    TurnsRecordsRound: any_source.check_everything_produced_arrives_in_order,
    ShowsAnotherEvent: any_source.check_events_are_what_their_records_say,
}
OF_QUEUES = {
    HandsOutTwice: queues.check_a_record_is_in_the_hands_of_one_lane_only,
    CountsWhatDoesNotCount: queues.check_what_goes_back_comes_again_when_it_is_due,
    ForgetsWhenItIsDue: queues.check_what_goes_back_comes_again_when_it_is_due,
    OpensWhateverComes: any_source.check_an_unreachable_backing_is_the_typed_error,
}
