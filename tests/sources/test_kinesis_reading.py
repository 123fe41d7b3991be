"""A shard's reading keeps positions anchored to sequence numbers, over settlements and restarts."""

import base64

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from kinesis_shard import BORN, LANE, Shard, record
from streamfaas.flow.batch import Batch
from streamfaas.sources.sharded.kinesis import Kinesis
from streamfaas.sources.sharded.pages import Page, positions
from streamfaas.sources.sharded.reading import AFTER, AT, FIRST, SEEN_MS, Reading
from streamfaas.wire.shards import Page as Read

AGGREGATED = Kinesis(aggregated=True)


class Lives(RuleBasedStateMachine):
    """Reads, settles and restarts in any order: a record has the same position in every life, and
    none is left out."""

    @initialize(sizes=st.lists(st.integers(0, 4), min_size=1, max_size=12))
    def born(self, sizes):
        self.shard = Shard(sizes)
        self.seen = {}
        self.live(BORN)

    def live(self, mark, *, doubted=False):
        self.reading = Reading(
            LANE, mark, AGGREGATED, overhead_bytes=1, poll_seconds=1.0, doubted=doubted
        )
        self.next = mark.position
        self.settled = mark.position

    @rule(limit=st.integers(1, 5))
    def read(self, limit):
        if self.reading.ended:
            return
        read = self.shard.read(self.reading.start(), limit)
        assert not self.reading.missed(self.reading.place, read) or not self.reading.place
        if read.records and not self.reading.anchored:
            self.durable = self.reading.anchor(read)
        self.reading.take(read)
        while self.reading.waiting:
            run = self.reading.waiting.popleft()
            assert run.first == self.next, "a position was left out"
            self.next = run.last + 1
            for position, told in positions(AGGREGATED, Batch((run,))):
                data = base64.b64decode(told["Data"])
                assert self.seen.setdefault(position, data) == data
                assert self.shard.ids[position] == data

    @precondition(lambda self: self.next > self.settled)
    @rule(data=st.data())
    def settle(self, data):
        self.settled = data.draw(st.integers(self.settled, self.next - 1)) + 1
        self.reading.settle(self.settled - 1)
        mark = self.reading.mark
        assert mark.position == self.settled
        assert mark.kind in {AFTER, AT}
        self.durable = mark

    @precondition(lambda self: self.next > self.settled)
    @rule(data=st.data())
    def rewind(self, data):
        self.next = data.draw(st.integers(self.settled, self.next - 1))
        self.reading.rewind(self.next)

    @rule(doubted=st.booleans())
    def restart(self, doubted):
        self.live(getattr(self, "durable", BORN), doubted=doubted)

    @rule()
    def all_of_it_is_read_in_the_end(self):
        while not self.reading.ended:
            self.read(3)
        assert self.next == len(self.shard.ids)
        if self.settled < self.next:
            self.settled = self.next
            self.reading.settle(self.next - 1)
            self.durable = self.reading.mark
        assert self.reading.finished


TestLives = Lives.TestCase


@given(st.lists(st.integers(0, 3), min_size=1, max_size=9))
def test_lag_is_what_is_not_finished_with_or_not_known(sizes):
    shard = Shard(sizes)
    reading = Reading(LANE, BORN, AGGREGATED, overhead_bytes=1, poll_seconds=1.0)
    assert reading.lag is None
    read = shard.read(reading.start(), 100)
    reading.anchor(read)
    reading.take(read)
    assert reading.lag == len(shard.ids)
    assert not reading.finished


def test_a_shard_with_nothing_new_is_asked_less_and_less_often_and_a_full_one_as_it_may_be():
    reading = Reading(LANE, BORN, Kinesis(), overhead_bytes=1, poll_seconds=1.0)
    pauses = []
    for _ in range(5):
        reading.take(Read((), "iterator", 0, 50))
        pauses.append(reading.pause_seconds)
    assert pauses == [0.4, 0.8, 1.0, 1.0, 1.0]
    reading.take(Read((), "iterator", 5_000, 50))  # there is more, further on
    assert reading.pause_seconds == 0.2
    reading.anchor(Read([record(0, b"x")], "iterator", 0, 6 << 20))
    reading.take(Read([record(0, b"x")], "iterator", 0, 6 << 20))
    assert reading.pause_seconds == 3.0  # a shard gives 2 MB a second


def test_a_page_of_no_aggregates_is_as_it_came():
    shard = Shard([0, 0, 0])
    assert Page(0, shard.records, Kinesis(), 10).between(1, 1) == shard.records[1:2]


def test_a_mark_that_stands_still_is_told_the_time_now_and_then_once_all_is_finished_with():
    reading = Reading(LANE, BORN, Kinesis(), overhead_bytes=1, poll_seconds=1.0)
    assert reading.saw_the_tip(SEEN_MS)
    assert not reading.saw_the_tip(2 * SEEN_MS - 1)
    read = Read([record(0, b"x")], "iterator", 0, 10)
    anchored = reading.anchor(read)
    assert anchored.seen_ms == anchored.at_ms
    later = anchored.at_ms + 3 * SEEN_MS
    reading.take(read)
    assert not reading.saw_the_tip(later)  # it may be lost yet
    reading.settle(0)
    assert reading.saw_the_tip(later)
    assert reading.mark.seen_ms == later


def test_a_record_to_go_on_at_that_is_not_there_any_more_is_missed():
    mark = BORN._replace(kind=AT, sequence=record(3, b"")["SequenceNumber"], sub=1)
    reading = Reading(LANE, mark, Kinesis(), overhead_bytes=1, poll_seconds=1.0)
    there, later = record(3, b"x"), record(4, b"y")
    place = reading.place
    assert place == there["SequenceNumber"]
    assert not reading.missed(place, Read([there], "iterator", 0, 10))
    assert not reading.missed(place, Read([], "iterator", 0, 0))
    assert reading.missed(place, Read([later], "iterator", 0, 10))
    reading.take(Read([], None, 0, 0))
    assert reading.missed(place, Read([], None, 0, 0))
    reading.take(Read([there], "iterator", 0, 10))
    assert not reading.place


def test_of_a_mark_in_doubt_what_follows_is_read_on_where_its_record_is_there_and_leaps_else():
    mark = BORN._replace(position=7, kind=AFTER, sequence=record(3, b"")["SequenceNumber"])
    there, later = record(3, b"x"), record(4, b"y")

    def begun():
        reading = Reading(LANE, mark, Kinesis(), overhead_bytes=1, poll_seconds=1.0, doubted=True)
        start = reading.start()
        assert (start.kind, start.sequence) == (AT, reading.place)
        return reading

    reading = begun()
    assert not reading.missed(reading.place, Read([], "iterator", 1, 0))  # nothing is known yet
    assert not reading.missed(reading.place, Read([there, later], "iterator", 0, 10))
    reading.take(Read([there, later], "iterator", 0, 10))
    assert not reading.doubted
    assert [(run.first, run.last) for run in reading.waiting] == [(7, 7)]
    for without in (Read([later], "iterator", 0, 10), Read([], "iterator", 0, 0)):
        reading = begun()
        assert reading.missed(reading.place, without)
        assert reading.leap(100)
        assert (reading.mark.position, reading.place, reading.start().kind) == (107, "", FIRST)
