"""A shard that is handed on is read on exactly where it was left, within an aggregate too."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from kinesis_shard import BORN, LANE, Shard
from streamfaas.flow.batch import Batch
from streamfaas.flow.leases import AT_TIMESTAMP, LATEST, SHARD_END, TRIM_HORIZON, Lease
from streamfaas.sources.sharded.handed import EPOCH, begun_at, remembered, resumed
from streamfaas.sources.sharded.kinesis import Kinesis
from streamfaas.sources.sharded.pages import looked
from streamfaas.sources.sharded.reading import AFTER, AT, Reading

NEW = Lease(LANE.name, stream="life")
SIZES = st.lists(st.integers(0, 4), min_size=1, max_size=8)


def reading(mark, dialect):
    return Reading(LANE, mark, dialect, overhead_bytes=0, poll_seconds=1.0)


def read(one, shard, dialect, limit=1_000):
    """Values and positions of what comes from where it stands."""
    page = shard.read(one.start(), limit)
    if page.records and not one.anchored:
        one.anchor(page)
    one.take(page)
    runs, one.waiting = list(one.waiting), one.waiting.__class__()
    return [each for run in runs for each in looked(dialect, Batch((run,)))]


@given(SIZES, st.booleans(), st.integers(0, 40), st.integers(0, 40))
def test_who_takes_a_lease_begins_after_what_is_finished_with(sizes, aggregated, done, again):
    """Twice in a row, by readers that share nothing but the row; and the first, whose row nobody
    else has moved, goes on with its own positions."""
    dialect, shard, lease = Kinesis(aggregated), Shard(sizes), NEW
    everything = [each.value for each in read(reading(BORN, dialect), shard, dialect)]
    came = []
    mark = None
    for count in (done, again, len(everything)):
        one = reading(resumed(lease, None, base=0, timestamps=True), dialect)
        records = read(one, shard, dialect)
        assert [each.value for each in records] == everything[len(came) :]
        finished = records[:count]
        came += [each.value for each in finished]
        if finished:
            one.settle(finished[-1].position)
            sequence, sub = one.checkpoint
            lease = replace(lease, checkpoint=sequence, sub=sub)
        assert resumed(lease, one.mark, base=0, timestamps=True) == one.mark
        if mark is not None and finished:
            leapt = resumed(lease, mark, base=0, timestamps=True)
            assert leapt.position >= EPOCH > mark.position
        mark = one.mark
    assert came == everything


@given(st.integers(2, 4), st.data())
def test_an_aggregate_that_the_library_left_within_comes_again_whole_where_none_is_taken_apart(
    size, data
):
    shard, sub = Shard([size, 0]), data.draw(st.integers(0, size - 1))
    sequence = shard.records[0]["SequenceNumber"]
    lease = replace(NEW, checkpoint=sequence, sub=sub)
    whole = Kinesis(aggregated=False)
    came = read(reading(resumed(lease, None, base=0, timestamps=True), whole), shard, whole)
    assert len(came) == (1 if sub == size - 1 else 2)
    apart = Kinesis(aggregated=True)
    came = read(reading(resumed(lease, None, base=0, timestamps=True), apart), shard, apart)
    assert [each.value for each in came] == shard.ids[sub + 1 :]


@given(SIZES)
def test_where_the_record_of_a_checkpoint_is_past_retention_nothing_more_is_passed_over(sizes):
    shard, dialect = Shard([2, *sizes]), Kinesis(aggregated=True)
    lease = replace(NEW, checkpoint=shard.records[0]["SequenceNumber"], sub=0)
    del shard.records[0]
    one = reading(resumed(lease, None, base=0, timestamps=True), dialect)
    assert [each.value for each in read(one, shard, dialect)] == shard.ids[2:]


def test_nothing_was_finished_with_since_a_mark_was_anchored():
    anchored = BORN._replace(kind=AT, sequence="49", at_ms=7)
    for checkpoint in (TRIM_HORIZON, LATEST, AT_TIMESTAMP):
        lease = replace(NEW, checkpoint=checkpoint)
        assert resumed(lease, anchored, base=0, timestamps=True) == anchored
        further = anchored._replace(kind=AFTER)  # and the row was lost, and made anew
        assert resumed(lease, further, base=0, timestamps=True) == further
    moved = resumed(replace(NEW, checkpoint="49"), anchored, base=0, timestamps=True)
    assert (moved.position, moved.sequence, moved.sub) == (EPOCH, "49", 1)
    other = resumed(NEW, anchored._replace(stream="before"), base=0, timestamps=True)
    assert (other.position, other.sequence) == (EPOCH, "")


def test_a_row_begins_where_the_trigger_does():
    assert begun_at(NEW, "trim_horizon", 5_000) == NEW
    latest = begun_at(NEW, "latest", 5_000)
    assert (latest.checkpoint, latest.since_ms) == (LATEST, 5_000)
    timed = begun_at(NEW, 7.0, 5_000)
    assert (timed.checkpoint, timed.since_ms) == (AT_TIMESTAMP, 7_000)
    mark = resumed(latest, None, base=EPOCH, timestamps=True)
    assert (mark.position, mark.kind, mark.at_ms) == (EPOCH, AT_TIMESTAMP, 5_000)
    mark = resumed(latest, None, base=0, timestamps=False)
    assert (mark.kind, mark.at_ms) == (TRIM_HORIZON, 5_000)


def test_a_row_goes_on_where_a_daemon_that_was_alone_stood():
    after = BORN._replace(kind=AFTER, sequence="49", position=9)
    assert remembered(NEW, after).checkpoint == "49"
    within = BORN._replace(kind=AT, sequence="49", sub=3)
    assert (remembered(NEW, within).checkpoint, remembered(NEW, within).sub) == ("49", 2)
    assert remembered(NEW, BORN._replace(ended=True)).checkpoint == SHARD_END
    anchored = remembered(NEW, BORN._replace(kind=AT, sequence="49", at_ms=7))
    assert (anchored.checkpoint, anchored.since_ms) == (AT_TIMESTAMP, 7)
    assert remembered(NEW, BORN) == NEW
